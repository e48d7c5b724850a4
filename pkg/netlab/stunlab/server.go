// Package stunlab has, for tests, a STUN server with two addresses and two ports, and a
// client that finds out by it how a NAT maps and filters (RFC 5780).
package stunlab

import (
	"net"
	"net/netip"
	"testing"

	"igdd/pkg/netlab"
)

// Server is a STUN server over UDP and IPv4 until the test ends.
type Server struct {
	sockets [2][2]*net.UDPConn // by address and port
}

// Serve starts a server on a host that has the two addresses. The kernel chooses the
// two ports, so that no NAT remembers flows to them.
func Serve(t testing.TB, host *netlab.Namespace, addresses [2]netip.Addr) *Server {
	t.Helper()
	s := new(Server)
	for port := range 2 {
		s.sockets[0][port] = listen(t, host, netip.AddrPortFrom(addresses[0], 0))
		same := netip.AddrPortFrom(addresses[1], s.at(0, port).Port())
		s.sockets[1][port] = listen(t, host, same)
	}
	for address, sockets := range s.sockets {
		for port := range sockets {
			go s.respond(address, port)
		}
	}
	return s
}

// listen opens a socket that is closed when the test ends.
func listen(t testing.TB, host *netlab.Namespace, at netip.AddrPort) (c *net.UDPConn) {
	t.Helper()
	err := host.Listen(func() (err error) { c, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at)); return err })
	if err != nil {
		t.Fatalf("stunlab: listen at %v: %v", at, err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// at returns the address of a socket.
func (s *Server) at(address, port int) netip.AddrPort { return local(s.sockets[address][port]) }

// local returns the address of a socket.
func local(c *net.UDPConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }

// respond serves one of the sockets until it is closed. It handles one request after the
// other, so responses leave in the order of the requests.
func (s *Server) respond(address, port int) {
	b := make([]byte, 1500)
	for {
		n, from, err := s.sockets[address][port].ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		r, err := parseRequest(b[:n])
		if err != nil {
			continue
		}
		by, on := address, port
		if r.changeIP {
			by = 1 - by
		}
		if r.changePort {
			on = 1 - on
		}
		answer := response{r.id, from, s.at(by, on), s.at(1-address, 1-port)}
		s.sockets[by][on].WriteToUDPAddrPort(answer.encode(), from)
	}
}
