package hosts

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// unansweredStates are the states of a neighbour that has not answered the kernel's
// probes so far.
const unansweredStates = unix.NUD_INCOMPLETE | unix.NUD_PROBE | unix.NUD_FAILED

// Moved reports whether the host with a hardware address on a LAN has replaced its
// former IPv4 address by the present one: present answers with that hardware
// address, and former does not answer, or with another one. Both are verified.
// Several hosts may share the hardware address of a repeater, so that it proves
// nothing if it has more than one IPv4 address beside the two, or a leased one, or
// if a lease gives one of the two to another hardware address. A host may have a
// second address that is fixed.
func (f *Finder) Moved(ctx context.Context, lan LAN, hardware net.HardwareAddr, former, present netip.Addr) bool {
	if !lan.contains(former) || !lan.contains(present) || !f.confirm(ctx, lan.Index, present, true) {
		return false
	}
	f.askAll(ctx, lan.Index, former)
	f.mu.Lock()
	left := f.current().hasLeft(lan.Index, hardware, former)
	f.mu.Unlock()
	if !left || !f.probeLeased(ctx, lan) || ctx.Err() != nil { // when ctx has ended, the answers were not waited for
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.current()
	moved := s.hasMoved(lan, hardware, former, present)
	f.verify(s, lan.Index, s.otherAddrs(lan, hardware, former, present)...) // they may be out of date
	return moved
}

// askAll makes the kernel ask all hosts on the LAN for an address, and waits for an
// answer. The kernel asks the host that had it last first, and with a hardware address
// that two hosts have, that is perhaps the wrong one.
func (f *Finder) askAll(ctx context.Context, index int, a netip.Addr) {
	f.mu.Lock()
	if !isPermanent(a, index) && f.startVerification(neighbourKey{index, a}) {
		if err := Remove(index, a); err != nil {
			f.Log.Debug("cannot have a host asked for again", "host", a, "err", err)
		}
		f.Resolve(index, a)
		f.last.readAt = time.Time{} // the snapshot is out of date
	}
	f.mu.Unlock()
	f.await(ctx, func(s *snapshot) bool { return len(s.confirmed(index, a)) > 0 })
}

// hasMoved reports whether a host has replaced its former address by the present
// one, according to the snapshot.
func (s *snapshot) hasMoved(lan LAN, hardware net.HardwareAddr, former, present netip.Addr) bool {
	if !bytes.Equal(hardware, s.confirmed(lan.Index, present)) || !s.hasLeft(lan.Index, hardware, former) {
		return false
	}
	held := []netip.Addr{present}
	if len(s.confirmed(lan.Index, former)) == 0 { // otherwise another host has it
		held = append(held, former)
	}
	others := s.otherAddrs(lan, hardware, former, present)
	return len(others) <= 1 && !s.leasedToOthers(nil, others) && !s.leasedToOthers(hardware, held)
}

// hasLeft reports whether an address that has just been verified no longer belongs
// to a hardware address.
func (s *snapshot) hasLeft(index int, hardware net.HardwareAddr, a netip.Addr) bool {
	if owner := s.confirmed(index, a); len(owner) > 0 {
		return !bytes.Equal(owner, hardware)
	}
	return slices.ContainsFunc(s.neighbours, func(h Host) bool { return h.Addr == a && h.Index == index && h.state&unansweredStates != 0 })
}

// otherAddrs returns the IPv4 addresses of a hardware address except two.
func (s *snapshot) otherAddrs(lan LAN, hardware net.HardwareAddr, former, present netip.Addr) []netip.Addr {
	return slices.DeleteFunc(s.ipv4Addrs(lan, hardware), func(a netip.Addr) bool { return a == former || a == present })
}
