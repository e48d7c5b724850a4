package control

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"igdd/pkg/portmap"
	"igdd/pkg/xtables"
)

// Traced is the path of a connection from outside that comes in by one uplink.
type Traced struct {
	xtables.Connection
	xtables.Path
	Owned     bool // a rule of the daemon's lets it pass
	Listening bool // a program of the router listens at To; only if the path is Local
}

// path is a Traced as the tool gets and prints it.
type path struct {
	Schema      int            `json:"schema"`
	Uplink      string         `json:"uplink"`
	Protocol    string         `json:"protocol"`
	From        string         `json:"from"` // an address, with a port if that was given
	To          netip.AddrPort `json:"to"`
	Steps       []pathStep     `json:"steps"`
	Fate        string         `json:"fate"`                 // fateArrives, fateStopped or fateUnknown
	By          string         `json:"by,omitempty"`         // what stops it or may stop it
	DependsOn   string         `json:"depends_on,omitempty"` // the rule on which an unknown fate depends
	Destination netip.AddrPort `json:"destination,omitzero"` // where it goes; absent: not known
	Router      bool           `json:"router"`               // that is an address of the router
	Mapping     *pathMapping   `json:"mapping,omitempty"`    // that lets it pass; absent: none does
	Listener    string         `json:"listener,omitempty"`   // absent: not asked, or the connection is stopped
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

// trace sends the path of a connection from outside by each uplink.
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
		Schema: schemaVersion, Uplink: from.In, Protocol: protocol.String(), From: sourceText(from.Source), To: from.Connection.Destination,
		Steps: []pathStep{}, Fate: [...]string{xtables.Arrives: fateArrives, xtables.Stopped: fateStopped, xtables.Unknown: fateUnknown}[from.Fate],
		By: from.By, DependsOn: from.Doubt, Destination: from.Path.To, Router: from.Local,
	}
	for _, step := range from.Steps {
		p.Steps = append(p.Steps, pathStep{
			Program: step.Program, Table: step.Table, Chain: step.Chain, Number: step.Index + 1, Depth: step.Depth, Rule: step.Text, Certain: step.IsCertain(),
		})
	}
	if from.Owned {
		p.Mapping = s.pathMapping(from, protocol)
	}
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

// pathMapping returns the mapping that leads a connection to its destination, nil if
// none does.
func (s *Server) pathMapping(from Traced, protocol portmap.Protocol) *pathMapping {
	port, to := from.Connection.Destination.Port(), from.Path.To
	list := s.opts.Table.List()
	i := slices.IndexFunc(list, func(m *portmap.Mapping) bool {
		return m.Protocol == protocol && m.ExternalPort() == port && m.Internal == to
	})
	if i < 0 {
		return nil
	}
	e := entry(list[i], time.Now())
	known, err := s.opts.Hosts()
	if err != nil {
		s.opts.Log.Warn("cannot read which hosts are on the LAN", "err", err)
	}
	return &pathMapping{e.ExternalPort, e.Client, e.ClientPort, known[e.Client].Name, e.Origins, e.Description}
}
