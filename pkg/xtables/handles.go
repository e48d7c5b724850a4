package xtables

import (
	"cmp"
	"hash/maphash"
	"iter"
	"slices"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlink"
)

// handles are the handles of the daemon's rules in nft, as far as they are known.
// iptables deletes a rule by listing its chain and comparing each rule; by its handle
// the kernel deletes it without that. They are learned from the notices about the
// daemon's own transactions, or from a list of the chain, whichever form iptables gives
// the rules; and forgotten when a notice tells that the rule is gone.
type handles struct {
	seed       maphash.Seed
	generation uint32                   // of the last change that is taken into account; 0: none is
	known      map[nftChain][]knownRule // by handle, which is the order of their creation
	added      map[nftChain][]uint64    // during own work, in this order
	losses     int                      // how often notices were lost
}

// knownRule is a rule by the hash of its text, which takes a tenth of the memory.
type knownRule struct{ handle, text uint64 }

func newHandles() *handles {
	h := &handles{seed: maphash.MakeSeed()}
	h.forget()
	return h
}

// forget forgets all rules.
func (h *handles) forget() {
	h.known, h.added = make(map[nftChain][]knownRule), make(map[nftChain][]uint64)
	h.losses++
}

// follow takes a notice into account. During own work it notes which rules are new.
func (h *handles) follow(m netlink.Message, working bool) {
	switch m.Type {
	case newGeneration:
		if n, ok := parseGeneration(m); ok {
			if h.generation != 0 && n != h.generation+1 {
				h.forget()
			}
			h.generation = n
		}
	case newRule:
		if r, ok := parseRule(m.Data); ok && working {
			h.added[r.chain] = append(h.added[r.chain], r.handle)
		}
	case deleteRule:
		if r, ok := parseRule(m.Data); ok {
			h.remove(r)
		}
	}
}

// remove forgets a rule that is gone. Among the new rules its place remains.
func (h *handles) remove(r nftRule) {
	if i, found := h.search(r); found {
		h.known[r.chain] = slices.Delete(h.known[r.chain], i, i+1)
	}
	if i := slices.Index(h.added[r.chain], r.handle); i >= 0 {
		h.added[r.chain][i] = 0
	}
}

// learn takes over the new rules of a transaction that has been carried out. A chain to
// which not exactly its rules were added is left out: another program has added some.
func (h *handles) learn(family byte, sections []Section) {
	texts := make(map[nftChain][]string)
	for c, e := range edits(family, sections) {
		if e.Op == Append || e.Op == Insert {
			texts[c] = append(texts[c], e.Rule)
		}
	}
	for c, list := range texts {
		if len(h.added[c]) == len(list) {
			h.addAll(c, h.added[c], list)
		}
		delete(h.added, c)
	}
}

// addAll adds rules of a chain with their texts.
func (h *handles) addAll(c nftChain, list []uint64, texts []string) {
	for n, handle := range list {
		if i, found := h.search(nftRule{c, handle}); !found && handle != 0 {
			h.known[c] = slices.Insert(h.known[c], i, knownRule{handle, h.hash(texts[n])})
		}
	}
}

// search returns the index of a rule among those that are known, or where it belongs.
func (h *handles) search(r nftRule) (int, bool) {
	return slices.BinarySearchFunc(h.known[r.chain], r.handle, func(k knownRule, handle uint64) int { return cmp.Compare(k.handle, handle) })
}

func (h *handles) hash(text string) uint64 { return maphash.String(h.seed, text) }

// find returns the rules that sections of nothing but deletions delete. There are none if
// another edit is among them; if some are unknown; or if more rules have one of the texts:
// of several equal ones iptables deletes the first.
func (h *handles) find(family byte, sections []Section) (rules []nftRule, unknown bool) {
	ambiguous := false
	for c, missing := range h.countDeletions(family, sections) {
		for _, k := range h.known[c] {
			if _, deleted := missing[k.text]; deleted {
				missing[k.text]--
				rules = append(rules, nftRule{c, k.handle})
			}
		}
		for _, n := range missing {
			unknown, ambiguous = unknown || n > 0, ambiguous || n < 0
		}
	}
	if unknown || ambiguous {
		return nil, unknown
	}
	return rules, false
}

// countDeletions returns how often sections delete each text, by its hash, in each chain;
// nil if another edit is among them.
func (h *handles) countDeletions(family byte, sections []Section) map[nftChain]map[uint64]int {
	counts := make(map[nftChain]map[uint64]int)
	for c, e := range edits(family, sections) {
		if e.Op != Delete {
			return nil
		}
		if counts[c] == nil {
			counts[c] = make(map[uint64]int)
		}
		counts[c][h.hash(e.Rule)]++
	}
	return counts
}

// setAll sets which rules a chain has, in their order, at a generation of the tables. What
// is known of other chains is forgotten if notices up to then have not been read.
func (h *handles) setAll(c nftChain, list []uint64, texts []string, generation uint32) {
	if h.generation != generation {
		h.forget()
		h.generation = generation
	}
	if delete(h.known, c); len(list) == len(texts) {
		h.addAll(c, list, texts)
	}
}

// edits yields the edits of sections with their chains.
func edits(family byte, sections []Section) iter.Seq2[nftChain, Edit] {
	return func(yield func(nftChain, Edit) bool) {
		for _, s := range sections {
			for _, e := range s.Edits {
				if !yield(nftChain{family, s.Table, e.Chain}, e) {
					return
				}
			}
		}
	}
}

// protocolFamily returns the family as nft calls it.
func (p *Programs) protocolFamily() byte {
	if p.isIPv6() {
		return unix.NFPROTO_IPV6
	}
	return unix.NFPROTO_IPV4
}
