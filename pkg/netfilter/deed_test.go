package netfilter_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDeed has a firewall remove the chains that one before it made and could
// not remove, unless it cannot be sure of that.
func TestDeed(t *testing.T) {
	for _, tt := range []struct {
		what   string
		happen func(deed string) error
		stay   bool
	}{
		{"nothing", func(string) error { return nil }, false},
		{"a boot, after which somebody else made them", func(deed string) error {
			text, err := os.ReadFile(deed)
			if err != nil {
				return err
			}
			_, chains, _ := strings.Cut(string(text), "\n")
			return os.WriteFile(deed, []byte("c0ffee00-1d1d-4b1d-8000-000000000000\n"+chains), 0o644)
		}, true},
		{"the deed is lost", os.Remove, true},
		{"the deed is junk", func(deed string) error { return os.WriteFile(deed, []byte("iptables nat MINIUPNPD"), 0o644) }, true},
	} {
		t.Run(tt.what, func(t *testing.T) {
			r := newRouter(t, "legacy")
			o := options(t)
			o.Deed = filepath.Join(t.TempDir(), "chains")
			must(t, r.firewall(t, o).Setup())
			must(t, tt.happen(o.Deed))
			next := r.firewall(t, o)
			must(t, next.Setup())
			must(t, next.Teardown())
			if stay := strings.Contains(r.rules(t), "MINIUPNPD"); stay != tt.stay {
				t.Errorf("the chains are there: %v, want %v", stay, tt.stay)
			}
			if _, err := os.Stat(o.Deed); !tt.stay && err == nil {
				t.Error("the deed outlives the chains")
			}
		})
	}
}
