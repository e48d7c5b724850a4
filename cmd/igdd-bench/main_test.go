package main

import "testing"

// TestChosen tests what a whole run and a run of one row or group measure, and that each
// row has a name and a topic of its own.
func TestChosen(t *testing.T) {
	names := make(map[string]bool)
	b := bench{daemons: []daemon{{name: "miniupnpd"}, {name: "igdd"}}, guest: guest{console: "/console"}}
	for _, g := range b.groups() {
		for _, r := range g.rows {
			if names[r.name] || r.name == "" || r.topic == "" {
				t.Errorf("group %s: row %q, topic %q", g.name, r.name, r.topic)
			}
			names[r.name] = true
		}
	}
	extra := len(contests) - len(inWholeRun)
	for only, want := range map[string]int{"": len(names) - extra, "fairness": len(contests), "flood-lists": 1, "map-kernel": 1, "hairpin": 1, "arm": 2} {
		b.only = only
		groups, err := b.chosen()
		n := 0
		for _, g := range groups {
			n += len(g.rows)
		}
		if n != want || err != nil {
			t.Errorf("--only %q: %d rows, %v, want %d", only, n, err, want)
		}
	}
	b.only = "none"
	if groups, err := b.chosen(); err == nil {
		t.Errorf("--only none: %v", groups)
	}
}
