package ssdpd

import (
	"context"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"igdd/pkg/ssdp"
)

// LAN is an interface that clients are behind.
type LAN interface {
	Name() string
	Index() int
	// Prefixes returns the router's own addresses there, each with the length
	// of its network, as they are now.
	Prefixes() []netip.Prefix
}

// waitingAnswers bounds the answers that have begun and are not at their end;
// further ones are dropped, as by a network under load.
const waitingAnswers = 64

// Listener answers and announces on one interface.
type Listener struct {
	server  *Server
	lan     LAN
	conns   []*conn // IPv4, then IPv6 if it is served
	allowed allowance
	answers chan run
	events  chan event

	at places // guarded by server.mu
}

// Listen opens the sockets on one interface. Searches wait in them for Serve.
func (s *Server) Listen(lan LAN) (*Listener, error) {
	l := &Listener{
		server: s, lan: lan,
		answers: make(chan run, waitingAnswers),
		events:  make(chan event, 1),
		allowed: allowance{sources: make(map[netip.Addr]source)},
	}
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
	if s.IPv6 {
		return []family{ipv4, ipv6}
	}
	return []family{ipv4}
}

// Serve announces the gateway on its interface and answers until ctx ends.
// Then it takes leave and closes the sockets.
func (l *Listener) Serve(ctx context.Context) error {
	l.server.open(l)
	defer l.server.leave(l)
	work, ctx := errgroup.WithContext(ctx)
	for _, c := range l.conns {
		work.Go(func() error { return c.receive(l.hear) })
	}
	work.Go(func() error {
		defer l.close() // ends the others
		l.announce(ctx)
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

// hear answers a search of whoever may be heard: the first message at once,
// whatever MX allows, since one gateway on a link makes no storm and some
// clients wait a quarter of a second for all. The others follow in a steady
// pace.
func (l *Listener) hear(c *conn, d datagram) {
	own := l.lan.Prefixes()
	if !mayAsk(own, d.from, d.to) {
		return
	}
	search, err := ssdp.ParseSearch(d.payload, d.to)
	if err != nil {
		return
	}
	face, items := ssdp.Match(l.server.Faces, search.Target)
	place := placeFor(own, d.from.Addr().WithZone(""), d.to)
	now := time.Now()
	if len(items) == 0 || !place.IsValid() || !l.allowed.admit(d.from.Addr(), len(items), now) {
		return
	}
	sender := l.server.sender(place)
	answer := run{conn: c, from: place, to: d.from}
	for _, i := range items {
		answer.messages = append(answer.messages, sender.AppendReply(nil, face, i, known(now)))
	}
	if answer = l.step(answer); len(answer.messages) > 0 {
		select {
		case l.answers <- answer:
		default:
		}
	}
}

// known returns the time, or the zero Time if the clock was never set.
func known(now time.Time) time.Time {
	if now.Year() < 2020 {
		return time.Time{}
	}
	return now
}
