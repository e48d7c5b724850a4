package identity

// How many hosts are asked for at once, for all and for one client. A client may
// have several addresses, and over HTTP as many connections that may be slow; all
// clients whose hardware address is not known share what strangers may have, so
// that whoever makes up addresses holds up strangers alone.
const (
	maxLookups      = 32
	perClient       = 4
	perClientDirect = 8
	forStrangers    = 16
)

// places are for hosts that are being asked for.
type places struct {
	clients map[string]int // taken by each client, by hardware address; empty: not known
	each    int            // that a client may take
	taken   int
}

// take gives a client one more place, if there is one.
func (p *places) take(client string) bool {
	most := p.each
	if client == "" {
		most = forStrangers
	}
	if p.taken >= maxLookups || p.clients[client] >= most {
		return false
	}
	p.taken++
	p.clients[client]++
	return true
}

// leave frees a client's place.
func (p *places) leave(client string) {
	p.taken--
	if p.clients[client]--; p.clients[client] == 0 {
		delete(p.clients, client)
	}
}
