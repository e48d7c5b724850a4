package portmap

import "iter"

// slugs are the reasons as monitoring knows them. They never change.
var slugs = [len(refusals)]string{
	Granted:           "granted",
	NotAuthorized:     "not_authorized",
	Conflict:          "conflict",
	PortInUse:         "port_in_use",
	NoPorts:           "no_ports",
	QuotaExceeded:     "quota_exceeded",
	TableFull:         "table_full",
	TooManyFilters:    "too_many_filters",
	NotFound:          "not_found",
	NoExternalAddress: "no_external_address",
	BadTarget:         "bad_target",
	FirewallFailed:    "firewall_failed",
	NoFirewall:        "no_firewall",
	Stopping:          "stopping",
	UnknownHost:       "unknown_host",
	NoNetwork:         "no_network",
	HeldDown:          "held_down",
	NotOwner:          "not_owner",
	Forwarded:         "forwarded",
	Blocked:           "blocked",
	NotProvided:       "not_provided",
	ShareExceeded:     "share_exceeded",
	NotForwarded:      "not_forwarded",
}

// Slug returns the reason as one word of lower-case letters and underscores.
func (r Refusal) Slug() string { return slugs[r] }

// Refusals returns all reasons for a refusal, without Granted.
func Refusals() iter.Seq[Refusal] {
	return func(yield func(Refusal) bool) {
		for r := Granted + 1; int(r) < len(refusals) && yield(r); r++ {
		}
	}
}
