package hosts

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlink"
)

// sharedAge is how long it is believed which hardware addresses several hosts share,
// and which links have hardware addresses.
const sharedAge = time.Second

// Lookup returns the hardware address of the host with an address on an interface,
// from the kernel's neighbour table. It is empty where the link has none, and of a host
// behind another router. Known is false if the kernel has not resolved it, or not
// since the host last failed to answer.
func (f *Finder) Lookup(index int, a netip.Addr) (hardware net.HardwareAddr, known bool) {
	if f.IsRouted(index, a) {
		return nil, true
	}
	h := f.find(index, a)
	if h.state&unix.NUD_NOARP != 0 || !h.Answers && f.isUnaddressed(index) {
		return nil, true
	}
	return h.Hardware, h.Answers
}

// find returns the neighbour with an address on an interface; the zero Host if the kernel
// knows none.
func (f *Finder) find(index int, a netip.Addr) Host {
	h, err := getNeighbour(&f.netlink, index, a)
	if err != nil && !errors.Is(err, unix.ENOENT) { // Linux before 5.0 has only the whole table
		return f.findInTable(index, a)
	}
	return h
}

// unaddressed are the flags of links without hardware addresses: where the kernel
// enters one neighbour 0.0.0.0 for all of IPv4, or one for each address, and resolves
// none.
const unaddressed = unix.IFF_NOARP | unix.IFF_LOOPBACK | unix.IFF_POINTOPOINT

// isUnaddressed reports whether an interface is a link without hardware addresses, as
// those of tunnels are.
func (f *Finder) isUnaddressed(index int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := time.Now(); now.Sub(f.linksReadAt) >= sharedAge {
		f.links, f.linksReadAt = readUnaddressed(), now
	}
	return f.links[index]
}

// readUnaddressed returns the indexes of the links without hardware addresses.
func readUnaddressed() map[int]bool {
	list := make(map[int]bool)
	messages, _ := netlink.Dump(unix.RTM_GETLINK) // on errors none is known to be one
	for _, m := range messages {
		if m.Type != unix.RTM_NEWLINK || len(m.Data) < unix.SizeofIfInfomsg {
			continue
		}
		if flags := binary.NativeEndian.Uint32(m.Data[8:]); flags&unaddressed != 0 { // struct ifinfomsg
			list[int(int32(binary.NativeEndian.Uint32(m.Data[4:])))] = true
		}
	}
	return list
}

// getNeighbour returns the neighbour with an address on an interface. The error is
// ENOENT if the kernel knows none.
func getNeighbour(s *netlink.Socket, index int, a netip.Addr) (Host, error) {
	reply, err := s.Execute(message(unix.RTM_GETNEIGH, a, index, 0, unix.NUD_NONE, 0))
	if err != nil {
		return Host{}, err
	}
	if len(reply) == 0 {
		return Host{}, unix.ENOENT
	}
	h, _ := parseNeighbour(reply[0])
	return h, nil
}

// findInTable returns the neighbour as getNeighbour does, from the whole table.
func (f *Finder) findInTable(index int, a netip.Addr) Host {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, h := range f.current().neighbours {
		if h.Addr == a && h.Index == index {
			return h
		}
	}
	return Host{}
}

// IsShared reports whether a leased IPv4 address is one of several on the interface
// that have this hardware address, as those of hosts behind a repeater.
func (f *Finder) IsShared(index int, a netip.Addr, hardware net.HardwareAddr) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.read(sharedAge).isShared(index, a, hardware)
}

// isShared is IsShared according to the snapshot.
func (s *snapshot) isShared(index int, a netip.Addr, hardware net.HardwareAddr) bool {
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

// Resolve makes the kernel resolve the hardware address of a host, as if a packet were to
// be sent to it, unless the administrator has entered it. It does not wait.
func (f *Finder) Resolve(index int, a netip.Addr) {
	if _, err := f.netlink.Execute(useMessage(a, index)); err != nil {
		f.Log.Debug("cannot resolve a neighbour", "host", a, "err", err)
	}
}

// Forget removes a host that has not answered from the kernel's neighbour table,
// which the whole machine shares and which has room for 1,024 of each family.
func (f *Finder) Forget(index int, a netip.Addr) {
	if h := f.find(index, a); h.Answers || !h.Addr.IsValid() {
		return
	}
	if _, err := f.netlink.Execute(removeMessage(a, index)); err != nil && !errors.Is(err, unix.ENOENT) {
		f.Log.Debug("cannot remove a neighbour that does not answer", "host", a, "err", err)
	}
}

// Ask makes the kernel resolve an address and reports whether a host on the interface
// has it. It waits for the answer.
func Ask(index int, a netip.Addr, atMost time.Duration) bool {
	if Probe(a, index) != nil {
		return false
	}
	var socket netlink.Socket
	defer socket.Close()
	for deadline := time.Now().Add(atMost); ; time.Sleep(recheckInterval) {
		h, err := getNeighbour(&socket, index, a)
		if err == nil && h.Answers {
			return true
		}
		if err != nil && !errors.Is(err, unix.ENOENT) || time.Now().After(deadline) {
			return false
		}
	}
}

// Enter enters a neighbour into the kernel's table as if it had just answered.
func Enter(index int, a netip.Addr, hardware net.HardwareAddr) error {
	m := message(unix.RTM_NEWNEIGH, a, index, unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_REPLACE, unix.NUD_REACHABLE, 0)
	m.Data = netlink.AppendAttribute(m.Data, unix.NDA_LLADDR, hardware)
	if err := execute(m); err != nil {
		return fmt.Errorf("hosts: enter the neighbour %v: %w", a, err)
	}
	return nil
}

// Remove removes a neighbour from the kernel's table.
func Remove(index int, a netip.Addr) error {
	return execute(removeMessage(a, index))
}
