// Package upnpd answers UPnP control points over HTTP: device description,
// control (SOAP) and events (GENA) of an Internet Gateway Device.
package upnpd

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"time"

	"igdd/pkg/lan"
	"igdd/pkg/portmap"
	"igdd/pkg/upnp"
)

// Table decides requests and holds the mappings; portmap.Table is one.
type Table interface {
	// Do waits for the decision on a request.
	Do(context.Context, portmap.Request) (portmap.Answer, error)
	// List returns all mappings, At the i-th port mapping.
	List() []*portmap.Mapping
	At(i int) (*portmap.Mapping, bool)
	// LookupOuter returns the mapping that clients know by an external port, Pinhole that
	// of a UniqueID.
	LookupOuter(p portmap.Protocol, port uint16) (*portmap.Mapping, bool)
	Pinhole(id uint16) (*portmap.Mapping, bool)
	// Count returns the number of mappings and of changes ever made to them.
	Count() (mappings int, updates uint32)
	// External returns the external IPv4 address; the zero Addr means none.
	External() netip.Addr
}

// Uplink is the state of the external interface.
type Uplink struct {
	Up    bool      // has carrier
	Since time.Time // when it got its address; zero: it has none
}

// Traffic is what the external interface has carried, and how fast it is.
type Traffic struct {
	BytesSent, BytesReceived     uint64
	PacketsSent, PacketsReceived uint64
	UpstreamRate, DownstreamRate uint64 // bit/s
}

// Options configure a Server.
type Options struct {
	Gateway  upnp.Gateway   // texts of the device description
	Versions []upnp.Version // of the descriptions to offer, the lower first
	Port     uint16         // TCP port
	IPv6     bool           // listen on IPv6 too
	Hosts    *lan.Hosts     // tells the clients apart
	Product  string         // the SERVER field: OS/version UPnP/1.1 product/version
	Table    Table
	// SameHost reports whether an IPv6 address on an interface belongs to the
	// same host as the client's; nil: that is never known.
	SameHost func(ctx context.Context, device string, client, other netip.Addr) bool
	Uplink   func() Uplink
	Traffic  func() Traffic
	// Packets returns how many packets came through a pinhole.
	Packets func(*portmap.Mapping) (uint64, error)
	// Leased returns the IPv4 addresses that DHCP has leased to hosts of a name.
	Leased func(name string) []netip.Addr
	Log    *slog.Logger
}

// Server answers on any number of interfaces; each has a Listener.
type Server struct {
	opts         Options
	descriptions []*upnp.Description
	oldest       *upnp.Description // version 1 alone, as old clients need it
	documents    *documents
	actions      map[string]action
	// The services by the paths of their URLs.
	controls, events map[string]*upnp.Service
	paths            map[string]string // of all URLs by their canonical forms

	subscriptions *subscriptions
	lists         *turns
	changed       chan struct{}
}

// New returns a server that listens nowhere yet.
func New(o Options) *Server {
	s := &Server{opts: o, controls: make(map[string]*upnp.Service), events: make(map[string]*upnp.Service)}
	s.descriptions, s.oldest = o.Gateway.Descriptions(o.Versions...), o.Gateway.Description(upnp.V1)
	for _, description := range s.descriptions {
		for _, d := range description.Devices {
			for _, service := range d.Services {
				for _, v := range []upnp.Version{upnp.V1, description.Version} {
					s.controls[service.ControlPath(v)] = service
					s.events[service.EventPath(v)] = service
				}
			}
		}
	}
	s.documents = newDocuments(s.descriptions, s.oldest)
	s.paths = spellings(maps.Keys(s.controls), maps.Keys(s.events), maps.Keys(s.documents.byPath))
	s.actions = actions()
	s.subscriptions = newSubscriptions(s.state, (*subscription).dial, o.Log)
	s.lists = newTurns()
	s.changed = make(chan struct{}, 1)
	return s
}

// Run delivers events until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	s.subscriptions.run(ctx, s.changed)
	return nil
}

// HTTPPort returns the TCP port of all listeners.
func (s *Server) HTTPPort() uint16 { return s.opts.Port }

// Changed must be called when mappings, the external address or the uplink may
// have changed. It does not block.
func (s *Server) Changed() {
	select {
	case s.changed <- struct{}{}:
	default: // Run has yet to see an earlier change
	}
}

// Descriptions returns the device descriptions on offer, the lower version first.
func (s *Server) Descriptions() []*upnp.Description { return s.descriptions }

// highest returns the highest version on offer.
func (s *Server) highest() upnp.Version { return s.opts.Versions[len(s.opts.Versions)-1] }

// versionAt returns the version of the description whose URL for a service has
// this path. URLs that clients know without a search belong to the lowest version
// on offer.
func (s *Server) versionAt(path string, service *upnp.Service) upnp.Version {
	highest := s.highest()
	if path == service.ControlPath(highest) || path == service.EventPath(highest) {
		return highest
	}
	return s.opts.Versions[0]
}

// description returns the device description of a version.
func (s *Server) description(v upnp.Version) *upnp.Description {
	if v == upnp.V1 {
		return s.oldest
	}
	return s.descriptions[len(s.descriptions)-1]
}
