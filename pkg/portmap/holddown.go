package portmap

import (
	"container/list"
	"net/netip"
	"slices"
	"time"
)

// The hold-down of a port after a PCP mapping: other hosts cannot get it, so
// that late packets for the old host do not reach a new one. It is as long as
// the kernel keeps idle flows, and at most 10 minutes (RFC 6887, section 15).
const (
	holdDownUDP = 2 * time.Minute
	holdDownTCP = 10 * time.Minute
)

// maxHeldPerHost bounds the held ports of one host, so that no host can exhaust
// the ports by opening and closing them.
const maxHeldPerHost = 128

// holdDown holds the ports that only their last host may have.
type holdDown struct {
	ports   map[Key]heldPort
	perHost map[hostKey]int
	numbers numbers
	held    map[Protocol]*PortSet   // those in ports
	queues  map[Protocol]*list.List // their keys in the order in which they end, which is that in which they came
}

// heldPort is what a port led to, whose address it may lead to again, and when the
// hold-down ends.
type heldPort struct {
	to     netip.AddrPort
	host   hostKey
	sharer hostKey
	until  time.Time
	queued *list.Element
}

// newHoldDown returns one that holds no ports, and counts those that it will for their
// sharers.
func newHoldDown(n numbers) holdDown {
	return holdDown{
		ports:   make(map[Key]heldPort),
		perHost: make(map[hostKey]int),
		numbers: n,
		held:    map[Protocol]*PortSet{TCP: {}, UDP: {}},
		queues:  map[Protocol]*list.List{TCP: list.New(), UDP: list.New()},
	}
}

// needsHoldDown reports whether the port is held down when m ends.
func (m *Mapping) needsHoldDown() bool {
	return m.External != 0 && slices.ContainsFunc(m.Claims, func(c Claim) bool { return c.Origin == PCP })
}

// add starts the hold-down of m's port, unless its host has too many already.
func (h *holdDown) add(m *Mapping, host, sharer hostKey, now time.Time) {
	h.forget(m.Key)
	if h.perHost[host] >= maxHeldPerHost {
		return
	}
	h.perHost[host]++
	period := holdDownUDP
	if m.Protocol == TCP {
		period = holdDownTCP
	}
	h.ports[m.Key] = heldPort{m.Internal, host, sharer, now.Add(period), h.queues[m.Protocol].PushBack(m.Key)}
	h.held[m.Protocol].Add(m.External)
	h.numbers.add(sharer, m.External)
}

// forget ends the hold-down of a port.
func (h *holdDown) forget(k Key) {
	old, known := h.ports[k]
	if !known {
		return
	}
	delete(h.ports, k)
	h.held[k.Protocol].Remove(k.External)
	h.numbers.remove(old.sharer, k.External)
	h.queues[k.Protocol].Remove(old.queued)
	if h.perHost[old.host]--; h.perHost[old.host] == 0 {
		delete(h.perHost, old.host)
	}
}

// sweep removes the ports whose hold-down has ended.
func (h *holdDown) sweep(now time.Time) {
	if len(h.ports) == 0 {
		return
	}
	for _, q := range h.queues {
		for e := q.Front(); e != nil && !h.ports[e.Value.(Key)].until.After(now); e = q.Front() {
			h.forget(e.Value.(Key))
		}
	}
}

// blocks reports whether the port is held for another host than this one.
func (h *holdDown) blocks(k Key, host netip.Addr, now time.Time) bool {
	p, known := h.ports[k]
	return known && p.to.Addr() != host && p.until.After(now)
}
