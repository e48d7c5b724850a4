package control

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"igdd/pkg/hosts"
	"igdd/pkg/portmap"
)

// explainLifetime is what clients usually ask for, which explain supposes.
const explainLifetime = 2 * time.Hour

// handle answers one question by a number of lines.
func (s *Server) handle(ctx context.Context, q request, say func(reply) error) error {
	switch q.Do {
	case doList:
		return s.list(say)
	case doStatus:
		status := s.status()
		return say(reply{Status: &status})
	case doDelete:
		q.Seconds = 0
		return s.remove(ctx, q, say)
	case doBlock:
		return s.remove(ctx, q, say)
	case doExplain:
		return s.explain(ctx, q, say)
	}
	return fmt.Errorf("%q is no question: the tool and the daemon are of different versions", q.Do)
}

// list says one line for each mapping.
func (s *Server) list(say func(reply) error) error {
	mappings, now := s.Table.List(), time.Now() // before the counters: what is listed has its rules
	traffic, err := s.Traffic()
	if err != nil {
		s.Log.Warn("cannot read the counters of the rules", "err", err)
	}
	known, err := s.Hosts()
	if err != nil {
		s.Log.Warn("cannot tell which hosts are on the LAN", "err", err)
	}
	for _, m := range mappings {
		e := entry(m, now)
		if t, ok := traffic[m.Key]; ok {
			e.Packets, e.Bytes = &t.Packets, &t.Bytes
		}
		if h, ok := known[m.Internal.Addr()]; ok {
			e.identify(h)
		}
		if err := say(reply{Entry: &e}); err != nil {
			return err
		}
	}
	return nil
}

// entry words a mapping.
func entry(m *portmap.Mapping, now time.Time) Entry {
	e := Entry{
		Protocol:     m.Protocol.String(),
		ExternalPort: externalPort(m),
		Pinhole:      m.Pinhole.IsValid(),
		Client:       m.Internal.Addr(),
		ClientPort:   m.Internal.Port(),
		Description:  m.Description(),
		Enabled:      m.Enabled(),
		Dormant:      m.Dormant,
	}
	for _, c := range m.Claims {
		if name := c.Origin.String(); !slices.Contains(e.Origins, name) {
			e.Origins = append(e.Origins, name)
		}
	}
	for _, f := range m.Filters() {
		e.Remote = append(e.Remote, remote(f))
	}
	if left := int64(m.Remaining(now) / time.Second); left > 0 {
		e.Remaining = &left
	}
	return e
}

// identify adds who the client is.
func (e *Entry) identify(h hosts.Host) {
	e.MAC, e.HostName, e.Gone = h.Hardware.String(), h.Name, !h.Present()
}

// remote words a filter: a network, with a port if it is about one.
func remote(f portmap.Filter) string {
	if f.Port == 0 {
		return f.Prefix.String()
	}
	return fmt.Sprintf("%v port %d", f.Prefix, f.Port)
}

// externalPort returns the port that the outside dials.
func externalPort(m *portmap.Mapping) uint16 {
	if m.Pinhole.IsValid() {
		return m.Pinhole.Port()
	}
	return m.External
}

// status completes what the daemon says of itself.
func (s *Server) status() Status {
	status := s.Status()
	clients := make(map[netip.Addr]bool)
	list := s.Table.List()
	for _, m := range list {
		clients[m.Internal.Addr()] = true
	}
	status.Mappings, status.Clients = len(list), len(clients)
	return status
}

// protocols are those that a question can be about.
var protocols = map[string]portmap.Protocol{"": 0, "TCP": portmap.TCP, "UDP": portmap.UDP}

// remove ends mappings, and with a veto refuses new ones like them.
func (s *Server) remove(ctx context.Context, q request, say func(reply) error) error {
	v := portmap.Block{Host: q.Client}
	protocol, known := protocols[q.Protocol]
	v.Protocol = protocol
	switch {
	case !known:
		return fmt.Errorf("%q is no protocol", q.Protocol)
	case q.First > q.Last:
		return errors.New("the range of ports is upside down")
	case !q.Client.IsValid() && q.First == 0:
		return errors.New("name a client or ports, not everything at once")
	case q.First > 0:
		v.External = portmap.PortRange{First: q.First, Last: q.Last}
	}
	// A veto that ends at once closes what it is against and refuses nothing.
	v.Until = time.Now().Add(time.Duration(q.Seconds) * time.Second)
	closed, err := s.Table.Block(ctx, v)
	if err != nil {
		return err
	}
	s.Log.Info("operator: "+q.Do, "client", q.Client, "protocol", q.Protocol, "ports", v.External, "seconds", q.Seconds, "closed", closed)
	return say(reply{Closed: closed})
}
