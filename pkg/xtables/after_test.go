package xtables

import (
	"fmt"
	"maps"
	"reflect"
	"runtime"
	"slices"
	"testing"
)

func TestAfter(t *testing.T) {
	before := func() Table {
		return Table{"FORWARD": {Policy: "DROP", Rules: []string{"-j A", "-j B"}}, "OURS": {Policy: "-", Rules: []string{"-j C", "-j C"}}}
	}
	for name, c := range map[string]struct {
		edits []Edit
		want  map[string][]string // the rules by chain, where they differ; nil: there is no chain
	}{
		"nothing":                      {nil, nil},
		"append":                       {[]Edit{{Op: Append, Chain: "OURS", Rule: "-j D"}}, map[string][]string{"OURS": {"-j C", "-j C", "-j D"}}},
		"insert":                       {[]Edit{{Op: Insert, Chain: "FORWARD", Rule: "-j D", Index: 1}}, map[string][]string{"FORWARD": {"-j A", "-j D", "-j B"}}},
		"insert behind the end":        {[]Edit{{Op: Insert, Chain: "FORWARD", Rule: "-j D", Index: 9}}, map[string][]string{"FORWARD": {"-j A", "-j B", "-j D"}}},
		"delete the first copy":        {[]Edit{{Op: Delete, Chain: "OURS", Rule: "-j C"}}, map[string][]string{"OURS": {"-j C"}}},
		"delete what is not there":     {[]Edit{{Op: Delete, Chain: "OURS", Rule: "-j X"}}, nil},
		"flush, then append":           {[]Edit{{Op: Flush, Chain: "OURS"}, {Op: Append, Chain: "OURS", Rule: "-j D"}}, map[string][]string{"OURS": {"-j D"}}},
		"create":                       {[]Edit{{Op: Create, Chain: "NEW"}, {Op: Append, Chain: "NEW", Rule: "-j D"}}, map[string][]string{"NEW": {"-j D"}}},
		"append to a chain not listed": {[]Edit{{Op: Append, Chain: "NEW", Rule: "-j D"}}, map[string][]string{"NEW": {"-j D"}}},
		"remove":                       {[]Edit{{Op: Flush, Chain: "OURS"}, {Op: Remove, Chain: "OURS"}}, map[string][]string{"OURS": nil}},
		"remove, then create":          {[]Edit{{Op: Append, Chain: "OURS", Rule: "-j D"}, {Op: Remove, Chain: "OURS"}, {Op: Create, Chain: "OURS"}}, map[string][]string{"OURS": {}}},
		"both chains, one after the other": {[]Edit{{Op: Delete, Chain: "OURS", Rule: "-j C"}, {Op: Insert, Chain: "FORWARD", Rule: "-j D"}, {Op: Append, Chain: "OURS", Rule: "-j E"}},
			map[string][]string{"OURS": {"-j C", "-j E"}, "FORWARD": {"-j D", "-j A", "-j B"}}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, parsed := range []bool{false, true} {
				checkAfter(t, before(), parsed, c.edits, c.want)
			}
		})
	}
}

// checkAfter demands these rules after edits, and the table as it was before them.
func checkAfter(t *testing.T, table Table, parsed bool, edits []Edit, want map[string][]string) {
	t.Helper()
	rules := make(map[string][]string)
	for name, c := range table {
		if rules[name] = slices.Clone(c.Rules); parsed {
			table.parsedRules(name)
		}
	}
	after := table.After(edits...)
	for name, was := range rules {
		if got := table.Rules(name); !slices.Equal(got, was) {
			t.Errorf("the table itself: %s becomes %q", name, got)
		}
	}
	maps.Copy(rules, want)
	for name, list := range rules {
		if got := after.Rules(name); !slices.Equal(got, list) || after.Has(name) != (list != nil) {
			t.Errorf("%s: %q, want %q", name, got, list)
		}
		if got, texts := after.parsedRules(name), parseRules(list); len(got) != len(texts) || len(texts) > 0 && !reflect.DeepEqual(got, texts) {
			t.Errorf("%s in parts: %v, want %v", name, got, texts)
		}
	}
	if after.policy("FORWARD") != "DROP" {
		t.Error("the policy is lost")
	}
}

// TestAfterIsLinear demands that four times as many edits take four times as much
// memory, not sixteen times: a start adds all rules of the stored mappings at once.
func TestAfterIsLinear(t *testing.T) {
	for _, op := range []string{Append, Insert} {
		allocated := func(n int) uint64 {
			var edits []Edit
			for i := range n {
				edits = append(edits, Edit{Op: op, Chain: "OURS", Rule: fmt.Sprintf("-p tcp -m tcp --dport %d -j DNAT --to-destination 10.0.0.1:80", i), Index: i})
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			Table{"OURS": {Policy: "-"}}.After(edits...)
			runtime.ReadMemStats(&after)
			return after.TotalAlloc - before.TotalAlloc
		}
		if few, many := allocated(1000), allocated(4000); many > 8*few {
			t.Errorf("%s: 1,000 edits take %d bytes, 4,000 take %d", op, few, many)
		}
	}
}
