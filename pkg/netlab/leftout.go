package netlab

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

// NeedRoot leaves the test out unless the machine's own root runs it: for what
// it does, being root of a user namespace is not enough.
func NeedRoot(t testing.TB, what string) {
	t.Helper()
	if os.Getuid() != 0 || os.Getenv(insideEnv) != "" {
		leftOut.add(t, what+" needs root")
	}
}

// NeedLab leaves the test out where there can be no lab. New calls it; a test
// whose subtests make labs may have to do so itself.
func NeedLab(t testing.TB) {
	t.Helper()
	switch {
	case testing.Short():
		leftOut.add(t, "-short")
	case os.Getuid() != 0:
		leftOut.add(t, "this machine allows no user namespaces")
	}
}

// omissions are tests that cannot run here.
type omissions struct {
	mu    sync.Mutex
	tests map[string][]string // names by reason
}

// leftOut collects them for Main, which has only the process in common with the
// tests.
var leftOut = omissions{tests: make(map[string][]string)}

// add ends a test and remembers why.
func (o *omissions) add(t testing.TB, reason string) {
	t.Helper()
	o.mu.Lock()
	o.tests[reason] = append(o.tests[reason], t.Name())
	o.mu.Unlock()
	t.Skip(reason)
}

// report writes one line if there are any: the names for each reason, or how
// many if they are more than a few.
func (o *omissions) report(w io.Writer) {
	const few = 8
	o.mu.Lock()
	defer o.mu.Unlock()
	var parts []string
	for reason, names := range o.tests {
		names = slices.Compact(slices.Sorted(slices.Values(names)))
		text := strings.Join(names, ", ")
		if len(names) > few {
			text = fmt.Sprint(len(names), " tests")
		}
		parts = append(parts, fmt.Sprintf("%s (%s)", text, reason))
	}
	if len(parts) > 0 {
		slices.Sort(parts)
		fmt.Fprintln(w, "netlab: left out:", strings.Join(parts, "; "))
	}
}
