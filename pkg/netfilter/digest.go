package netfilter

import "hash/fnv"

// digest identifies a chain's rules, whatever their order, without a copy of
// them.
type digest struct {
	rules int
	sum   uint64 // of the rules' hashes
}

// digestOf returns the digest of rules.
func digestOf(rules []string) (d digest) {
	for _, rule := range rules {
		d.add(rule, 1)
	}
	return d
}

// add adds n copies of a rule; a negative n removes them.
func (d *digest) add(rule string, n int) {
	h := fnv.New64a()
	h.Write([]byte(rule))
	d.rules += n
	d.sum += uint64(n) * h.Sum64()
}
