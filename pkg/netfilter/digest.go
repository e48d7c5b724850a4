package netfilter

import "hash/fnv"

// digest tells whether a chain has the rules that it should have, whatever
// their order, without a copy of them.
type digest struct {
	rules int
	sum   uint64 // of the rules' hashes
}

// digestOf counts the rules of a listing.
func digestOf(rules []string) (t digest) {
	for _, rule := range rules {
		t.add(rule, 1)
	}
	return t
}

// add counts a rule n times; less than 0 takes it away.
func (t *digest) add(rule string, n int) {
	h := fnv.New64a()
	h.Write([]byte(rule))
	t.rules += n
	t.sum += uint64(n) * h.Sum64()
}
