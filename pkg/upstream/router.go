package upstream

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"time"

	"igdd/pkg/portmap"
)

// router is the router in front, spoken to by one protocol. The errors of its methods are
// *routerError, or that of a context that ended. They may be called concurrently.
type router interface {
	// open asks for a port, or renews it.
	open(ctx context.Context, a ask) (grant, error)
	// close gives it back.
	close(ctx context.Context, a ask) error
	// hurry lifts the limits on requests: the end gives back without them.
	hurry()
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
	nonce       portmap.Nonce    // the same in each request for a forwarding
	filters     []portmap.Filter // empty: every remote peer
	filtered    bool             // an earlier request for the forwarding had filters
	description string
}

// label returns the name for people of the forwarding.
func (a ask) label() string {
	return cmp.Or(a.description, fmt.Sprintf("igdd %d/%v", a.port, a.protocol))
}

// grant is what a router gave.
type grant struct {
	external netip.AddrPort // its address is the zero Addr if that was not told
	lifetime time.Duration  // 0: for ever
	epoch    epoch
}

// state is what a router says of itself.
type state struct {
	external netip.Addr // the zero Addr: not told
	epoch    epoch
	lost     bool // it no longer has a forwarding that it gave
}

// epoch is a router's count of the seconds since it lost its forwardings, as it answered a
// request. The zero epoch is that of a protocol without.
type epoch struct {
	seconds uint32
	sent    time.Time // the request, the first time
	at      time.Time // of the answer's arrival
}

// cause is why a router does not do what it was asked.
type cause uint8

const (
	denied  cause = iota + 1 // it says no
	taken                    // it would do so with another external port only
	silent                   // it does not answer
	foreign                  // it does not speak the protocol
	invalid                  // its answer makes no sense
)

// routerError is why a router does not do what it was asked.
type routerError struct {
	cause  cause
	reason string        // for the operator
	retry  time.Duration // how long the same is to be expected; 0: not told
	result error         // the protocol's own; nil: none
}

// Error returns the reason.
func (e *routerError) Error() string { return e.reason }

// Unwrap returns the protocol's own result.
func (e *routerError) Unwrap() error { return e.result }
