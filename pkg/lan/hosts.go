package lan

import (
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// Host names a host on a LAN. It is the same for all addresses of the host.
type Host string

// Neighbours is the kernel's neighbour table, with the leases of the DHCP server.
// An index is that of an interface.
type Neighbours interface {
	// Lookup returns the hardware address of the host with an address; it is empty
	// where the link has none, and of a host behind another router. Known is false if
	// the kernel has not resolved it.
	Lookup(index int, a netip.Addr) (hardware net.HardwareAddr, known bool)
	// IsShared reports whether the hardware address belongs to several hosts, and
	// the address to one of them.
	IsShared(index int, a netip.Addr, hardware net.HardwareAddr) bool
	// Resolve makes the kernel resolve the address, and does not wait.
	Resolve(index int, a netip.Addr)
	// Watch calls resolved for each neighbour that the kernel resolves, and with the zero
	// Addr when it may have resolved any, until stop is called. stop does not wait for
	// resolved to return.
	Watch(resolved func(index int, a netip.Addr)) (stop func(), err error)
	// Forget removes the address from the table if it has not been resolved.
	Forget(index int, a netip.Addr)
}

// Hosts tells the hosts on all LANs apart. Who a host is says its hardware address,
// as the kernel's neighbour table knows it: a host can have as many addresses as it
// likes. Hosts behind a repeater, which have one hardware address, count each for
// itself if their IPv4 addresses are leased. On a link without hardware addresses, and
// behind another router, a host is its IPv4 address, or its IPv6 network of 64 bits,
// from which it can choose any address.
type Hosts struct {
	// IsHidden reports whether hosts get no answer: the one that has an address on the
	// interface with that index. AreAllHidden reports it of every host there. nil: none
	// is hidden. They are set before the first use.
	IsHidden     func(index int, a netip.Addr) bool
	AreAllHidden func(index int) bool
	// Routed returns the networks behind other routers on the interface with that index,
	// whose hosts are heard there too. nil: there are none. It is set before the first use.
	Routed func(index int) []netip.Prefix

	neighbours Neighbours
	log        *slog.Logger

	maxWaiting int // neighbours on all LANs

	mu      sync.Mutex // guards what follows
	cache   map[neighbour]entry
	queues  []*queue    // the oldest first
	unwatch func()      // ends watch; nil: nothing waits
	timer   *time.Timer // until the oldest is given up
}

// neighbour is an address on the interface with that index.
type neighbour struct {
	index int
	addr  netip.Addr // without zone
}

// entry is what was found out about a neighbour.
type entry struct {
	host  Host
	until time.Time
}

// How long and for how many addresses it is believed which host they belong to. Asking
// the kernel takes some microseconds. For a host that has left the replies to that many
// requests fill a part of the send buffer.
const (
	cacheTime = 100 * time.Millisecond
	maxCached = 1024
)

// NewHosts returns Hosts. If neighbours is nil each address is a host.
func NewHosts(neighbours Neighbours, log *slog.Logger) *Hosts {
	return &Hosts{neighbours: neighbours, log: log, maxWaiting: maxWaitingInAll(), cache: make(map[neighbour]entry)}
}

// Lookup returns the host that has an address on the interface with that index, if
// it is known.
func (h *Hosts) Lookup(index int, a netip.Addr) (host Host, known bool) {
	return h.lookup(neighbour{index, a.WithZone("")})
}

// Of is Lookup, but all hosts of a LAN that are not known are one.
func (h *Hosts) Of(index int, a netip.Addr) Host {
	host, known := h.Lookup(index, a)
	if !known {
		return Host("unknown on " + strconv.Itoa(index))
	}
	return host
}

// hides reports whether the host that has an address gets no answer.
func (h *Hosts) hides(index int, a netip.Addr) bool {
	return h.IsHidden != nil && h.IsHidden(index, a.Unmap().WithZone(""))
}

// Hides reports whether no host on an interface gets an answer, so that it hears no
// announcements either.
func (h *Hosts) Hides(on Interface) bool { return h.AreAllHidden != nil && h.AreAllHidden(on.Index()) }

// routed returns the networks behind other routers on an interface.
func (h *Hosts) routed(on Interface) []netip.Prefix {
	if h.Routed == nil {
		return nil
	}
	return h.Routed(on.Index())
}

// known returns the host of a neighbour whose request can be served at once: not
// while earlier ones wait.
func (h *Hosts) known(n neighbour) (host Host, known bool) {
	if h.isAwaited(n) {
		return "", false
	}
	return h.lookup(n)
}

// lookup returns the host of a neighbour, if it is known.
func (h *Hosts) lookup(n neighbour) (host Host, known bool) {
	if h.neighbours == nil {
		return Host(n.addr.String()), true
	}
	now := time.Now()
	h.mu.Lock()
	e, cached := h.cache[n]
	h.mu.Unlock()
	if cached && now.Before(e.until) {
		return e.host, true
	}
	hardware, known := h.neighbours.Lookup(n.index, n.addr)
	if !known {
		return "", false
	}
	host = nameOf(n.addr, hardware, len(hardware) > 0 && h.neighbours.IsShared(n.index, n.addr, hardware))
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.cache) >= maxCached {
		clear(h.cache)
	}
	h.cache[n] = entry{host, now.Add(cacheTime)}
	return host, true
}

// nameOf names the host that has an address.
func nameOf(a netip.Addr, hardware net.HardwareAddr, shared bool) Host {
	const prefixBits = 64
	switch {
	case shared:
		return Host(hardware.String() + " " + a.String())
	case len(hardware) > 0:
		return Host(hardware.String())
	case a.Is6():
		return Host(netip.PrefixFrom(a, prefixBits).Masked().String())
	}
	return Host(a.String())
}
