package hosts

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlink"
)

// sharedAge is how long it is believed which hardware addresses several hosts share.
const sharedAge = time.Second

// Lookup returns the hardware address of the host with an address on an interface,
// from the kernel's neighbour table. It is empty where the link has none. Known is
// false if the kernel has not resolved it, or not since the host last failed to
// answer.
func (f *Finder) Lookup(index int, a netip.Addr) (hardware net.HardwareAddr, known bool) {
	reply, err := netlink.Execute(unix.NETLINK_ROUTE, message(unix.RTM_GETNEIGH, a, index, 0, unix.NUD_NONE, 0))
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, false
	case err != nil || len(reply) == 0: // Linux before 5.0 has only the whole table
		return f.lookupInTable(index, a)
	}
	h, ok := parseNeighbour(reply[0])
	return h.Hardware, ok && h.Answers
}

// lookupInTable is Lookup by the whole table.
func (f *Finder) lookupInTable(index int, a netip.Addr) (net.HardwareAddr, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, h := range f.current().neighbours {
		if h.Addr == a && h.Index == index {
			return h.Hardware, h.Answers
		}
	}
	return nil, false
}

// IsShared reports whether a leased IPv4 address is one of several on the interface
// that have this hardware address, as those of hosts behind a repeater.
func (f *Finder) IsShared(index int, a netip.Addr, hardware net.HardwareAddr) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.read(sharedAge)
	isLeased := func(a netip.Addr) bool {
		return slices.ContainsFunc(s.leases, func(l lease) bool { return l.addr == a && l.isValid(s.readAt) })
	}
	if !a.Is4() || !isLeased(a) {
		return false
	}
	return slices.ContainsFunc(s.neighbours, func(h Host) bool {
		return h.Addr != a && h.answersOn(index) && bytes.Equal(h.Hardware, hardware) && h.Addr.Is4() && isLeased(h.Addr)
	})
}

// Resolve makes the kernel resolve the hardware address of a host, as if a packet
// were to be sent to it. It does not wait.
func (f *Finder) Resolve(index int, a netip.Addr) { f.Probe(index, a) }

// Forget removes a host that has not answered from the kernel's neighbour table,
// which the whole machine shares and which has room for 1,024 of each family.
func (f *Finder) Forget(index int, a netip.Addr) {
	if _, known := f.Lookup(index, a); known {
		return
	}
	if err := execute(message(unix.RTM_DELNEIGH, a, index, unix.NLM_F_ACK, unix.NUD_NONE, 0)); err != nil && !errors.Is(err, unix.ENOENT) {
		f.Log.Debug("cannot remove a neighbour that does not answer", "host", a, "err", err)
	}
}
