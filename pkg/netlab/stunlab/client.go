package stunlab

import (
	"crypto/rand"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"igdd/pkg/netlab"
)

// How long the client waits. A response takes a millisecond unless the machine is busy.
const (
	patience = 30 * time.Second       // for a response that must come
	again    = 200 * time.Millisecond // between requests that may have been lost
	silence  = 300 * time.Millisecond // for a response that a later one has overtaken
)

// filterTries is how often a response that seems to be filtered is asked for: one is lost
// when the kernel's neighbour table, which all namespaces share, is full.
const filterTries = 3

// Dependence is what a NAT's mapping or filtering depends on (RFC 4787, sections 4.1 and 5).
type Dependence string

const (
	EndpointIndependent     Dependence = "endpoint independent"
	AddressDependent        Dependence = "address dependent"
	AddressAndPortDependent Dependence = "address and port dependent"
)

// NAT is what a client finds out about the NAT in front of one of its ports.
type NAT struct {
	External           netip.AddrPort // the first one that a server saw
	Mapping, Filtering Dependence
}

// Client is a UDP socket on a host behind a NAT until the test ends.
type Client struct {
	conn      *net.UDPConn
	responses map[transactionID]response
	texts     map[string]bool // other datagrams
}

// Listen opens a socket on a host.
func Listen(t testing.TB, host *netlab.Namespace, at netip.AddrPort) *Client {
	t.Helper()
	return &Client{conn: listen(t, host, at), responses: make(map[transactionID]response), texts: make(map[string]bool)}
}

// Discover does the tests of RFC 5780, sections 4.3 and 4.4. Filtering comes first,
// since the client must not have sent anything to the server's other addresses then.
func (c *Client) Discover(t testing.TB, s *Server) NAT {
	t.Helper()
	filtering := c.filtering(t, s)
	external, mapping := c.mapping(t, s)
	return NAT{external, mapping, filtering}
}

// mapping does the tests I to III of section 4.3.
func (c *Client) mapping(t testing.TB, s *Server) (netip.AddrPort, Dependence) {
	t.Helper()
	first := c.Seen(t, s)
	second := c.ask(t, s.at(1, 0)).mapped
	switch {
	case first == second:
		return first, EndpointIndependent
	case second == c.ask(t, s.at(1, 1)).mapped:
		return first, AddressDependent
	}
	return first, AddressAndPortDependent
}

// filtering does the tests I to III of section 4.4.
func (c *Client) filtering(t testing.TB, s *Server) Dependence {
	t.Helper()
	switch {
	case c.passes(t, s, request{changeIP: true, changePort: true}):
		return EndpointIndependent
	case c.passes(t, s, request{changePort: true}):
		return AddressDependent
	}
	return AddressAndPortDependent
}

// Seen returns where requests come from, as the server sees it.
func (c *Client) Seen(t testing.TB, s *Server) netip.AddrPort {
	t.Helper()
	r := c.ask(t, s.at(0, 0))
	if r.other != s.at(1, 1) {
		t.Fatalf("stunlab: the server's other address is %v, want %v", r.other, s.at(1, 1))
	}
	return r.mapped
}

// ask returns the response to a request, which it repeats until that comes.
func (c *Client) ask(t testing.TB, to netip.AddrPort) response {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if r, ok := c.await(t, c.send(t, request{}, to), again); ok {
			return r
		}
	}
	t.Fatalf("stunlab: %v does not respond to %v", to, local(c.conn))
	return response{}
}

// passes reports whether the NAT lets the response to a changed request through. The
// server responds to it before it responds to the plain request that follows.
func (c *Client) passes(t testing.TB, s *Server, changed request) bool {
	t.Helper()
	c.ask(t, s.at(0, 0))
	for range filterTries {
		id := c.send(t, changed, s.at(0, 0))
		c.ask(t, s.at(0, 0))
		if _, ok := c.await(t, id, silence); ok {
			return true
		}
	}
	return false
}

// send sends a request and returns its transaction ID.
func (c *Client) send(t testing.TB, r request, to netip.AddrPort) transactionID {
	t.Helper()
	rand.Read(r.id[:])
	if _, err := c.conn.WriteToUDPAddrPort(r.encode(), to); err != nil {
		t.Fatalf("stunlab: send to %v: %v", to, err)
	}
	return r.id
}

// await returns a response if it has come, or comes within some time.
func (c *Client) await(t testing.TB, id transactionID, within time.Duration) (response, bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		if r, ok := c.responses[id]; ok {
			return r, true
		}
		if !c.read(t, deadline) {
			return response{}, false
		}
	}
}

// Say sends a datagram that is no request.
func (c *Client) Say(t testing.TB, text string, to netip.AddrPort) {
	t.Helper()
	if _, err := c.conn.WriteToUDPAddrPort([]byte(text), to); err != nil {
		t.Fatalf("stunlab: send to %v: %v", to, err)
	}
}

// Hears reports whether a datagram that is no response has come, or comes within some
// time.
func (c *Client) Hears(t testing.TB, text string, within time.Duration) bool {
	t.Helper()
	for deadline := time.Now().Add(within); !c.texts[text]; {
		if !c.read(t, deadline) {
			return false
		}
	}
	return true
}

// read notes the next datagram, and reports whether one has come.
func (c *Client) read(t testing.TB, deadline time.Time) bool {
	t.Helper()
	b := make([]byte, 1500)
	c.conn.SetReadDeadline(deadline)
	n, from, err := c.conn.ReadFromUDPAddrPort(b)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return false
	case err != nil:
		t.Fatalf("stunlab: read: %v", err)
	}
	r, err := parseResponse(b[:n])
	switch {
	case err != nil:
		c.texts[string(b[:n])] = true
	case r.origin != from:
		t.Fatalf("stunlab: a response from %v says that it is from %v", from, r.origin)
	default:
		c.responses[r.id] = r
	}
	return true
}
