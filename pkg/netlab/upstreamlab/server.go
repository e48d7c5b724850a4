// Package upstreamlab has, for tests, a router in front of the one under test, whose
// NAT-PMP and PCP server does as it is told, and a record of what leaves an uplink.
package upstreamlab

import (
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
	"igdd/pkg/pcp"
)

// Conduct is how a server behaves.
type Conduct struct {
	NATPMP, PCP bool          // which protocols it speaks
	External    netip.Addr    // its external address
	Ports       []uint16      // all that it gives, from the first; nil: those that are suggested
	Lease       time.Duration // of each mapping; 0: as long as asked for
	Delay       time.Duration // before each answer
	Silent      bool          // it hears and records, and answers nothing
	// Lie changes what is said to a request for a port; nil: nothing.
	Lie func(*Answer)
	// Noise is how many answers to requests that nobody made come before each answer.
	Noise int
}

// Answer is what a request for a port is told.
type Answer struct {
	Result   uint16 // natpmp.Result or pcp.Result
	Nonce    pcp.Nonce
	Internal uint16
	External netip.AddrPort // NAT-PMP tells the port alone
	Lifetime time.Duration
	Epoch    uint32
	// Stray is set to send the answer from another port of the server.
	Stray bool
}

// Asked is a request for a port.
type Asked struct {
	From      netip.AddrPort
	PCP       bool  // else NAT-PMP
	Protocol  uint8 // IANA protocol number
	Port      uint16
	Suggested uint16
	Lifetime  time.Duration // 0: it is given back
	Nonce     pcp.Nonce
	Options   []pcp.Option
}

// Lease is a port that the server forwards.
type Lease struct {
	Protocol uint8 // IANA protocol number
	External uint16
	To       netip.AddrPort
}

// Server serves routers behind a router, at its port 5351, until the test ends. It
// forwards the ports that it gives.
type Server struct {
	t      testing.TB
	host   *netlab.Namespace
	socket *net.UDPConn
	stray  *net.UDPConn // the same address with another port

	mu      sync.Mutex
	conduct Conduct
	began   time.Time // of its epoch
	leases  []Lease
	opened  []Lease // that have no rule yet
	asked   []Asked
	packets int
}

// Serve starts a server at an address of a router, whose epoch began an hour ago.
func Serve(t testing.TB, host *netlab.Namespace, at netip.Addr, c Conduct) *Server {
	t.Helper()
	s := &Server{t: t, host: host, conduct: c, began: time.Now().Add(-time.Hour)}
	var running sync.WaitGroup
	t.Cleanup(running.Wait)
	s.socket = listen(t, host, netip.AddrPortFrom(at, pcp.ServerPort))
	s.stray = listen(t, host, netip.AddrPortFrom(at, 0))
	running.Go(s.run)
	return s
}

// listen opens a socket that is closed when the test ends.
func listen(t testing.TB, host *netlab.Namespace, at netip.AddrPort) (c *net.UDPConn) {
	t.Helper()
	err := host.Listen(func() (err error) { c, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at)); return err })
	if err != nil {
		t.Fatalf("upstreamlab: listen at %v: %v", at, err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// Conduct has the server behave otherwise from now on.
func (s *Server) Conduct(change func(*Conduct)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.conduct)
}

// Restart has the server lose its mappings and begin another epoch.
func (s *Server) Restart() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.leases {
		s.forward(l, "-D")
	}
	s.leases, s.began = nil, time.Now()
}

// Asked returns the requests for ports that have come, the first first.
func (s *Server) Asked() []Asked {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Asked(nil), s.asked...)
}

// Leases returns the ports that the server forwards.
func (s *Server) Leases() []Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Lease(nil), s.leases...)
}

// Packets returns how many packets have come, of any content.
func (s *Server) Packets() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.packets
}

// allHosts is where announcements go.
var allHosts = netip.AddrPortFrom(netip.AddrFrom4([4]byte{224, 0, 0, 1}), pcp.AnnouncePort)

// Announce tells all hosts of the network behind the external address and the epoch, by
// the protocols that the server speaks (RFC 6886, section 3.2.1; RFC 6887, section 14.1).
func (s *Server) Announce() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conduct.NATPMP {
		s.socket.WriteToUDPAddrPort(natpmp.Response{External: s.conduct.External, Epoch: s.epoch()}.Append(nil), allHosts)
	}
	if s.conduct.PCP {
		s.socket.WriteToUDPAddrPort(pcp.Response{Epoch: s.epoch()}.Append(nil), allHosts)
	}
}

// Flood announces n times, as fast as it can, other epochs and addresses than its own,
// from the server's port and from another one by turns.
func (s *Server) Flood(n int) {
	for i := range n {
		epoch := uint32(i) * 7919 // runs forward and, with the other protocol's, back
		octets := pcp.Response{Epoch: epoch}.Append(nil)
		if i/2%2 == 1 {
			octets = natpmp.Response{External: netip.AddrFrom4([4]byte{11, 22, byte(i >> 8), byte(i)}), Epoch: ^epoch}.Append(nil)
		}
		[]*net.UDPConn{s.socket, s.stray}[i%2].WriteToUDPAddrPort(octets, allHosts)
	}
}

// epoch returns the seconds since the epoch began.
func (s *Server) epoch() uint32 { return uint32(time.Since(s.began) / time.Second) }

// run serves until the socket is closed.
func (s *Server) run() {
	b := make([]byte, 2048)
	for {
		n, from, err := s.socket.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		s.receive(append([]byte(nil), b[:n]...), from)
	}
}

// receive answers a packet, now or after the delay. Rules for new leases come meanwhile:
// they take longer than clients would wait.
func (s *Server) receive(b []byte, from netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.packets++
	reply, by := s.serve(b, from)
	defer s.forwardOpened()
	if len(reply) == 0 || s.conduct.Silent {
		return
	}
	noise := s.conduct.Noise
	time.AfterFunc(s.conduct.Delay, func() {
		s.makeNoise(noise, from)
		by.WriteToUDPAddrPort(reply, from)
	})
}

// makeNoise sends a host answers to requests for ports that it has not made, from the
// server's port and from another one by turns.
func (s *Server) makeNoise(n int, to netip.AddrPort) {
	for i := range n {
		m := pcp.Mapping{Nonce: pcp.Nonce{0xbd, byte(i)}, Protocol: 6, InternalPort: uint16(i), External: netip.AddrPortFrom(to.Addr(), uint16(i))}
		noise := pcp.Response{Opcode: pcp.Map, Lifetime: time.Hour, Mapping: m}.Append(nil)
		if i/2%2 == 1 {
			noise = natpmp.Response{Opcode: natpmp.MapTCP, InternalPort: uint16(i), ExternalPort: uint16(i), Lifetime: time.Hour}.Append(nil)
		}
		[]*net.UDPConn{s.socket, s.stray}[i%2].WriteToUDPAddrPort(noise, to)
	}
}
