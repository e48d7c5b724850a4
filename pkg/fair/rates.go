// Package fair shares what is scarce between hosts: rates, places and numbers of
// things under way.
package fair

import (
	"sync"
	"time"
)

// Rate is a token bucket: so many tokens come in a second, and at most as many as
// Burst are kept.
type Rate struct {
	PerSecond int
	Burst     int
}

// Rates is a token bucket for each host and one for all together. It is ready for
// use once the rates are set.
type Rates[H comparable] struct {
	PerHost Rate
	All     Rate
	// MaxHosts bounds the hosts that are tracked at a time; further ones get nothing.
	MaxHosts int

	mu    sync.Mutex // guards what follows
	hosts map[H]time.Time
	all   time.Time
}

// Spend takes n tokens of a host and of all, if both have them. Those of the host
// are looked at first, so that a host that exceeds its rate takes none from others.
func (r *Rates[H]) Spend(host H, n int, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	empty, tracked := r.hosts[host]
	if !tracked && !r.hasRoom(now) {
		return false
	}
	all := r.all
	if !r.PerHost.spend(&empty, n, now) || !r.All.spend(&all, n, now) {
		return false
	}
	r.hosts[host], r.all = empty, all
	return true
}

// spend takes n tokens from a bucket, if it has them. The bucket is the time at
// which it would be full again.
func (r Rate) spend(full *time.Time, n int, now time.Time) bool {
	begin := now
	if full.After(now) {
		begin = *full
	}
	end := begin.Add(time.Duration(n) * time.Second / time.Duration(r.PerSecond))
	if end.Sub(now) > time.Duration(r.Burst)*time.Second/time.Duration(r.PerSecond) {
		return false
	}
	*full = end
	return true
}

// hasRoom reports whether one more host can be tracked. It forgets those whose
// buckets are full.
func (r *Rates[H]) hasRoom(now time.Time) bool {
	if r.hosts == nil {
		r.hosts = make(map[H]time.Time)
	}
	if len(r.hosts) < r.MaxHosts {
		return true
	}
	for host, full := range r.hosts {
		if !full.After(now) {
			delete(r.hosts, host)
		}
	}
	return len(r.hosts) < r.MaxHosts
}
