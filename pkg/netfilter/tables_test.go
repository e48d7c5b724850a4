package netfilter_test

import (
	"strings"
	"testing"

	"igdd/pkg/netlab"
	"igdd/pkg/portmap"
	"igdd/pkg/xtables"
)

// TestTables lists the rules of both variants, and tells which are the daemon's.
func TestTables(t *testing.T) {
	t.Parallel()
	for _, variant := range netlab.Variants {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			r := newRouter(t, variant)
			f := r.firewall(t, ipv4(t))
			must(t, f.Sync([]*portmap.Mapping{mapping(portmap.UDP, 3001, "192.168.50.10:7")}))
			r.other(t, variant).run(t, "iptables", "-A", "FORWARD", "-p", "udp", "-j", "DROP")
			var tables []xtables.Variant
			err := r.Do(func() (err error) {
				tables, err = f.Tables(t.Context(), portmap.IPv4)
				if _, err := f.Tables(t.Context(), portmap.IPv6); err == nil {
					t.Error("tables of IPv6 though it is disabled")
				}
				return err
			})
			if err != nil || len(tables) != 2 || tables[0].Program != "" || tables[1].Program != "iptables-"+otherVariant(variant) {
				t.Fatalf("%v: %v", err, tables)
			}
			if rules := tables[1].Tables["filter"].Rules("FORWARD"); len(rules) != 1 || rules[0] != "-p udp -j DROP" {
				t.Errorf("rules of the other variant: %q", rules)
			}
			if n := len(tables[0].Tables["nat"].Rules("MINIUPNPD")); n != 1 {
				t.Errorf("%d rules of the daemon", n)
			}
			for step, want := range map[string]bool{"/nat/MINIUPNPD": true, "/filter/MINIUPNPD": true, "/filter/FORWARD": false, "/mangle/MINIUPNPD": false, "x/nat/MINIUPNPD": false} {
				if got := f.Owns(stepOf(step)); got != want {
					t.Errorf("owns %s: %v", step, got)
				}
			}
		})
	}
}

// stepOf returns a step of "PROGRAM/TABLE/CHAIN".
func stepOf(text string) xtables.Step {
	parts := strings.Split(text, "/")
	return xtables.Step{Program: parts[0], Table: parts[1], Chain: parts[2]}
}
