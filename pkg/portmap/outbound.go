package portmap

import (
	"net/netip"
	"time"
)

// existingOutbound does for PEER what existing does for others: it returns the
// mapping that has the flow already, else one to the same target, whose port
// the flow shares.
func (al *allocator) existingOutbound(req *Request) (*Mapping, Refusal) {
	var shared *Mapping
	for _, m := range al.index.toTarget(target{req.Protocol, req.Internal}) {
		if c, ok := m.claim(PCP, req.Remote); ok {
			if !al.mayRenew(m, c, req) {
				return m, NotOwner
			}
			return m, Granted
		}
		if shared == nil || m.External == req.External {
			shared = m
		}
	}
	switch {
	case shared == nil:
		return nil, Granted
	case req.hasFlowPort && req.External != shared.External:
		return nil, Granted // the flow keeps its own port
	case req.needsExactPort() && req.External != shared.externalEndpoint().Port(), al.wantsOtherAddress(req):
		return shared, Conflict
	}
	return shared, Granted
}

// withFlowPort returns a PEER request with the external port that the flow has
// already, if it has one, instead of the suggested port (RFC 6887, section
// 12.3).
func (al *allocator) withFlowPort(req *Request) *Request {
	if al.flowPort == nil || req.Internal.Addr().Is6() {
		return req
	}
	port, known := al.flowPort(req.Protocol, req.Internal, req.Remote)
	if !known {
		return req
	}
	n := *req
	n.External, n.ExternalAddr, n.hasFlowPort = port, netip.Addr{}, true
	return &n
}

// wantsOtherAddress reports whether PEER suggests an external address that the
// mapping cannot have.
func (al *allocator) wantsOtherAddress(req *Request) bool {
	own := al.network.External
	if req.Internal.Addr().Is6() {
		own = req.Internal.Addr()
	}
	return req.ExternalAddr.IsValid() && req.ExternalAddr != own
}

// requestedLifetime returns the lifetime that the request asks for. PEER asks
// with 0 how long the flow's port is kept (RFC 6887, section 15); for others 0
// is for ever.
func (req *Request) requestedLifetime() time.Duration {
	if req.Remote.IsValid() {
		return max(req.Lifetime, time.Second)
	}
	return req.Lifetime
}
