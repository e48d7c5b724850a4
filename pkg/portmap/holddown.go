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
	ports     map[Key]heldPort
	perHost   map[netip.Addr]int
	lastSweep time.Time
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
func (h *holdDown) add(m *Mapping, now time.Time) {
	host := m.Internal.Addr()
	h.forget(m.Key)
	if h.perHost[host] >= maxHeldPerHost {
		return
	}
	h.perHost[host]++
	period := holdDownUDP
	if m.Protocol == TCP {
		period = holdDownTCP
	}
	h.ports[m.Key] = heldPort{host, now.Add(period)}
}

// forget ends the rest of a port.
func (h *holdDown) forget(k Key) {
	old, known := h.ports[k]
	if !known {
		return
	}
	delete(h.ports, k)
	if h.perHost[old.host]--; h.perHost[old.host] == 0 {
		delete(h.perHost, old.host)
	}
}

// sweep forgets the ports that have rested.
func (h *holdDown) sweep(now time.Time) {
	if len(h.ports) == 0 || now.Sub(h.lastSweep) < sweepEvery {
		return
	}
	h.lastSweep = now
	for k, p := range h.ports {
		if !p.until.After(now) {
			h.forget(k)
		}
	}
}

// blocks reports whether the port rests and was not host's.
func (h *holdDown) blocks(k Key, host netip.Addr, now time.Time) bool {
	p, known := h.ports[k]
	return known && p.host != host && p.until.After(now)
}
