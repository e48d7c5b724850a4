package upnpd

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"igdd/pkg/lan"
)

// Listener holds the HTTP sockets of one interface.
type Listener struct {
	server  *Server
	on      lan.Interface
	sockets []*lan.Listener
	begin   func(c *connection, a arrival, limiter *connLimiter, at *immediate) (rest func(stream)) // answer, except in tests
}

// Listen opens the HTTP port on one interface: an IPv4 socket, and an
// IPv6 socket where the settings and the kernel support it.
func (s *Server) Listen(on lan.Interface) (*Listener, error) {
	l := &Listener{server: s, on: on}
	l.begin = l.answer
	four, err := lan.ListenTCP(on, s.opts.Hosts, "tcp4", s.opts.Port)
	if err != nil {
		return nil, err
	}
	l.sockets = append(l.sockets, four)
	if !s.opts.IPv6 {
		return l, nil
	}
	six, err := lan.ListenTCP(on, s.opts.Hosts, "tcp6", s.opts.Port)
	switch {
	case errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EADDRNOTAVAIL):
	case err != nil:
		l.close()
		return nil, err
	default:
		l.sockets = append(l.sockets, six)
	}
	return l, nil
}

// Serve answers until ctx ends, then closes sockets and connections.
func (l *Listener) Serve(ctx context.Context) error {
	work, ctx := errgroup.WithContext(ctx)
	limiter := newConnLimiter()
	for _, socket := range l.sockets {
		work.Go(func() error {
			var at immediate
			return socket.Serve(func(a *lan.Arrival) func(*lan.Conn) {
				rest := l.begin(&connection{client: a.Client, local: a.Local, host: a.Host}, a, limiter, &at)
				if rest == nil {
					return nil
				}
				return func(c *lan.Conn) { rest(c) }
			})
		})
	}
	work.Go(func() error {
		<-ctx.Done()
		l.close() // ends the others
		limiter.closeAll()
		return nil
	})
	return work.Wait()
}

// close closes the sockets, which ends accepting. Closing twice does no harm.
func (l *Listener) close() {
	for _, s := range l.sockets {
		s.Close()
	}
}

// serve serves a connection, or says that there is no place for it.
func (l *Listener) serve(c *connection, s stream, limiter *connLimiter) {
	c.stream = s
	if !limiter.add(c) {
		l.refuse(c, limiter)
		return
	}
	defer limiter.release(c)
	l.serveConn(c, limiter)
}

// refuse says that there is no place for a connection. A few of them are not closed at
// once.
func (l *Listener) refuse(c *connection, limiter *connLimiter) {
	l.send(c, &request{close: true}, response{status: 503, fields: retryAfter}, limiter)
	if limiter.refused.Acquire(c.host) {
		defer limiter.refused.Release(c.host)
		c.linger(refuseFor)
	}
}

// retryAfter tells a client when to come back, in seconds.
var retryAfter = []byte("Retry-After: 1\r\n")
