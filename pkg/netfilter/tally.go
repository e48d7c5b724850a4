package netfilter

import "hash/fnv"

// tally tells whether a chain has the rules that it should have, whatever
// their order, without a copy of them.
type tally struct {
	rules int
	sum   uint64 // of the rules' hashes
}

// tallyOf counts the rules of a listing.
func tallyOf(rules []string) (t tally) {
	for _, rule := range rules {
		t.add(rule, 1)
	}
	return t
}

// add counts a rule n times; less than 0 takes it away.
func (t *tally) add(rule string, n int) {
	h := fnv.New64a()
	h.Write([]byte(rule))
	t.rules += n
	t.sum += uint64(n) * h.Sum64()
}
