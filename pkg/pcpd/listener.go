package pcpd

import (
	"context"
	"net/netip"

	"golang.org/x/sync/errgroup"

	"igdd/pkg/lan"
	"igdd/pkg/natpmp"
	"igdd/pkg/pcp"
	"igdd/pkg/portmap"
)

// Listener answers the clients of one interface.
type Listener struct {
	server    *Server
	on        lan.Interface
	sockets   lan.Sockets // IPv4, then IPv6 if it is enabled
	backlog   *backlog
	announcer announcer
}

// Announcements stay on the link.
var (
	ipv4 = lan.Options{At: netip.AddrPortFrom(netip.IPv4Unspecified(), pcp.ServerPort), Hops: 1}
	ipv6 = lan.Options{At: netip.AddrPortFrom(netip.IPv6Unspecified(), pcp.ServerPort), Hops: 1}
)

// Listen opens the sockets on one interface. They buffer requests until Serve.
func (s *Server) Listen(on lan.Interface) (*Listener, error) {
	families := []lan.Options{ipv4}
	if s.opts.IPv6 && s.opts.PCP { // NAT-PMP has no IPv6
		families = append(families, ipv6)
	}
	sockets, err := lan.Listen(on, s.opts.Hosts, families...)
	if err != nil {
		return nil, err
	}
	l := &Listener{server: s, on: on, sockets: sockets, backlog: newBacklog()}
	l.announcer = announcer{triggered: make(chan struct{}, 1), current: s.state, send: l.sendCopy}
	return l, nil
}

// Serve announces the server on its interface and answers until ctx ends. Then
// it closes the sockets.
func (l *Listener) Serve(ctx context.Context) error {
	l.server.add(l)
	defer l.server.remove(l)
	tasks, ctx := errgroup.WithContext(ctx)
	for _, s := range l.sockets {
		tasks.Go(func() error { return s.Receive(l.handle) })
	}
	tasks.Go(func() error { l.backlog.serve(ctx, exchange.serve); return nil })
	tasks.Go(func() error {
		defer l.sockets.Close() // ends the receivers
		l.announcer.run(ctx)
		return nil
	})
	return tasks.Wait()
}

// exchange is a datagram with the addresses for a response.
type exchange struct {
	*Server
	lan        string // name of the interface
	socket     *lan.Socket
	client     netip.AddrPort
	host       lan.Host   // the client
	routerAddr netip.Addr // the router's address that the client sent to
	packet     []byte     // belongs to the receiver: valid until handle returns

	backlog *backlog
	queued  bool // from the backlog; the packet is a copy

	deliver func(response []byte) // takes the response in place of the socket; nil: the socket does
}

// handle answers a datagram, or puts it into the backlog. It never blocks: the next
// datagrams must be read before the socket's buffer is full.
func (l *Listener) handle(s *lan.Socket, d lan.Datagram) {
	x := exchange{
		Server: l.server, lan: l.on.Name(), socket: s, client: d.From, host: d.Host, routerAddr: d.To,
		packet: d.Payload, backlog: l.backlog,
	}
	if !x.serve() {
		l.backlog.add(x)
	}
}

// serve answers a request, or submits it to the table. False: the request must wait.
func (x exchange) serve() bool {
	isNATPMP := len(x.packet) > 0 && x.packet[0] == natpmp.Version && x.routerAddr.Is4()
	switch {
	case isNATPMP && x.opts.NATPMP:
		return x.serveNATPMP()
	case x.opts.PCP:
		return x.servePCP()
	case x.opts.NATPMP: // PCP or an unknown version
		return x.serveNATPMP()
	}
	return true
}

// submit passes a request to the table. False: it must wait, because the table
// accepts no more of this client now or because earlier requests of it are queued.
func (x exchange) submit(r portmap.Request, answer func(portmap.Answer)) bool {
	if !x.queued && x.backlog.hasHost(x.host) {
		return false
	}
	r.ClientHost = string(x.host)
	return x.opts.Table.Submit(r, func(a portmap.Answer) { answer(a); x.backlog.wake() })
}

// reply sends the response that appendTo appends, from the address that the client
// sent to (RFC 6886, section 3.1; RFC 6887, section 8.3). A response that cannot be
// sent at once is lost: the client repeats its request.
func (x exchange) reply(appendTo func([]byte) []byte) {
	if x.deliver != nil {
		x.deliver(appendTo(nil))
		return
	}
	if err := x.socket.Send(appendTo, x.routerAddr, x.client); err != nil {
		x.opts.Log.Debug("cannot send response", "client", x.client.Addr(), "err", err)
	}
}
