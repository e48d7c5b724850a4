package upstream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"

	"igdd/pkg/pcp"
)

// errNoLifetime is the error of a forwarding that has ended when it begins.
var errNoLifetime = &routerError{cause: invalid, reason: "the router in front forwards the port for no time at all"}

// addressWait is how long a PCP server may take to tell its address by NAT-PMP.
const addressWait = 500 * time.Millisecond

// maxOthers is how many other external ports are asked for where the server must be asked
// for one port at a time.
const maxOthers = 3

// pcpRouter is a router that speaks PCP (RFC 6887).
type pcpRouter struct {
	server
	unknown atomic.Uint32 // optionSet that it does not know
	silent  atomic.Bool   // it does not tell its address by NAT-PMP
}

// open asks for the suggested port and, where another will do and that one cannot be had,
// for any.
func (r *pcpRouter) open(ctx context.Context, a ask) (grant, error) {
	g, err := r.openWith(ctx, a, a.options())
	switch {
	case a.exact || !errors.Is(err, pcp.CannotProvideExternal):
		return g, err
	case r.hangs():
		return r.openOther(ctx, a)
	}
	return r.openWith(ctx, a, a.options()&^preferFailure)
}

// hangs reports whether the server is of the kind of miniupnpd 2.3.1, which cannot read
// descriptions: without PREFER_FAILURE it looks for a port for ever if its rules deny all.
func (r *pcpRouter) hangs() bool { return optionSet(r.unknown.Load())&descriptions != 0 }

// openOther asks for one other external port after the other, far from each other, since
// rules deny ranges of them.
func (r *pcpRouter) openOther(ctx context.Context, a ask) (grant, error) {
	const span = (1<<16 - minTried) / maxOthers
	wanted := a.suggested
	for n := range maxOthers {
		a.suggested = uint16(minTried + n*span + rand.N(span))
		if g, err := r.openWith(ctx, a, a.options()); !errors.Is(err, pcp.CannotProvideExternal) {
			return g, err
		}
	}
	return grant{}, &routerError{cause: denied, reason: fmt.Sprintf("the router in front cannot provide port %d, nor others: its rules may have to allow them", wanted)}
}

// openWith asks for the port with options, without those that the server does not know:
// remote peers are filtered here anyway.
func (r *pcpRouter) openWith(ctx context.Context, a ask, options optionSet) (grant, error) {
	for {
		sent := options &^ optionSet(r.unknown.Load())
		g, err := r.requestMap(ctx, a, sent.list(a))
		refused := sent.refusedBy(err)
		if refused == 0 {
			return g, err
		}
		if options &^= refused; !errors.Is(err, pcp.ExcessiveRemotePeers) {
			r.unknown.Or(uint32(refused))
		}
	}
}

// requestMap sends a MAP request.
func (r *pcpRouter) requestMap(ctx context.Context, a ask, options []pcp.Option) (grant, error) {
	req := r.mapping(a)
	req.Lifetime, req.Options = a.lifetime, options
	req.External = netip.AddrPortFrom(netip.IPv4Unspecified(), a.suggested)
	reply, ep, err := r.ask(ctx, req)
	switch {
	case err != nil:
		return grant{}, err
	case reply.Lifetime == 0:
		return grant{}, errNoLifetime
	}
	return grant{external: reply.External, lifetime: reply.Lifetime, epoch: ep}, nil
}

func (r *pcpRouter) close(ctx context.Context, a ask) error {
	_, _, err := r.ask(ctx, r.mapping(a))
	return err
}

// check asks by ANNOUNCE (section 14.1). A router that does not know it tells its epoch
// nevertheless.
func (r *pcpRouter) check(ctx context.Context) (state, error) {
	_, ep, err := r.ask(ctx, pcp.Request{Client: r.gateway.Local})
	if err != nil && !errors.Is(err, pcp.UnsuppOpcode) {
		return state{}, err
	}
	return state{external: r.external(ctx), epoch: ep}, nil
}

// external returns the external address; the zero Addr if it is not told. PCP tells it with
// a forwarding only, but most of its servers speak NAT-PMP too: they are given addressWait,
// once.
func (r *pcpRouter) external(ctx context.Context) netip.Addr {
	if r.silent.Load() {
		return netip.Addr{}
	}
	limited, cancel := context.WithTimeout(ctx, addressWait)
	defer cancel()
	s, err := natpmpRouter{r.server}.check(limited)
	if err != nil && ctx.Err() == nil && causeOf(err) != denied {
		r.silent.Store(true)
	}
	return s.external
}

// mapping returns the MAP request that deletes the forwarding.
func (r *pcpRouter) mapping(a ask) pcp.Request {
	return pcp.Request{Opcode: pcp.Map, Client: r.gateway.Local, Mapping: pcp.Mapping{
		Nonce: pcp.Nonce(a.nonce), Protocol: uint8(a.protocol), InternalPort: a.port,
		External: netip.AddrPortFrom(netip.IPv4Unspecified(), 0),
	}}
}

// ask returns the answer to a request that was granted, and its epoch.
func (r *pcpRouter) ask(ctx context.Context, req pcp.Request) (reply pcp.Response, ep epoch, err error) {
	other, sent := false, time.Now()
	err = r.exchange(ctx, req.Append(nil), func(b []byte) bool {
		if other = isOtherVersion(b, pcp.Version); other {
			return true
		}
		var malformed error
		reply, malformed = pcp.ParseResponse(b)
		ep = epoch{reply.Epoch, sent, time.Now()}
		return malformed == nil && reply.Opcode == req.Opcode && (isBare(reply) || isSame(reply.Mapping, req.Mapping))
	})
	switch {
	case err != nil:
	case other, reply.Result == pcp.UnsuppVersion:
		err = &routerError{cause: foreign, reason: "the router in front does not speak PCP"}
	case reply.Result != pcp.Success:
		err = pcpError(reply)
	}
	return reply, ep, err
}

// isBare reports whether a response has nothing to recognize its request by.
func isBare(r pcp.Response) bool {
	return r.Result == pcp.UnsuppVersion || r.Result == pcp.UnsuppOpcode
}

// isSame reports whether both are about the same mapping of this router (section 11.4).
func isSame(a, b pcp.Mapping) bool {
	return a.Nonce == b.Nonce && a.Protocol == b.Protocol && a.InternalPort == b.InternalPort
}

// pcpError returns the error of a response that refuses a request.
func pcpError(r pcp.Response) *routerError {
	e := &routerError{cause: denied, reason: "the router in front says " + r.Result.Error(), retry: r.Lifetime, result: r.Result}
	switch r.Result {
	case pcp.CannotProvideExternal:
		e.cause = taken
	case pcp.NotAuthorized:
		e.reason += ": its settings may have to allow PCP, or another host has the mapping"
	case pcp.AddressMismatch:
		e.reason += ": something between it and this router changes addresses"
	}
	return e
}
