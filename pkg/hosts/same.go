package hosts

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"slices"
	"time"
)

// maxProbedLeases bounds the leases that Same and Moved probe, to those of a /26.
// Where more hosts with a lease are absent the result is false.
const maxProbedLeases = 64

// neighbourKey is an address on an interface.
type neighbourKey struct {
	index int
	netip.Addr
}

// Same reports whether two IPv6 addresses on one interface belong to one host: both
// answer now, with one hardware address. Several hosts may share the hardware
// address of a repeater, so that it proves nothing if it has more than one IPv4
// address, or if a lease gives one of its addresses to another hardware address.
// Same probes what it does not know and waits up to probeTimeout for each: first
// for the client, so that requests from invented addresses cause no further probes.
// The other address is verified even if it answered recently: another host may have
// it now.
func (f *Finder) Same(ctx context.Context, lan LAN, client, other netip.Addr) bool {
	if !client.Is6() || !other.Is6() || !f.confirm(ctx, lan.Index, client, false) || !f.confirm(ctx, lan.Index, other, true) {
		return false
	}
	if !f.probeLeased(ctx, lan) {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.current()
	same := s.isSame(lan, client, other)
	if addrs := s.identify(Query{Addr: client, LAN: lan}).IPv4; len(addrs) > 1 { // one may be out of date
		f.verify(s, lan.Index, addrs...)
	}
	return same
}

// isSame reports whether two addresses belong to one host, according to the
// snapshot.
func (s *snapshot) isSame(lan LAN, client, other netip.Addr) bool {
	own := s.confirmed(lan.Index, client)
	if len(own) == 0 || !bytes.Equal(own, s.confirmed(lan.Index, other)) {
		return false
	}
	addrs := s.identify(Query{Addr: client, LAN: lan}).IPv4
	return len(addrs) <= 1 && !s.leasedToOthers(own, append(addrs, client, other))
}

// confirm reports whether a host answers now. It makes the kernel verify that if it
// is not known, or always if again is set.
func (f *Finder) confirm(ctx context.Context, index int, a netip.Addr, again bool) (answers bool) {
	isConfirmed := func(s *snapshot) bool { answers = len(s.confirmed(index, a)) > 0; return answers }
	f.mu.Lock()
	if s := f.current(); !isConfirmed(s) || again {
		f.verify(s, index, a)
	}
	f.mu.Unlock()
	f.await(ctx, isConfirmed)
	return answers
}

// probeLeased makes the kernel probe the IPv4 addresses that are leased and do not
// answer: one of them may have the hardware address in question. It reports false
// if they are too many.
func (f *Finder) probeLeased(ctx context.Context, lan LAN) bool {
	f.mu.Lock()
	addrs := f.current().unansweredLeases(lan)
	f.mu.Unlock()
	if len(addrs) > maxProbedLeases {
		return false
	}
	if len(addrs) > 0 {
		if !f.Probe(lan.Index, addrs...) {
			return false
		}
		f.await(ctx, func(s *snapshot) bool { return s.allAnswer(lan.Index, addrs) })
	}
	return true
}

// unansweredLeases returns the leased addresses of a LAN whose hosts do not answer.
func (s *snapshot) unansweredLeases(lan LAN) (addrs []netip.Addr) {
	for _, l := range s.leases {
		if l.isValid(s.readAt) && lan.contains(l.addr) && !s.allAnswer(lan.Index, []netip.Addr{l.addr}) {
			addrs = append(addrs, l.addr)
		}
	}
	return addrs
}

// verify makes the kernel verify the neighbours that it knows and probe the others,
// unless it has done so within probeInterval. It does not wait.
func (f *Finder) verify(s *snapshot, index int, addrs ...netip.Addr) {
	for _, a := range addrs {
		isKnown := func(h Host) bool { return h.Addr == a && h.answersOn(index) && h.state&verifiableStates != 0 }
		if !f.startVerification(neighbourKey{index, a}) {
			continue
		}
		if !slices.ContainsFunc(s.neighbours, isKnown) || execute(probeMessage(a, index)) != nil {
			f.Probe(index, a)
		}
		f.last.readAt = time.Time{} // the snapshot is out of date
	}
}

// startVerification reports whether a neighbour is to be verified now, and remembers
// that it is.
func (f *Finder) startVerification(k neighbourKey) bool {
	if f.verified[k].After(time.Now()) {
		return false
	}
	if f.verified == nil || len(f.verified) >= maxProbed {
		f.verified = make(map[neighbourKey]time.Time)
	}
	f.verified[k] = time.Now().Add(probeInterval)
	return true
}

// confirmed returns the hardware address of a neighbour that has just answered or
// that the administrator has entered, or nil.
func (s *snapshot) confirmed(index int, a netip.Addr) net.HardwareAddr {
	for _, h := range s.neighbours {
		if h.Addr == a && h.answersOn(index) && h.state&confirmedStates != 0 {
			return h.Hardware
		}
	}
	return nil
}

// leasedToOthers reports whether a lease gives one of these addresses to another
// hardware address.
func (s *snapshot) leasedToOthers(hardware net.HardwareAddr, addrs []netip.Addr) bool {
	return slices.ContainsFunc(s.leases, func(l lease) bool {
		return l.isValid(s.readAt) && len(l.hardware) > 0 && !bytes.Equal(l.hardware, hardware) && slices.Contains(addrs, l.addr)
	})
}
