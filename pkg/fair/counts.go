package fair

import "sync"

// Counts counts what hosts have under way, within limits. It is ready for use once
// the limits are set.
type Counts[H comparable] struct {
	PerHost  int // for one host
	Shared   int // in total, before only hosts with little may add to it
	Reserved int // what a host may have while Shared is used up
	Total    int

	mu    sync.Mutex // guards what follows
	hosts map[H]int
	total int
}

// Acquire counts one more for a host, if the limits allow it.
func (c *Counts[H]) Acquire(host H) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	own := c.hosts[host]
	if own >= c.PerHost || c.total >= c.Shared && own >= c.Reserved || c.total >= c.Total {
		return false
	}
	if c.hosts == nil {
		c.hosts = make(map[H]int)
	}
	c.total++
	c.hosts[host]++
	return true
}

// Release counts one less for a host.
func (c *Counts[H]) Release(host H) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total--
	if c.hosts[host]--; c.hosts[host] == 0 {
		delete(c.hosts, host)
	}
}
