package pcpd

import (
	"time"

	"igdd/pkg/pcp"
	"igdd/pkg/portmap"
)

// How long CANNOT_PROVIDE_EXTERNAL lasts: until the mapping that is in the way
// has ended and its port has rested (RFC 6887, section 15), within these
// bounds.
const (
	rest         = 120 * time.Second
	leastBlocked = 30 * time.Second
	mostBlocked  = 24*time.Hour + rest
)

// untilKnown is how long a host is refused that is not known: no longer than
// what RFC 6887, section 7.4, calls a short lifetime.
const untilKnown = 30 * time.Second

// mapResult words the desk's answer as a result with its lifetime.
func mapResult(ask portmap.Request, a portmap.Answer) (pcp.Result, time.Duration) {
	result := pcpResult(ask, a)
	switch c, foreign := foreignClaim(ask, a.Mapping); {
	case result == pcp.NotAuthorized && foreign:
		return result, max(time.Second, time.Until(c.Expires))
	case a.Refusal == portmap.UnknownHost:
		return result, untilKnown
	case result == pcp.CannotProvideExternal && a.Mapping != nil:
		return result, busyFor(a.Mapping)
	}
	return result, result.Lifetime()
}

// pcpResult translates a refusal (RFC 6887, section 7.4).
func pcpResult(ask portmap.Request, a portmap.Answer) pcp.Result {
	switch a.Refusal {
	case portmap.Granted:
		if ask.Op == portmap.Open && static(a.Mapping) && len(ask.Filters) > 0 {
			return pcp.NotAuthorized // rather than open to more than was asked
		}
		return pcp.Success
	case portmap.NotAuthorized:
		if _, foreign := foreignClaim(ask, a.Mapping); ask.Exact && !foreign {
			return pcp.CannotProvideExternal // the rules forbid that port
		}
		return pcp.NotAuthorized
	case portmap.UnknownHost, portmap.BadTarget:
		return pcp.NotAuthorized
	case portmap.Conflict, portmap.PortInUse:
		return pcp.CannotProvideExternal
	case portmap.QuotaExceeded:
		return pcp.UserExQuota
	case portmap.TooManyFilters:
		return pcp.ExcessiveRemotePeers
	case portmap.NoExternalAddress:
		return pcp.NetworkFailure
	}
	return pcp.NoResources
}

// foreignClaim returns the claim on m that another nonce protects, if that is
// the request's own target. Where it is renewed nevertheless its text stays.
func foreignClaim(ask portmap.Request, m *portmap.Mapping) (portmap.Claim, bool) {
	if m == nil || m.Internal != ask.Internal {
		return portmap.Claim{}, false
	}
	c, ok := m.Flow(ask.Remote) // without a remote peer: that of MAP
	return c, ok && c.Nonce != ask.Nonce
}

// busyFor returns how long m keeps others from its port.
func busyFor(m *portmap.Mapping) time.Duration {
	left := m.Remaining(time.Now())
	if left == 0 { // for ever
		return mostBlocked
	}
	return min(max(left+rest, leastBlocked), mostBlocked)
}
