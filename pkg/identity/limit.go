package identity

// How many lookups run at once: in total, for one client, for one client that
// waits for the answers itself (over HTTP it may have as many slow
// connections), and for all clients with unknown hardware addresses together,
// so that a client that makes up addresses delays unknown clients only.
const (
	maxLookups         = 32
	maxPerClient       = 4
	maxPerClientDirect = 8
	maxUnknown         = 16
)

// lookupLimiter bounds the lookups that run at once.
type lookupLimiter struct {
	clients   map[string]int // lookups by hardware address of the client; empty: not known
	perClient int            // limit for a client with a known address
	total     int
}

// acquire counts one more lookup of a client, if the limits allow it.
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

// release counts one lookup of a client as done.
func (l *lookupLimiter) release(client string) {
	l.total--
	if l.clients[client]--; l.clients[client] == 0 {
		delete(l.clients, client)
	}
}
