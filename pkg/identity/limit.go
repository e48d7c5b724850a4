package identity

import "igdd/pkg/fair"

// How many lookups run at once: in total, for one client, and for one client that
// waits for the answers itself: over HTTP it may have as many slow connections. The
// last lookups are kept for clients that have none under way. All clients whose
// hosts are not known count as one, so that a client that makes up addresses delays
// unknown clients only.
const (
	maxLookups         = 32
	sharedLookups      = 24
	maxPerClient       = 4
	maxPerClientDirect = 8
)

// newLimiter returns the counts of the lookups that run at once, by host of the
// client.
func newLimiter(perClient int) *fair.Counts[string] {
	return &fair.Counts[string]{PerHost: perClient, Shared: sharedLookups, Reserved: 1, Total: maxLookups}
}
