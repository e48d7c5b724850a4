package hosts

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"slices"
	"time"
)

// maxLeased bounds the leases whose hosts Same asks for: a /26 of them. Where more
// hosts are away it cannot tell.
const maxLeased = 64

// place is an address on an interface.
type place struct {
	index int
	netip.Addr
}

// Same reports whether two IPv6 addresses on one interface are one host's: both
// answer now, with one hardware address. One behind which several hosts may be,
// a repeater's, proves nothing: it has more than one IPv4 address, or a lease
// names another for one of its addresses. Same asks for what it does not know
// and waits no longer than answerTime for each, the one that asks first: whoever
// makes up addresses makes nobody ask for more. The other one must prove itself
// even if it answered lately: it may have changed hands.
func (f *Finder) Same(ctx context.Context, lan LAN, asking, other netip.Addr) bool {
	if !asking.Is6() || !other.Is6() || !f.confirm(ctx, lan.Index, asking, false) || !f.confirm(ctx, lan.Index, other, true) {
		return false
	}
	if !f.findLeased(ctx, lan) {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	v := f.current()
	same := v.same(lan, asking, other)
	if addrs := v.identify(Query{Addr: asking, LAN: lan}).IPv4; len(addrs) > 1 { // one may be of yesterday
		f.check(v, lan.Index, addrs...)
	}
	return same
}

// same reports whether two addresses are one host's, as far as v tells.
func (v *view) same(lan LAN, asking, other netip.Addr) bool {
	own := v.confirmed(lan.Index, asking)
	if len(own) == 0 || !bytes.Equal(own, v.confirmed(lan.Index, other)) {
		return false
	}
	addrs := v.identify(Query{Addr: asking, LAN: lan}).IPv4
	return len(addrs) <= 1 && !v.leasedToOthers(own, append(addrs, asking, other))
}

// confirm reports whether a host answers now, and has the kernel find out if it
// does not know, or anew in any case.
func (f *Finder) confirm(ctx context.Context, index int, a netip.Addr, anew bool) (answers bool) {
	holds := func(v *view) bool { answers = len(v.confirmed(index, a)) > 0; return answers }
	f.mu.Lock()
	if v := f.current(); !holds(v) || anew {
		f.check(v, index, a)
	}
	f.mu.Unlock()
	f.await(ctx, holds)
	return answers
}

// findLeased has the kernel ask for the IPv4 hosts that leases name and it does
// not know: one of them may be behind the hardware address in question.
func (f *Finder) findLeased(ctx context.Context, lan LAN) bool {
	f.mu.Lock()
	addrs := f.current().unseen(lan)
	f.mu.Unlock()
	if len(addrs) > maxLeased {
		return false
	}
	if len(addrs) > 0 {
		f.Prompt(lan.Index, addrs...)
		f.await(ctx, func(v *view) bool { return v.answer(lan.Index, addrs) })
	}
	return true
}

// unseen returns leased addresses of a LAN that the neighbour table does not
// have.
func (v *view) unseen(lan LAN) (addrs []netip.Addr) {
	for _, l := range v.leases {
		if l.holds(v.at) && lan.has(l.addr) && !v.answer(lan.Index, []netip.Addr{l.addr}) {
			addrs = append(addrs, l.addr)
		}
	}
	return addrs
}

// check makes the kernel prove what it believes of neighbours, and ask for those
// that it does not know, unless it has just done so. It does not wait.
func (f *Finder) check(v *view, index int, addrs ...netip.Addr) {
	for _, a := range addrs {
		known := func(h Host) bool { return h.Addr == a && h.speaks(index) && h.state&provable != 0 }
		if !f.due(place{index, a}) {
			continue
		}
		if !slices.ContainsFunc(v.neighbours, known) || change(probeMessage(a, index)) != nil {
			f.Prompt(index, a)
		}
		f.last.at = time.Time{} // what was read of it holds no longer
	}
}

// due reports whether it is time that a neighbour proves itself, and takes it
// that it does now.
func (f *Finder) due(p place) bool {
	if f.proved[p].After(time.Now()) {
		return false
	}
	if f.proved == nil || len(f.proved) >= maxAsked {
		f.proved = make(map[place]time.Time)
	}
	f.proved[p] = time.Now().Add(askEvery)
	return true
}

// confirmed returns the hardware address of a neighbour that has just answered,
// or that the administrator has entered.
func (v *view) confirmed(index int, a netip.Addr) net.HardwareAddr {
	for _, h := range v.neighbours {
		if h.Addr == a && h.speaks(index) && h.state&confirming != 0 {
			return h.Hardware
		}
	}
	return nil
}

// leasedToOthers reports whether a lease gives one of these addresses to another
// hardware address than own.
func (v *view) leasedToOthers(own net.HardwareAddr, addrs []netip.Addr) bool {
	return slices.ContainsFunc(v.leases, func(l lease) bool {
		return l.holds(v.at) && len(l.hardware) > 0 && !bytes.Equal(l.hardware, own) && slices.Contains(addrs, l.addr)
	})
}
