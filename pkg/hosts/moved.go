package hosts

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// silent are the states of a neighbour that the kernel has asked in vain so far.
const silent = unix.NUD_INCOMPLETE | unix.NUD_PROBE | unix.NUD_FAILED

// Moved reports whether the host that had an IPv4 address on a LAN, with the
// hardware address own, has another one there instead: now answers with own, and
// former does not answer, or with another hardware address. Both are asked anew.
// A hardware address behind which several hosts may be, a repeater's, proves
// nothing: it has more than one IPv4 address beside the two, or one that is leased,
// or a lease names another for one of the two. A host may have a fixed second one.
func (f *Finder) Moved(ctx context.Context, lan LAN, own net.HardwareAddr, former, now netip.Addr) bool {
	if !lan.has(former) || !lan.has(now) || !f.confirm(ctx, lan.Index, now, true) {
		return false
	}
	f.confirm(ctx, lan.Index, former, true)
	f.mu.Lock()
	left := f.current().left(lan.Index, own, former)
	f.mu.Unlock()
	if !left || !f.findLeased(ctx, lan) || ctx.Err() != nil { // whose context ends has not waited
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	v := f.current()
	moved := v.moved(lan, own, former, now)
	f.check(v, lan.Index, v.others(lan, own, former, now)...) // they may be of yesterday
	return moved
}

// moved reports whether a host has left one address for another, as far as v
// tells.
func (v *view) moved(lan LAN, own net.HardwareAddr, former, now netip.Addr) bool {
	if !bytes.Equal(own, v.confirmed(lan.Index, now)) || !v.left(lan.Index, own, former) {
		return false
	}
	held := []netip.Addr{now}
	if len(v.confirmed(lan.Index, former)) == 0 { // or else it is the next host's
		held = append(held, former)
	}
	others := v.others(lan, own, former, now)
	return len(others) <= 1 && !v.leasedToOthers(nil, others) && !v.leasedToOthers(own, held)
}

// left reports whether an address, which has just been asked for, is not own's.
func (v *view) left(index int, own net.HardwareAddr, a netip.Addr) bool {
	if next := v.confirmed(index, a); len(next) > 0 {
		return !bytes.Equal(next, own)
	}
	return slices.ContainsFunc(v.neighbours, func(h Host) bool { return h.Addr == a && h.Index == index && h.state&silent != 0 })
}

// others returns the IPv4 addresses of a hardware address beside two.
func (v *view) others(lan LAN, own net.HardwareAddr, former, now netip.Addr) []netip.Addr {
	return slices.DeleteFunc(v.addresses(lan, own), func(a netip.Addr) bool { return a == former || a == now })
}
