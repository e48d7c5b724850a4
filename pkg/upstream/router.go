package upstream

import (
	"context"
	"net/netip"
	"time"

	"igdd/pkg/portmap"
)

// router is the router in front, spoken to by one protocol. Its methods return nil, a
// *routerError, or the error of a context that ended. They may be called concurrently.
type router interface {
	// open asks for a port, or renews it.
	open(ctx context.Context, a ask) (grant, error)
	// close gives it back.
	close(ctx context.Context, a ask) error
	// check tells whether the router is still the same.
	check(ctx context.Context) (state, error)
}

// ask is what a router is asked for one mapping.
type ask struct {
	protocol    portmap.Protocol
	port        uint16           // of this router, which the forwarding leads to
	suggested   uint16           // external port; 0: any
	exact       bool             // no other external port will do
	lifetime    time.Duration    // whole seconds
	nonce       portmap.Nonce    // the same in each request for a mapping
	filters     []portmap.Filter // empty: every remote peer
	description string
}

// grant is what a router gave.
type grant struct {
	external netip.AddrPort // the zero Addr: the address was not told
	lifetime time.Duration  // 0: for ever
}

// state is what a router says of itself.
type state struct {
	external netip.Addr // the zero Addr: not told
	epoch    epoch      // the zero epoch: the protocol has none
}

// epoch is a router's count of the seconds since it lost its mappings, and when it said so.
type epoch struct {
	seconds uint32
	at      time.Time
}

// cause is why a router forwards nothing.
type cause uint8

const (
	denied   cause = iota + 1 // it answered, and said no
	silent                    // it did not answer
	foreign                   // it does not speak the protocol
	conflict                  // it gives the port to nobody else, or not this one
)

// routerError is why a router forwards nothing, as the operator is told.
type routerError struct {
	cause  cause
	reason string // as in "the router in front says: NOT_AUTHORIZED"
}

// Error returns the reason.
func (e *routerError) Error() string { return e.reason }
