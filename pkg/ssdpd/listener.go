package ssdpd

import (
	"context"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"igdd/pkg/clock"
	"igdd/pkg/lan"
	"igdd/pkg/ssdp"
)

// Listener answers and announces on one interface.
type Listener struct {
	server  *Server
	on      lan.Interface
	sockets lan.Sockets // IPv4, then IPv6 if it is enabled
	limiter *rateLimiter
	replies replyQueue
	wakeup  chan struct{} // replies is no longer empty
	events  chan event

	addrs groupAddrs // guarded by server.mu
}

// The multicast scope is that of UDA 1.1, section 1.1.1, and UDA 2.0, annex A.
var (
	ipv4 = lan.Options{
		At:     netip.AddrPortFrom(netip.IPv4Unspecified(), ssdp.Port),
		Groups: []netip.Addr{ssdp.IPv4.Addr()},
		Hops:   2,
	}
	ipv6 = lan.Options{
		At:     netip.AddrPortFrom(netip.IPv6Unspecified(), ssdp.Port),
		Groups: []netip.Addr{ssdp.LinkLocal.Addr(), ssdp.SiteLocal.Addr()},
		Hops:   10,
	}
)

// Listen opens the sockets on one interface. They buffer searches until Serve.
func (s *Server) Listen(on lan.Interface) (*Listener, error) {
	families := []lan.Options{ipv4}
	if s.opts.IPv6 {
		families = append(families, ipv6)
	}
	sockets, err := lan.Listen(on, s.opts.Hosts, families...)
	if err != nil {
		return nil, err
	}
	return &Listener{
		server: s, on: on, sockets: sockets,
		wakeup:  make(chan struct{}, 1),
		events:  make(chan event, 1),
		limiter: newRateLimiter(),
	}, nil
}

// Serve announces the gateway on its interface and answers until ctx ends.
// Then it sends byebye and closes the sockets.
func (l *Listener) Serve(ctx context.Context) error {
	l.server.add(l)
	defer l.server.remove(l)
	tasks, ctx := errgroup.WithContext(ctx)
	for _, s := range l.sockets {
		tasks.Go(func() error { return s.Receive(l.handle) })
	}
	tasks.Go(func() error {
		defer l.sockets.Close() // ends the receivers
		l.announce(ctx)
		return nil
	})
	return tasks.Wait()
}

// minSearchLen is the length of the shortest search that is answered, in octets: a tenth of
// a long response. Those of real programs have 90 or more.
const minSearchLen = 60

// handle queues the responses to a search. MX is ignored: one
// gateway on a link causes no storm, and some clients wait only a quarter of a second.
func (l *Listener) handle(s *lan.Socket, d lan.Datagram) {
	own, to := l.on.Prefixes(), groupForBroadcast(d.To)
	search, err := ssdp.ParseSearch(d.Payload, to)
	if err != nil || len(d.Payload) < minSearchLen {
		return
	}
	description, items := ssdp.Match(l.server.opts.Descriptions, search.Target)
	local := addrFor(own, d.From.Addr().WithZone(""), to)
	if len(items) == 0 || !local.IsValid() {
		return
	}
	now := time.Now()
	if items = l.limiter.limit(d.Host, items, now); len(items) == 0 {
		return
	}
	if l.replies.put(reply{host: d.Host, socket: s, from: local, to: d.From, description: description, items: items}, now) {
		select {
		case l.wakeup <- struct{}{}:
		default:
		}
	}
}

// sendDueReplies sends the responses that are due now.
func (l *Listener) sendDueReplies(now time.Time) {
	for r, ok := l.replies.take(now); ok; r, ok = l.replies.take(now) {
		sender := l.server.sender(r.from)
		l.send(r.socket, r.from, r.to, func(b []byte) []byte {
			return sender.AppendReply(b, r.description, r.items[0], dateOrZero(now))
		})
	}
}

// send sends the message that appendTo appends. A message that cannot be sent at once
// is lost.
func (l *Listener) send(s *lan.Socket, from netip.Addr, to netip.AddrPort, appendTo func([]byte) []byte) {
	if err := s.Send(appendTo, from, to); err != nil {
		l.server.opts.Log.Debug("cannot send SSDP message", "interface", l.on.Name(), "to", to, "err", err)
	}
}

// dateOrZero returns the time, or the zero Time if the clock has not been set.
func dateOrZero(now time.Time) time.Time {
	if !clock.IsSet(now) {
		return time.Time{}
	}
	return now
}
