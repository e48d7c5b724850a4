package xtables_test

import (
	"slices"
	"testing"

	"igdd/pkg/xtables"
)

// A rule is past the mark if packets may get there that may have matched the mark.
func TestWalkPastAMark(t *testing.T) {
	const tables = "*filter\n:FORWARD DROP [0:0]\n:A - [0:0]\n:MARK_HERE - [0:0]\n"
	for _, tt := range []struct {
		name, rules string
		want        []string // the rules past the mark, which is the rule to MARK_HERE
	}{
		{"behind", "-A FORWARD -i a -j ACCEPT\n-A FORWARD -j MARK_HERE\n-A FORWARD -j DROP\n", []string{"-j MARK_HERE", "-j DROP"}},
		{"goto", "-A FORWARD -j A\n-A FORWARD -j DROP\n-A A -g MARK_HERE\n-A A -j LOG\n", []string{"-g MARK_HERE", "-j DROP"}},
		{"returned before", "-A FORWARD -j A\n-A FORWARD -j LOG\n-A A -s 1.2.3.4 -j RETURN\n-A A -j MARK_HERE\n-A A -j DROP\n", []string{"-j MARK_HERE", "-j DROP"}},
		{"returned behind", "-A FORWARD -j A\n-A FORWARD -j LOG\n-A A -j MARK_HERE\n-A A -s 1.2.3.4 -j RETURN\n-A A -j DROP\n",
			[]string{"-j MARK_HERE", "-s 1.2.3.4 -j RETURN", "-j DROP", "-j LOG"}},
		{"other ports", "-A FORWARD -p tcp -j MARK_HERE\n-A FORWARD -p udp -j LOG\n-A FORWARD -p tcp -j DROP\n-A FORWARD -j ACCEPT\n", []string{"-p tcp -j MARK_HERE", "-p tcp -j DROP"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := xtables.ParseSnapshot(tables + tt.rules + "COMMIT\n")
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			w := xtables.Walk{Table: s["filter"], Name: "filter", Mark: func(s xtables.Step) bool { return s.Target == "MARK_HERE" }}
			w.Visit = func(s xtables.Step) xtables.Effect {
				if len(s.Past) > 0 {
					got = append(got, s.Text)
				}
				return xtables.EffectOf(s.Target)
			}
			w.From("FORWARD", xtables.EveryPort())
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// A visitor can say that nothing returns from a chain: then it is not entered.
func TestWalkDoesNotEnterAChainThatEnds(t *testing.T) {
	s, err := xtables.ParseSnapshot("*filter\n:FORWARD ACCEPT [0:0]\n:A - [0:0]\n-A FORWARD -p tcp -j A\n-A FORWARD -j DROP\n-A A -j LOG\nCOMMIT\n")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	w := xtables.Walk{Table: s["filter"], Name: "filter", Visit: func(s xtables.Step) xtables.Effect {
		got = append(got, s.Text)
		return xtables.Ends
	}}
	if rest := w.From("FORWARD", xtables.EveryPort()); len(rest) > 0 || !slices.Equal(got, []string{"-p tcp -j A", "-j DROP"}) {
		t.Errorf("visited %q, rest %v", got, rest)
	}
}
