package control

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// probeTimeout is how long a host has to answer.
const probeTimeout = 3 * time.Second

// probeAll finds out whether the hosts listen at which the paths end.
func (t *tool) probeAll(paths []path) error {
	status, err := t.queryStatus()
	if err != nil {
		return err
	}
	known := make(map[netip.AddrPort]string)
	for i := range paths {
		p := &paths[i]
		if p.Router || p.Fate == fateStopped || !p.Destination.IsValid() {
			continue
		}
		if _, asked := known[p.Destination]; !asked {
			known[p.Destination] = probe(status, p.Protocol, p.Destination)
		}
		p.Listener = known[p.Destination]
	}
	return nil
}

// probe connects from the router's address on the LAN of a host to its port, and returns
// what is known of the listener.
func probe(s Status, protocol string, to netip.AddrPort) string {
	for _, lan := range s.LANs {
		for _, p := range lan.Addresses {
			isRouted := s.isRouted(lan, to.Addr()) && isSameScope(p.Addr(), to.Addr())
			switch {
			case p.Addr() == to.Addr() || !p.Contains(to.Addr()) && !isRouted:
			case protocol == "TCP":
				return probeTCP(p.Addr(), to)
			default:
				return probeUDP(p.Addr(), to)
			}
		}
	}
	return listenerForeign
}

// isRouted reports whether a host is behind another router on a LAN.
func (s Status) isRouted(lan Link, a netip.Addr) bool {
	return slices.ContainsFunc(s.Routes, func(r Route) bool { return r.Interface == lan.Name && r.Network.Contains(a) })
}

// isSameScope reports whether packets to an address can have the other one as their
// source.
func isSameScope(from, to netip.Addr) bool {
	return from.Is4() == to.Is4() && !from.IsLinkLocalUnicast()
}

// probeTCP connects, and closes the connection at once.
func probeTCP(from netip.Addr, to netip.AddrPort) string {
	d := net.Dialer{Timeout: probeTimeout, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
	c, err := d.Dial("tcp", to.String())
	switch {
	case err == nil:
		c.Close()
		return listenerYes
	case errors.Is(err, unix.ECONNREFUSED):
		return listenerNone
	}
	return listenerSilent
}

// probeUDP sends an empty datagram. The host's kernel answers with an ICMP error if
// nothing listens; a program need not answer.
func probeUDP(from netip.Addr, to netip.AddrPort) string {
	d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
	c, err := d.Dial("udp", to.String())
	if err != nil {
		return listenerUnknown
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(probeTimeout))
	if _, err = c.Write(nil); err == nil {
		_, err = c.Read(make([]byte, 1))
	}
	switch {
	case err == nil:
		return listenerYes
	case errors.Is(err, unix.ECONNREFUSED):
		return listenerNone
	}
	return listenerUnknown
}
