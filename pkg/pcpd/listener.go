package pcpd

import (
	"context"
	"net/netip"

	"golang.org/x/sync/errgroup"

	"igdd/pkg/natpmp"
)

// LAN is an interface that clients are behind.
type LAN interface {
	Name() string
	Index() int
	// Prefixes returns the router's own addresses there, each with the length
	// of its network, as they are now.
	Prefixes() []netip.Prefix
}

// Listener answers the clients of one interface.
type Listener struct {
	server *Server
	lan    LAN
	conns  []*conn // IPv4, then IPv6 if it is served
	crier  crier
}

// Listen opens the sockets on one interface. Requests wait in them for Serve.
func (s *Server) Listen(lan LAN) (*Listener, error) {
	l := &Listener{server: s, lan: lan}
	l.crier = crier{again: make(chan struct{}, 1), news: l.news, tell: l.tell}
	for _, family := range s.families() {
		c, err := listen(family, lan)
		if err != nil {
			l.close()
			return nil, err
		}
		if c != nil {
			l.conns = append(l.conns, c)
		}
	}
	return l, nil
}

// families returns the address families to serve.
func (s *Server) families() []family {
	if s.IPv6 && s.PCP { // NAT-PMP has no IPv6 form
		return []family{ipv4, ipv6}
	}
	return []family{ipv4}
}

// Serve announces the server on its interface and answers until ctx ends. Then
// it closes the sockets.
func (l *Listener) Serve(ctx context.Context) error {
	l.server.enter(l)
	defer l.server.leave(l)
	work, ctx := errgroup.WithContext(ctx)
	for _, c := range l.conns {
		work.Go(func() error { return c.receive(l.hear) })
	}
	work.Go(func() error {
		defer l.close() // ends the others
		l.crier.run(ctx)
		return nil
	})
	return work.Wait()
}

// close closes the sockets, which ends receiving.
func (l *Listener) close() {
	for _, c := range l.conns {
		c.close()
	}
}

// exchange is a datagram and the way back to its sender.
type exchange struct {
	*Server
	lan    string // name of the interface
	conn   *conn
	client netip.AddrPort
	asked  netip.Addr // our address that the client sent to
	packet []byte     // belongs to the receiver: valid until hear returns
}

// hear answers a datagram of whoever may be heard.
func (l *Listener) hear(c *conn, d datagram) {
	if !mayAsk(l.lan.Prefixes(), d.from, d.to) {
		return
	}
	x := exchange{l.server, l.lan.Name(), c, d.from, d.to, d.payload}
	isNATPMP := len(d.payload) > 0 && d.payload[0] == natpmp.Version && d.to.Is4()
	switch {
	case isNATPMP && x.NATPMP:
		x.serveNATPMP()
	case x.PCP:
		x.servePCP()
	case x.NATPMP: // PCP or no version at all
		x.serveNATPMP()
	}
}

// reply sends what word appends to the client, from the address that it asked
// (RFC 6886, section 3.1; RFC 6887, section 8.3). What cannot be sent at once
// is lost: the client asks again.
func (x exchange) reply(word func([]byte) []byte) {
	if err := x.conn.send(word, x.asked, x.client); err != nil {
		x.Log.Debug("reply is lost", "client", x.client.Addr(), "err", err)
	}
}

// mayAsk reports whether a datagram goes from a neighbour to one of the
// router's own addresses on that interface. Everybody else gets silence.
func mayAsk(own []netip.Prefix, from netip.AddrPort, to netip.Addr) bool {
	source := from.Addr().WithZone("")
	neighbour, asked := false, false
	for _, p := range own {
		if p.Addr() == source {
			return false
		}
		neighbour = neighbour || p.Contains(source) && !isEdge(p, source)
		asked = asked || p.Addr() == to
	}
	return neighbour && asked && from.Port() != 0
}

// isEdge reports whether a is the broadcast address of an IPv4 network, new or
// old style.
func isEdge(network netip.Prefix, a netip.Addr) bool {
	if !a.Is4() || network.Bits() > 30 {
		return false
	}
	first := network.Masked().Addr()
	return a == first || !network.Contains(a.Next())
}
