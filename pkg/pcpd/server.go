// Package pcpd answers NAT-PMP and PCP, which share UDP port 5351: it decodes
// requests, lets the table decide, and encodes the answers.
package pcpd

import (
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"igdd/pkg/lan"
	"igdd/pkg/pcp"
	"igdd/pkg/portmap"
)

// Table decides requests; portmap.Table is one.
type Table interface {
	// Submit queues a request; answer is called once, in the order of the
	// requests, and must not block. False: the table accepts no more, or no more
	// of this client, before it has answered.
	Submit(r portmap.Request, answer func(portmap.Answer)) bool
	// List returns all mappings.
	List() []*portmap.Mapping
	// External returns the announced IPv4 address; the zero Addr means none.
	External() netip.Addr
	// OuterEndpoint returns the external endpoint that a mapping's clients are told,
	// LookupOuter the mapping that they know by an external port.
	OuterEndpoint(*portmap.Mapping) netip.AddrPort
	LookupOuter(p portmap.Protocol, port uint16) (*portmap.Mapping, bool)
	// ToldLease returns the lease of a claim that its client is told.
	ToldLease(*portmap.Mapping, portmap.Claim) time.Duration
	// Epoch returns the seconds since mappings were last lost or moved.
	Epoch() uint32
}

// Options configure a Server.
type Options struct {
	NATPMP     bool       // answer NAT-PMP
	PCP        bool       // answer PCP
	IPv6       bool       // answer PCP over IPv6 too
	ThirdParty bool       // let PCP clients map for other hosts (RFC 6887, section 13.1)
	Peer       bool       // serve PEER (RFC 6887, section 12)
	RefuseMap  bool       // refuse MAP, but answer ANNOUNCE
	Hosts      *lan.Hosts // tells the clients apart
	Table      Table
	Log        *slog.Logger
}

// Server answers on any number of interfaces; each has a Listener.
type Server struct {
	opts    Options
	service pcp.Service

	mu        sync.Mutex // guards listeners
	listeners map[*Listener]bool
}

// New returns a server that listens nowhere yet.
func New(o Options) *Server {
	return &Server{
		opts:      o,
		service:   pcp.Service{ThirdParty: o.ThirdParty, Peer: o.Peer},
		listeners: make(map[*Listener]bool),
	}
}

// Announce announces to the clients on all interfaces that mappings may be lost or
// the external address has changed (RFC 6886, section 3.2.1; RFC 6887, section
// 14.1.3). The table must have the new state already.
func (s *Server) Announce() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.listeners {
		l.announcer.trigger()
	}
}

// add and remove maintain the listeners for Announce.
func (s *Server) add(l *Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners[l] = true
}

func (s *Server) remove(l *Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
}
