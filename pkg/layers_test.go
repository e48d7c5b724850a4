// Package pkg_test checks which package may import which.
package pkg_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// layers is the layer of each package. A package imports only packages of lower
// layers.
var layers = map[string]int{
	"pkg/pcp":     0,
	"pkg/natpmp":  0,
	"pkg/netlink": 0,
	"pkg/ssdp":    0,
	"pkg/upnp":    0,
	"pkg/fair":    0,
	"pkg/event":   0,
	"pkg/journal": 1,
	"pkg/clock":   0,
	"pkg/metrics": 0,
	"pkg/command": 0,
	"pkg/stun":    0,
	"pkg/sandbox": 0,
	"pkg/syslog":  1,
	"pkg/netif":   1,
	"pkg/xtables": 1,
	"pkg/hosts":   1,
	"pkg/portmap": 1,
	"pkg/lan":     1,

	"pkg/pcpd":      2,
	"pkg/upnpd":     2,
	"pkg/ssdpd":     2,
	"pkg/control":   2,
	"pkg/notify":    2,
	"pkg/config":    2,
	"pkg/netfilter": 2,
	"pkg/leasefile": 2,
	"pkg/identity":  2,
	"pkg/upstream":  2,

	"pkg/daemon":    3,
	"cmd/miniupnpd": 4,

	"pkg/safepath": 0,
}

// support are packages for tests and tools, which the program must not import.
var support = []string{"pkg/netlab", "pkg/netlab/packetlab", "pkg/netlab/stunlab", "pkg/netlab/upstreamlab", "pkg/vectors", "pkg/vectors/discovery", "pkg/vectors/gena", "pkg/vectors/soap", "pkg/portmap/portmaptest", "pkg/journal/journaltest", "cmd/igdd-bench"}

// codecs turn bytes into values and back, and do nothing else.
var codecs = []string{"pkg/pcp", "pkg/natpmp", "pkg/ssdp", "pkg/upnp"}

// effects are packages that a codec must not import.
var effects = []string{"os", "os/exec", "net", "net/http", "log", "log/slog", "sync", "sync/atomic", "syscall", "context", "golang.org/x/sys/unix"}

// decider is the package that decides requests. It has no effects but its locks.
const decider = "pkg/portmap"

func TestLayers(t *testing.T) {
	seen := make(map[string]bool)
	for file, imports := range sources(t) {
		from := filepath.Dir(file)
		if slices.Contains(support, from) {
			continue
		}
		layer, known := layers[from]
		if !known {
			t.Errorf("%s: package %s has no layer", file, from)
			continue
		}
		seen[from] = true
		for _, path := range imports {
			if slices.Contains(codecs, from) && slices.Contains(effects, path) {
				t.Errorf("%s: a codec imports %s", file, path)
			}
			if from == decider && strings.Contains(path, ".") {
				t.Errorf("%s: the decider imports %s", file, path)
			}
			to, ours := strings.CutPrefix(path, "igdd/")
			if below, known := layers[to]; ours && (!known || below >= layer) {
				t.Errorf("%s: imports %s, which is not in a lower layer", file, to)
			}
		}
	}
	for name := range layers {
		if !seen[name] {
			t.Errorf("%s has a layer but does not exist", name)
		}
	}
}

// sources returns the imports of every file that is not a test.
func sources(t *testing.T) map[string][]string {
	t.Helper()
	imports := make(map[string][]string)
	for _, root := range []string{"../cmd", "."} {
		err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
			if err != nil {
				return err
			}
			name := strings.TrimPrefix(filepath.Join("pkg", path), "../")
			for _, spec := range f.Imports {
				target, err := strconv.Unquote(spec.Path.Value)
				if err != nil {
					return err
				}
				imports[name] = append(imports[name], target)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return imports
}
