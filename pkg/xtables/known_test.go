package xtables

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestListBeforeNotices lists a chain at a generation of which the notices are still to
// come: they may tell that a rule of another chain is gone.
func TestListBeforeNotices(t *testing.T) {
	t.Parallel()
	h := newHandles()
	chain := func(name string) nftChain { return nftChain{unix.NFPROTO_IPV4, "filter", name} }
	deletion := func(chain, rule string) []Section {
		return []Section{{"filter", []Edit{{Op: Delete, Chain: chain, Rule: rule}}}}
	}
	h.setAll(chain("A"), []uint64{1}, []string{"a"}, 5)
	h.setAll(chain("B"), []uint64{2}, []string{"b"}, 5)
	for _, tt := range []struct{ chain, rule string }{{"A", "a"}, {"B", "b"}} {
		if rules, unknown := h.find(unix.NFPROTO_IPV4, deletion(tt.chain, tt.rule)); len(rules) != 1 || unknown {
			t.Errorf("at the same generation chain %s has %v, unknown %v", tt.chain, rules, unknown)
		}
	}
	h.setAll(chain("B"), []uint64{2}, []string{"b"}, 6)
	if rules, unknown := h.find(unix.NFPROTO_IPV4, deletion("A", "a")); len(rules) != 0 || !unknown {
		t.Errorf("before the notices chain A has %v, unknown %v", rules, unknown)
	}
	if rules, _ := h.find(unix.NFPROTO_IPV4, deletion("B", "b")); len(rules) != 1 {
		t.Errorf("the chain that was listed has %v", rules)
	}
}
