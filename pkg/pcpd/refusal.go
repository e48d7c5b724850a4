package pcpd

import (
	"time"

	"igdd/pkg/pcp"
	"igdd/pkg/portmap"
)

// How long CANNOT_PROVIDE_EXTERNAL is valid: until the other mapping has ended and the
// hold-down of its port is over (RFC 6887, section 15), within these bounds.
const (
	holdDown = 120 * time.Second
	minBusy  = 30 * time.Second
	maxBusy  = 24*time.Hour + holdDown
)

// unknownHostLifetime is how long the refusal of an unknown host is valid: a short
// lifetime by RFC 6887, section 7.4.
const unknownHostLifetime = 30 * time.Second

// mapResult returns the result code and lifetime for the table's answer.
func mapResult(ask portmap.Request, a portmap.Answer) (pcp.Result, time.Duration) {
	result := pcpResult(ask, a)
	switch c, hasOther := otherNonceClaim(ask, a.Mapping); {
	case result == pcp.NotAuthorized && hasOther:
		return result, max(time.Second, time.Until(c.Expires))
	case a.Refusal == portmap.UnknownHost:
		return result, unknownHostLifetime
	case a.Block != nil && !a.Block.Until.IsZero():
		return result, min(result.Lifetime(), max(time.Second, time.Until(a.Block.Until)))
	case result == pcp.CannotProvideExternal && a.Mapping != nil:
		return result, busyFor(a.Mapping)
	}
	return result, result.Lifetime()
}

// pcpResult returns the result code for a refusal (RFC 6887, section 7.4).
func pcpResult(ask portmap.Request, a portmap.Answer) pcp.Result {
	switch a.Refusal {
	case portmap.Granted:
		if ask.Op == portmap.Open && isStatic(a.Mapping) && len(ask.Filters) > 0 {
			return pcp.NotAuthorized // rather than open to more peers than requested
		}
		return pcp.Success
	case portmap.NotAuthorized, portmap.NotOwner, portmap.Blocked:
		if _, hasOther := otherNonceClaim(ask, a.Mapping); ask.Exact && !hasOther {
			return pcp.CannotProvideExternal // the rules forbid that port
		}
		return pcp.NotAuthorized
	case portmap.UnknownHost, portmap.BadTarget:
		return pcp.NotAuthorized
	case portmap.Conflict, portmap.HeldDown, portmap.PortInUse, portmap.Forwarded, portmap.NotProvided, portmap.NotForwarded:
		return pcp.CannotProvideExternal
	case portmap.QuotaExceeded, portmap.ShareExceeded:
		return pcp.UserExQuota
	case portmap.TooManyFilters:
		return pcp.ExcessiveRemotePeers
	case portmap.NoExternalAddress:
		return pcp.NetworkFailure
	}
	return pcp.NoResources
}

// otherNonceClaim returns the claim on m with another nonce, if m leads to the
// request's internal endpoint.
func otherNonceClaim(ask portmap.Request, m *portmap.Mapping) (portmap.Claim, bool) {
	if m == nil || m.Internal != ask.Internal {
		return portmap.Claim{}, false
	}
	c, ok := m.Flow(ask.Remote) // without a remote peer: that of MAP
	return c, ok && c.Nonce != ask.Nonce
}

// busyFor returns how long the port of m is unavailable to others.
func busyFor(m *portmap.Mapping) time.Duration {
	remaining := m.Remaining(time.Now())
	if remaining == 0 { // lasts for ever
		return maxBusy
	}
	return min(max(remaining+holdDown, minBusy), maxBusy)
}
