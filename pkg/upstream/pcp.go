package upstream

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"igdd/pkg/pcp"
	"igdd/pkg/portmap"
)

// errNoLifetime is the error of a forwarding that has ended when it begins.
var errNoLifetime = &routerError{cause: invalid, reason: "the router in front forwards the port for no time at all"}

// maxFilters is how many filters fit into a packet beside a description of 256 octets. With
// more than that the router in front forwards what every remote peer sends.
const maxFilters = 30

// addressWait is how long a PCP server may take to tell its address by NAT-PMP.
const addressWait = 500 * time.Millisecond

// pcpRouter is a router that speaks PCP (RFC 6887).
type pcpRouter struct {
	server
	plain  atomic.Bool // it does not know all options
	silent atomic.Bool // it does not tell its address by NAT-PMP
}

// open asks for the port: without options if the router does not know them, since remote
// peers are filtered here anyway.
func (r *pcpRouter) open(ctx context.Context, a ask) (grant, error) {
	return r.openWith(ctx, a, r.options(a))
}

// openWith asks for the port with options, and once more without them if they are what
// the router refuses. Of some, miniupnpd 2.3.1 says that they are malformed: it does not
// know that they are padded.
func (r *pcpRouter) openWith(ctx context.Context, a ask, options []pcp.Option) (grant, error) {
	g, err := r.requestMap(ctx, a, options)
	unknown := errors.Is(err, pcp.UnsuppOption) || errors.Is(err, pcp.MalformedOption)
	if len(options) == 0 || !unknown && !errors.Is(err, pcp.ExcessiveRemotePeers) {
		return g, err
	}
	if unknown {
		r.plain.Store(true)
	}
	return r.requestMap(ctx, a, nil)
}

// requestMap sends a MAP request.
func (r *pcpRouter) requestMap(ctx context.Context, a ask, options []pcp.Option) (grant, error) {
	req := r.mapping(a)
	req.Lifetime, req.Options = a.lifetime, options
	req.External = netip.AddrPortFrom(netip.IPv4Unspecified(), a.suggested)
	reply, at, err := r.ask(ctx, req)
	switch {
	case err != nil:
		return grant{}, err
	case reply.Lifetime == 0:
		return grant{}, errNoLifetime
	}
	return grant{external: reply.External, lifetime: reply.Lifetime, epoch: epoch{reply.Epoch, at}}, nil
}

func (r *pcpRouter) close(ctx context.Context, a ask) error {
	_, _, err := r.ask(ctx, r.mapping(a))
	return err
}

// check asks by ANNOUNCE (section 14.1). A router that does not know it tells its epoch
// nevertheless.
func (r *pcpRouter) check(ctx context.Context) (state, error) {
	reply, at, err := r.ask(ctx, pcp.Request{Client: r.gateway.Local})
	if err != nil && !errors.Is(err, pcp.UnsuppOpcode) {
		return state{}, err
	}
	return state{external: r.external(ctx), epoch: epoch{reply.Epoch, at}}, nil
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

// options returns the options of the request that opens a forwarding. Filters add to
// those of an earlier request, unless they are removed first (section 13.3).
func (r *pcpRouter) options(a ask) (list []pcp.Option) {
	if r.plain.Load() {
		return nil
	}
	if a.exact {
		list = append(list, pcp.PreferFailure{})
	}
	if len(a.filters) > 0 || a.filtered {
		list = append(list, pcp.Filter{Remote: netip.AddrPortFrom(netip.IPv4Unspecified(), 0)})
	}
	if len(a.filters) <= maxFilters {
		for _, f := range a.filters {
			list = append(list, pcpFilter(f))
		}
	}
	if a.description != "" {
		list = append(list, pcp.Description{Text: a.description})
	}
	return list
}

// pcpFilter returns the option for a filter of an IPv4 mapping, whose address begins at
// bit 96 (section 5).
func pcpFilter(f portmap.Filter) pcp.Filter {
	return pcp.Filter{
		PrefixLength: uint8(96 + f.Prefix.Bits()),
		Remote:       netip.AddrPortFrom(f.Prefix.Addr(), f.Port),
	}
}

// ask returns the answer to a request that was granted, and when it came.
func (r *pcpRouter) ask(ctx context.Context, req pcp.Request) (reply pcp.Response, at time.Time, err error) {
	other := false
	err = r.exchange(ctx, req.Append(nil), func(b []byte) bool {
		if other = isOtherVersion(b, pcp.Version); other {
			return true
		}
		var malformed error
		reply, malformed = pcp.ParseResponse(b)
		at = time.Now()
		return malformed == nil && reply.Opcode == req.Opcode && (isBare(reply) || isSame(reply.Mapping, req.Mapping))
	})
	switch {
	case err != nil:
	case other, reply.Result == pcp.UnsuppVersion:
		err = &routerError{cause: foreign, reason: "the router in front does not speak PCP"}
	case reply.Result != pcp.Success:
		err = pcpError(reply)
	}
	return reply, at, err
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
