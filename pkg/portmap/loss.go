package portmap

import "slices"

// Loss is a mapping that was in force and is closed or dormant now, though its
// lease has not ended and no client has deleted it.
type Loss struct {
	Mapping *Mapping
	Reason  Refusal
}

// needsEpoch reports whether a client of the mapping learns of the loss from a
// new epoch alone.
func (l Loss) needsEpoch() bool { return slices.ContainsFunc(l.Mapping.Claims, Claim.needsEpoch) }

// needsEpoch reports whether the client learns from a new epoch alone that the
// claim is lost. A PCP client gets an update at the address of its last request
// (RFC 6887, section 14.2), if that was to this process, and UPnP has events.
// NAT-PMP has no message for it (RFC 6886, section 3.7).
func (c Claim) needsEpoch() bool {
	return c.Origin == NATPMP || c.Origin == PCP && c.Contact == nil
}

// needEpoch reports whether one of the losses needs a new epoch.
func needEpoch(losses []Loss) bool { return slices.ContainsFunc(losses, Loss.needsEpoch) }
