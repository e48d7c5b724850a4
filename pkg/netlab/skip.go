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

// NeedRoot skips the test unless the machine's own root runs it: being root of a
// user namespace is not enough for what it does.
func NeedRoot(t testing.TB, what string) {
	t.Helper()
	if os.Getuid() != 0 || os.Getenv(insideEnv) != "" {
		skipped.add(t, what+" needs root")
	}
}

// NeedLab skips the test where there can be no lab. New calls it; a test whose
// subtests make labs may have to call it itself.
func NeedLab(t testing.TB) {
	t.Helper()
	switch {
	case testing.Short():
		skipped.add(t, "-short")
	case os.Getuid() != 0:
		skipped.add(t, "this machine allows no user namespaces")
	}
}

// skips are tests that cannot run on this machine.
type skips struct {
	mu    sync.Mutex
	tests map[string][]string // names by reason
}

// skipped collects them for Main, which has only the process in common with the
// tests.
var skipped = skips{tests: make(map[string][]string)}

// add ends a test and remembers why.
func (s *skips) add(t testing.TB, reason string) {
	t.Helper()
	s.mu.Lock()
	s.tests[reason] = append(s.tests[reason], t.Name())
	s.mu.Unlock()
	t.Skip(reason)
}

// report writes one line if there are any: for each reason their names, or their
// number if they are more than a few.
func (s *skips) report(w io.Writer) {
	const few = 8
	s.mu.Lock()
	defer s.mu.Unlock()
	var parts []string
	for reason, names := range s.tests {
		names = slices.Compact(slices.Sorted(slices.Values(names)))
		text := strings.Join(names, ", ")
		if len(names) > few {
			text = fmt.Sprint(len(names), " tests")
		}
		parts = append(parts, fmt.Sprintf("%s (%s)", text, reason))
	}
	if len(parts) > 0 {
		slices.Sort(parts)
		fmt.Fprintln(w, "netlab: skipped:", strings.Join(parts, "; "))
	}
}
