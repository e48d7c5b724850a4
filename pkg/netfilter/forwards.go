package netfilter

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"igdd/pkg/portmap"
)

// Uplink is the way in for the connections that are forwarded.
type Uplink struct {
	Device string // the interface whose address is announced to clients; "": not known
	// Addrs are the IPv4 addresses of the uplinks: first the destination of
	// packets to the announced address.
	Addrs []netip.Addr
}

// Forwards are the static port forwards: those in the administrator's firewall.
type Forwards struct {
	// Certain apply to every new connection from the Internet.
	Certain []portmap.Forward
	// Perhaps have conditions that may not hold, such as a source address, a
	// mark or a set.
	Perhaps []Conditional
}

// Conditional is a rule that forwards some connections.
type Conditional struct {
	Protocol portmap.Protocol
	External portmap.PortRange
	Rule     string // "PREROUTING -s 192.0.2.7/32 -p udp -j DNAT …"
}

// StaticForwards returns the ports of an uplink that the administrator's rules
// in table nat forward, before the daemon's chain, or after it if they name
// ports. The error is ErrStopped while the firewall is stopped.
func (f *Firewall) StaticForwards(u Uplink) (Forwards, error) {
	f.begin()
	defer f.end()
	tables, err := f.ipv4.snapshot(f.ctx)
	if err != nil {
		return Forwards{}, fmt.Errorf("netfilter: %w", err)
	}
	l := tables[f.nat.table]
	if f.nat.isStopped(l) {
		return Forwards{}, fmt.Errorf("netfilter: %w", ErrStopped)
	}
	return f.nat.forwards(l, u), nil
}

// forwards returns the static forwards in a listing of c's table.
func (c *chain) forwards(l listing, u Uplink) Forwards {
	l = c.withJumps(l)
	addrs := u.Addrs
	if len(addrs) == 0 {
		addrs = make([]netip.Addr, 1)
	}
	devices := c.devices(l)
	announced := devices
	if u.Device != "" {
		announced = []string{u.Device}
	}
	var found Forwards
	var reserved portSet
	for _, device := range announced {
		trace := c.traceNAT(l, packet{in: device, to: addrs[0]})
		certain, perhaps := trace.forwards()
		found.Certain, found.Perhaps = append(found.Certain, certain...), append(found.Perhaps, perhaps...)
		ports, _ := trace.certainPorts()
		reserved = reserved.or(ports)
	}
	for _, device := range devices {
		for i, to := range addrs {
			if i == 0 && slices.Contains(announced, device) {
				continue
			}
			shadowed := c.traceNAT(l, packet{in: device, to: to}).shadowedPorts().minus(reserved)
			found.Certain = appendForwards(found.Certain, shadowed, netip.AddrPort{})
			reserved = reserved.or(shadowed)
		}
	}
	found.Certain, found.Perhaps = distinct(found.Certain), distinct(found.Perhaps)
	return found
}

// withJumps returns a copy of the listing with the missing jumps to the chain,
// and with the chain itself empty: its own rules are not static forwards.
func (c *chain) withJumps(l listing) listing {
	edits := c.jumpEdits(l)
	l = maps.Clone(l)
	if l == nil {
		l = make(listing)
	}
	for _, e := range edits {
		switch e.op {
		case opInsert:
			l[e.chain] = slices.Insert(slices.Clone(l[e.chain]), 0, e.rule)
		case opAppend:
			l[e.chain] = append(slices.Clip(l[e.chain]), e.rule)
		}
	}
	l[c.name] = []string{}
	return l
}

// devices returns the interfaces by which packets come in: each pattern, for the
// interfaces that no rule names, and those that rules name and it covers.
func (c *chain) devices(l listing) []string {
	var list []string
	for _, pattern := range c.wan {
		list = append(list, pattern)
		for _, rules := range l {
			for _, text := range rules {
				if device, _ := option(splitRule(text), c.side); device != "" && covers(pattern, device) {
					list = append(list, device)
				}
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// distinct returns the list without duplicates, in its order.
func distinct[T comparable](list []T) []T {
	seen := make(map[T]bool, len(list))
	return slices.DeleteFunc(list, func(v T) bool { known := seen[v]; seen[v] = true; return known })
}
