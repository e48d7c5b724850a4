package control

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"igdd/pkg/portmap"
	"igdd/pkg/xtables"
)

// Traced is the path of a connection that comes in by one uplink, or from a LAN.
type Traced struct {
	xtables.Connection
	xtables.Path
	FromLAN   bool // it is of a host on a LAN, and comes in there
	Owned     bool // a rule of the daemon's lets it pass
	Listening bool // a program of the router listens at To; only if the path is Local
}

// path is a Traced as the tool gets and prints it.
type path struct {
	Schema      int            `json:"schema"`
	Uplink      string         `json:"uplink"`        // that it comes in by, or from a LAN the interface that it leaves by; "": none
	LAN         string         `json:"lan,omitempty"` // the interface that it comes in by; absent: it comes from outside
	Protocol    string         `json:"protocol"`
	From        string         `json:"from"` // an address, with a port if that was given
	To          netip.AddrPort `json:"to"`
	Steps       []pathStep     `json:"steps"`
	Fate        string         `json:"fate"`                 // fateArrives, fateStopped or fateUnknown
	By          string         `json:"by,omitempty"`         // what stops it or may stop it
	DependsOn   string         `json:"depends_on,omitempty"` // the rule on which an unknown fate depends
	Destination netip.AddrPort `json:"destination,omitzero"` // where it goes; absent: not known
	Router      bool           `json:"router"`               // that is an address of the router
	Source      *pathSource    `json:"source,omitempty"`     // as which it is forwarded; absent: it is not, or that is not known
	SourceBy    string         `json:"source_depends_on,omitempty"`
	Mapping     *pathMapping   `json:"mapping,omitempty"`  // that lets it pass, or of its source; absent: none
	Listener    string         `json:"listener,omitempty"` // absent: not asked, or the connection is stopped
}

// pathStep is a rule that the connection passes.
type pathStep struct {
	Program string `json:"program,omitempty"` // if it is not the daemon's
	Table   string `json:"table"`
	Chain   string `json:"chain"`
	Number  int    `json:"number"` // of the rule in its chain, from 1
	Depth   int    `json:"depth"`  // of calls from a built-in chain
	Rule    string `json:"rule"`
	Certain bool   `json:"certain"` // the rule matches a connection that gets there
}

// pathSource is the source of a connection where it goes.
type pathSource struct {
	Address   netip.Addr `json:"address"`
	FirstPort uint16     `json:"first_port,omitempty"` // it has one from this to the last; absent: any
	LastPort  uint16     `json:"last_port,omitempty"`
	Kept      bool       `json:"kept"` // the port is its own, unless another connection has that
}

// pathMapping is the mapping of a path, in the words of list.
type pathMapping struct {
	ExternalPort uint16     `json:"external_port"`
	Client       netip.Addr `json:"client"`
	ClientPort   uint16     `json:"client_port"`
	HostName     string     `json:"host_name,omitempty"`
	Origins      []string   `json:"origins"`
	Description  string     `json:"description"`
}

// The fates of a connection.
const (
	fateArrives = "arrives"
	fateStopped = "stopped"
	fateUnknown = "unknown"
)

// What is known of a listener at the destination.
const (
	listenerYes     = "listening"
	listenerNone    = "refused"    // nothing listens there
	listenerSilent  = "no answer"  // the host is down, or its own firewall stops the router's connections
	listenerUnknown = "unknown"    // UDP has no handshake
	listenerForeign = "not probed" // it is not on a LAN that the daemon serves
)

// trace sends the path of a connection, from outside by each uplink.
func (s *Server) trace(ctx context.Context, r request, send func(reply) error) error {
	protocol := protocols[r.Protocol]
	if protocol == 0 || !r.Source.IsValid() || r.First == 0 {
		return errors.New("trace needs a source, a protocol and a port")
	}
	paths, err := s.opts.Trace(ctx, xtables.Connection{
		Source: r.Source, Destination: netip.AddrPortFrom(r.Destination, r.First), Protocol: xtables.Protocol(protocol),
	})
	switch {
	case err != nil:
		return err
	case len(paths) == 0:
		return errors.New("no uplink is up and has an address: no connection from outside can arrive")
	}
	for _, one := range paths {
		p := s.path(one, protocol)
		if err := send(reply{Path: &p}); err != nil {
			return err
		}
	}
	return nil
}

// path returns a path as the tool gets it.
func (s *Server) path(from Traced, protocol portmap.Protocol) path {
	p := path{
		Schema: schemaVersion, Protocol: protocol.String(), From: sourceText(from.Source), To: from.Connection.Destination,
		Steps: []pathStep{}, Fate: [...]string{xtables.Arrives: fateArrives, xtables.Stopped: fateStopped, xtables.Unknown: fateUnknown}[from.Fate],
		By: from.By, DependsOn: from.Doubt, Destination: from.Path.To, Router: from.Local, SourceBy: from.FromDoubt,
	}
	p.Uplink = from.In
	if from.FromLAN {
		p.Uplink, p.LAN = from.Out, from.In
	}
	if f := from.Path.From; f.Addr.IsValid() {
		p.Source = &pathSource{f.Addr, f.Ports.First, f.Ports.Last, f.Kept}
	}
	for _, step := range from.Steps {
		p.Steps = append(p.Steps, pathStep{
			Program: step.Program, Table: step.Table, Chain: step.Chain, Number: step.Index + 1, Depth: step.Depth, Rule: step.Text, Certain: step.IsCertain(),
		})
	}
	p.Mapping = s.pathMapping(from, protocol)
	switch {
	case !p.Router || p.Fate == fateStopped:
	case from.Listening:
		p.Listener = listenerYes
	default:
		p.Listener = listenerNone
	}
	return p
}

// sourceText returns an address with its port, unless that is 0.
func sourceText(a netip.AddrPort) string {
	if a.Port() == 0 {
		return a.Addr().String()
	}
	return a.String()
}

// pathMapping returns the mapping that leads a connection to its destination, or else the
// one to the port that it comes from; nil if there is none.
func (s *Server) pathMapping(from Traced, protocol portmap.Protocol) *pathMapping {
	m := findMapping(s.opts.Table.List(), from, protocol)
	if m == nil {
		return nil
	}
	e := entry(m, time.Now())
	known, err := s.opts.Hosts()
	if err != nil {
		s.opts.Log.Warn("cannot read which hosts are on the LAN", "err", err)
	}
	return &pathMapping{e.ExternalPort, e.Client, e.ClientPort, known[e.Client].Name, e.Origins, e.Description}
}

// findMapping returns the mapping of pathMapping. Of several to the port that the
// connection comes from, the one whose port it leaves by comes first.
func findMapping(list []*portmap.Mapping, from Traced, protocol portmap.Protocol) *portmap.Mapping {
	leads := func(m *portmap.Mapping) bool {
		return from.Owned && m.ExternalPort() == from.Connection.Destination.Port() && m.Internal == from.Path.To
	}
	own := func(m *portmap.Mapping) bool { return from.FromLAN && m.Internal == from.Source }
	same := func(m *portmap.Mapping) bool { return own(m) && m.ExternalPort() == from.Path.From.Ports.First }
	for _, matches := range [...]func(*portmap.Mapping) bool{leads, same, own} {
		for _, m := range list {
			if m.Protocol == protocol && matches(m) {
				return m
			}
		}
	}
	return nil
}
