package identity

// How many hosts are asked for at once, for all and for one client. A client may
// have several addresses, and over HTTP as many connections that may be slow; all
// clients whose hardware address is not known share what strangers may have, so
// that whoever makes up addresses holds up strangers alone.
const (
	maxLookups      = 32
	perClient       = 4
	perClientDirect = 8
	perUnknown      = 16
)

// lookupLimiter are for hosts that are being asked for.
type lookupLimiter struct {
	clients map[string]int // taken by each client, by hardware address; empty: not known
	each    int            // that a client may take
	taken   int
}

// acquire gives a client one more place, if there is one.
func (p *lookupLimiter) acquire(client string) bool {
	most := p.each
	if client == "" {
		most = perUnknown
	}
	if p.taken >= maxLookups || p.clients[client] >= most {
		return false
	}
	p.taken++
	p.clients[client]++
	return true
}

// release frees a client's place.
func (p *lookupLimiter) release(client string) {
	p.taken--
	if p.clients[client]--; p.clients[client] == 0 {
		delete(p.clients, client)
	}
}
