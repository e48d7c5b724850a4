package portmap

import (
	"net/netip"
	"time"
)

// How long a port that PCP gave up stays closed to other hosts, so that what
// still arrives for the old one does not reach a new one: as long as idle
// flows may live in the kernel, and 10 minutes at most (RFC 6887, section 15).
const (
	holdDownUDP = 2 * time.Minute
	holdDownTCP = 10 * time.Minute
)

// maxHeldPerHost bounds the resting ports of one host, so that nobody can take
// all ports from the others by opening and closing them.
const maxHeldPerHost = 128

// sweepEvery is how often ports that have rested are forgotten.
const sweepEvery = time.Second

// holdDown are the ports that nobody but their last holder may have.
type holdDown struct {
	ports   map[Key]heldPort
	perHost map[netip.Addr]int
	swept   time.Time
}

// heldPort is a port that was given up: who had it, and until when it rests.
type heldPort struct {
	host  netip.Addr
	until time.Time
}

func newHoldDown() holdDown {
	return holdDown{ports: make(map[Key]heldPort), perHost: make(map[netip.Addr]int)}
}

// add lets m's port rest.
func (r *holdDown) add(m *Mapping, now time.Time) {
	host := m.Internal.Addr()
	r.forget(m.Key)
	if r.perHost[host] >= maxHeldPerHost {
		return
	}
	r.perHost[host]++
	rest := holdDownUDP
	if m.Protocol == TCP {
		rest = holdDownTCP
	}
	r.ports[m.Key] = heldPort{host, now.Add(rest)}
}

// forget ends the rest of a port.
func (r *holdDown) forget(k Key) {
	old, known := r.ports[k]
	if !known {
		return
	}
	delete(r.ports, k)
	if r.perHost[old.host]--; r.perHost[old.host] == 0 {
		delete(r.perHost, old.host)
	}
}

// sweep forgets the ports that have rested.
func (r *holdDown) sweep(now time.Time) {
	if len(r.ports) == 0 || now.Sub(r.swept) < sweepEvery {
		return
	}
	r.swept = now
	for k, p := range r.ports {
		if !p.until.After(now) {
			r.forget(k)
		}
	}
}

// blocks reports whether the port rests and was not host's.
func (r *holdDown) blocks(k Key, host netip.Addr, now time.Time) bool {
	p, known := r.ports[k]
	return known && p.host != host && p.until.After(now)
}
