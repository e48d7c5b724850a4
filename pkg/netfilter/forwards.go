package netfilter

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"igdd/pkg/portmap"
)

// Uplink is where the connections come in that forwards are about.
type Uplink struct {
	Device string // the interface whose address clients are told; "": not known
	// Addrs are IPv4 addresses of uplinks: first the one that packets to what
	// clients are told come in with.
	Addrs []netip.Addr
}

// Forwards are the port forwards that the administrator's firewall makes.
type Forwards struct {
	// Certain are made for every new connection from the Internet.
	Certain []portmap.Forward
	// Perhaps are made under conditions that nothing is known of here, such as
	// a source address, a mark or a set.
	Perhaps []Conditional
}

// Conditional is a rule that forwards some connections.
type Conditional struct {
	Protocol portmap.Protocol
	External portmap.PortRange
	Rule     string // "PREROUTING -s 192.0.2.7/32 -p udp -j DNAT …"
}

// StaticForwards returns which ports of an uplink the administrator's rules in
// table nat forward before ours do, or behind ours if they name ports. The
// error is ErrStopped when the firewall has to be started first.
func (f *Firewall) StaticForwards(u Uplink) (Forwards, error) {
	f.begin()
	defer f.end()
	tables, err := f.ipv4.snapshot(f.open)
	if err != nil {
		return Forwards{}, fmt.Errorf("netfilter: %w", err)
	}
	l := tables[f.nat.table]
	if f.nat.stopped(l) {
		return Forwards{}, fmt.Errorf("netfilter: %w", ErrStopped)
	}
	return f.nat.forwards(l, u), nil
}

// forwards looks for forwards in a listing of c's table.
func (c *chain) forwards(l listing, u Uplink) Forwards {
	l = c.hooked(l)
	addrs := u.Addrs
	if len(addrs) == 0 {
		addrs = make([]netip.Addr, 1)
	}
	devices := c.devices(l)
	told := devices
	if u.Device != "" {
		told = []string{u.Device}
	}
	var found Forwards
	var reserved portSet
	for _, device := range told {
		s := c.survey(l, packet{in: device, to: addrs[0]})
		certain, perhaps := s.forwards()
		found.Certain, found.Perhaps = append(found.Certain, certain...), append(found.Perhaps, perhaps...)
		sure, _ := s.sure()
		reserved = reserved.or(sure)
	}
	for _, device := range devices {
		for i, to := range addrs {
			if i == 0 && slices.Contains(told, device) {
				continue
			}
			shadowed := c.survey(l, packet{in: device, to: to}).shadowed().minus(reserved)
			found.Certain = appendForwards(found.Certain, shadowed, netip.AddrPort{})
			reserved = reserved.or(shadowed)
		}
	}
	found.Certain, found.Perhaps = distinct(found.Certain), distinct(found.Perhaps)
	return found
}

// hooked returns a copy of the listing in which the jumps stand that are
// missing in it, and the chain itself is empty: what mappings do is known.
func (c *chain) hooked(l listing) listing {
	missing := c.jumpEdits(l)
	l = maps.Clone(l)
	if l == nil {
		l = make(listing)
	}
	for _, e := range missing {
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

// devices returns the interfaces that packets come in by: each pattern, which
// stands for those that no rule names, and what rules name of it.
func (c *chain) devices(l listing) []string {
	var list []string
	for _, pattern := range c.wan {
		list = append(list, pattern)
		for _, rules := range l {
			for _, text := range rules {
				if device, _ := option(splitRule(text), c.side); device != "" && spans(pattern, device) {
					list = append(list, device)
				}
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// distinct returns the list without repetitions.
func distinct[T comparable](list []T) []T {
	seen := make(map[T]bool, len(list))
	return slices.DeleteFunc(list, func(v T) bool { known := seen[v]; seen[v] = true; return known })
}
