package xtables_test

import (
	"testing"

	"igdd/pkg/netlab"
)

// mostPerhaps is the share of rows, one of so many, on which trace need not be
// sure although it knows all that the rules ask.
const mostPerhaps = 20

// Trace agrees with the kernel of a router on what becomes of packets under the
// rules of many firewalls.
func TestTraceAgreesWithTheKernel(t *testing.T) {
	for _, f := range []*family{&ipv4} {
		sets := readRuleSets(t, f.folder, f.common...)
		for _, variant := range netlab.Variants {
			t.Run(f.program+"/"+variant, func(t *testing.T) {
				t.Parallel()
				l := newRulesLab(t, f, variant)
				var all, known, perhaps int
				for _, set := range sets {
					t.Run(set.name, func(t *testing.T) {
						s, _, err := l.load(set.text, set.sets...)
						if err != nil {
							t.Fatal(err)
						}
						rows, err := l.rows(s, set.packets)
						if err != nil {
							t.Fatal(err)
						}
						unsure := l.report(t, set.text, set.sets, rows)
						all += len(rows)
						if set.class == "" {
							known, perhaps = known+len(rows), perhaps+unsure
							if unsure > 0 {
								t.Logf("perhaps: %d of %d", unsure, len(rows))
							}
						}
					})
				}
				t.Logf("%d rule sets, %d packets; perhaps on %d of %d", len(sets), all, perhaps, known)
				if len(sets) < f.leastSets || all < f.leastRows || perhaps*mostPerhaps > known {
					t.Error("too few rule sets or packets, or too often perhaps")
				}
			})
		}
	}
}
