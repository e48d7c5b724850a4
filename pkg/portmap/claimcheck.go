package portmap

import "slices"

// checkClaim returns whether the rules allow m by a protocol that holds it.
func (al *allocator) checkClaim(m *Mapping, o Origin) Refusal {
	return al.checkRules(m.ExternalPort(), al.destination(m.Internal, m.Host, o), m.Description())
}

// checkClaims returns whether the rules allow m by every protocol that holds it.
func (al *allocator) checkClaims(m *Mapping) Refusal {
	for _, c := range m.Claims {
		if r := al.checkClaim(m, c.Origin); r != Granted {
			return r
		}
	}
	return Granted
}

// split returns m without the claims of protocols by which the rules deny it, and those
// claims; but m as it is if they deny it by all protocols.
func (al *allocator) split(m *Mapping) (kept Mapping, denied []Claim) {
	kept = *m
	if len(m.Claims) < 2 || !al.policy.selectsOrigins() {
		return kept, nil
	}
	isDenied := func(c Claim) bool { return al.checkClaim(m, c.Origin) == NotAuthorized }
	rest := m.without(isDenied)
	if rest == nil || len(rest.Claims) == len(m.Claims) {
		return kept, nil
	}
	isAllowed := func(c Claim) bool { return !isDenied(c) }
	return *rest, slices.DeleteFunc(slices.Clone(m.Claims), isAllowed)
}

// permittedBeside returns the claims on m that the rules certainly allow, and those of
// one protocol, by which the mapping is allowed: a renewal may have told which host
// has it now. The client of a claim that ends so gets no message: as a rule it has left
// the address, where another host would get it. Its own next renewal is refused.
func (al *allocator) permittedBeside(m *Mapping, o Origin) []Claim {
	if !al.policy.selectsOrigins() {
		return m.Claims
	}
	isLost := func(c Claim) bool { return c.Origin != o && al.checkClaim(m, c.Origin) != Granted }
	return slices.DeleteFunc(slices.Clone(m.Claims), isLost)
}
