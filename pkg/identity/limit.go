package identity

// How many hosts are asked for at once, for all and for one client. A client may
// have several addresses, and over HTTP as many connections that may be slow; all
// clients whose hardware address is not known share what strangers may have, so
// that whoever makes up addresses holds up strangers alone.
const (
	maxLookups         = 32
	maxPerClient       = 4
	maxPerClientDirect = 8
	maxUnknown         = 16
)

// lookupLimiter are for hosts that are being asked for.
type lookupLimiter struct {
	clients   map[string]int // taken by each client, by hardware address; empty: not known
	perClient int            // that a client may take
	total     int
}

// acquire gives a client one more place, if there is one.
func (l *lookupLimiter) acquire(client string) bool {
	most := l.perClient
	if client == "" {
		most = maxUnknown
	}
	if l.total >= maxLookups || l.clients[client] >= most {
		return false
	}
	l.total++
	l.clients[client]++
	return true
}

// release frees a client's place.
func (l *lookupLimiter) release(client string) {
	l.total--
	if l.clients[client]--; l.clients[client] == 0 {
		delete(l.clients, client)
	}
}
