package upstream

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/portmap"
)

// natpmpRouter is a router that speaks NAT-PMP (RFC 6886).
type natpmpRouter struct{ server }

// open asks for the port. NAT-PMP has neither filters nor a nonce, and may give another
// port than the suggested one.
func (r natpmpRouter) open(ctx context.Context, a ask) (grant, error) {
	reply, ep, err := r.ask(ctx, natpmp.Request{
		Opcode: opcode(a.protocol), InternalPort: a.port, SuggestedPort: a.suggested, Lifetime: a.lifetime,
	})
	switch {
	case err != nil:
		return grant{}, err
	case reply.Lifetime == 0:
		return grant{}, errNoLifetime
	}
	return grant{
		external: netip.AddrPortFrom(netip.Addr{}, reply.ExternalPort),
		lifetime: reply.Lifetime,
		epoch:    ep,
	}, nil
}

func (r natpmpRouter) close(ctx context.Context, a ask) error {
	_, _, err := r.ask(ctx, natpmp.Request{Opcode: opcode(a.protocol), InternalPort: a.port})
	return err
}

func (r natpmpRouter) check(ctx context.Context) (state, error) {
	reply, ep, err := r.ask(ctx, natpmp.Request{Opcode: natpmp.Address})
	if err != nil {
		return state{}, err
	}
	return state{external: reply.External, epoch: ep}, nil
}

// ask returns the answer to a request that was granted, and its epoch.
func (r natpmpRouter) ask(ctx context.Context, req natpmp.Request) (reply natpmp.Response, ep epoch, err error) {
	other, sent := false, time.Now()
	err = r.exchange(ctx, req.Append(nil), func(b []byte) bool {
		if other = isOtherVersion(b, natpmp.Version); other {
			return true
		}
		var malformed error
		reply, malformed = natpmp.ParseResponse(b)
		ep = epoch{reply.Epoch, sent, time.Now()}
		return malformed == nil && (reply.Result == natpmp.UnsupportedVersion ||
			reply.Opcode == req.Opcode && reply.InternalPort == req.InternalPort)
	})
	switch {
	case err != nil:
	case other, reply.Result == natpmp.UnsupportedVersion, reply.Result == natpmp.UnsupportedOpcode:
		err = &routerError{cause: foreign, reason: "the router in front does not speak NAT-PMP"}
	case reply.Result != natpmp.Success:
		err = &routerError{cause: denied, reason: "the router in front says: " + natpmpReason(reply.Result)}
	}
	return reply, ep, err
}

// opcode returns the opcode that asks for a mapping of p.
func opcode(p portmap.Protocol) natpmp.Opcode {
	if p == portmap.TCP {
		return natpmp.MapTCP
	}
	return natpmp.MapUDP
}

// natpmpReason returns a result in words.
func natpmpReason(r natpmp.Result) string {
	switch r {
	case natpmp.NotAuthorized:
		return "not authorized; its settings may have to allow NAT-PMP"
	case natpmp.NetworkFailure:
		return "it has no external address"
	case natpmp.OutOfResources:
		return "it has no port left"
	}
	return fmt.Sprintf("NAT-PMP result %d", r)
}
