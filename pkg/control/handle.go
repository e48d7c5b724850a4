package control

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"igdd/pkg/hosts"
	"igdd/pkg/portmap"
)

// handle sends the replies to one request.
func (s *Server) handle(ctx context.Context, r request, send func(reply) error) error {
	switch r.Do {
	case doList:
		return s.list(send)
	case doStatus:
		status := s.status()
		return send(reply{Status: &status})
	case doMetrics:
		return send(reply{Metrics: s.opts.Metrics()})
	case doDelete:
		return s.delete(ctx, r, send)
	case doBlock, doVeto:
		return s.block(ctx, r, send)
	case doBlocks:
		return s.blocks(send)
	case doUnblock:
		return s.unblock(ctx, r, send)
	case doExplain:
		return s.explain(ctx, r, send)
	case doHistory:
		return s.history(r, send)
	case doTrace:
		return s.trace(ctx, r, send)
	}
	return fmt.Errorf("unknown command %q: miniupnpctl and the daemon are different versions", r.Do)
}

// list sends one line for each mapping.
func (s *Server) list(send func(reply) error) error {
	mappings, now := s.opts.Table.List(), time.Now() // before the counters: what is listed has its rules
	traffic, err := s.opts.Traffic()
	if err != nil {
		s.opts.Log.Warn("cannot read the counters of the rules", "err", err)
	}
	known, err := s.opts.Hosts()
	if err != nil {
		s.opts.Log.Warn("cannot read which hosts are on the LAN", "err", err)
	}
	for _, m := range mappings {
		e := entry(m, now)
		if t, ok := traffic[m.Key]; ok {
			e.Packets, e.Bytes = &t.Packets, &t.Bytes
		}
		if h, ok := known[m.Internal.Addr()]; ok {
			e.identify(h)
		}
		if err := send(reply{Entry: &e}); err != nil {
			return err
		}
	}
	return nil
}

// entry returns a mapping as list shows it.
func entry(m *portmap.Mapping, now time.Time) Entry {
	e := Entry{
		Schema:       schemaVersion,
		Protocol:     m.Protocol.String(),
		ExternalPort: m.ExternalPort(),
		Pinhole:      m.Pinhole.IsValid(),
		Client:       m.Internal.Addr(),
		ClientPort:   m.Internal.Port(),
		Origins:      m.Origins(),
		Description:  m.Description(),
		Enabled:      m.Enabled(),
		Dormant:      m.Dormant,
		Reason:       dormantReason(m),
		Unreachable:  m.Forwarding.Reason,
	}
	if f := m.Forwarding; f.State != portmap.NotAsked {
		e.Forwarding, e.OuterAddress, e.OuterPort = f.State.Slug(), f.External.Addr(), f.External.Port()
	}
	for _, f := range m.Filters() {
		e.Remote = append(e.Remote, f.String())
	}
	if left := int64(m.Remaining(now) / time.Second); left > 0 {
		e.Remaining = &left
	}
	return e
}

// dormantReason returns why a mapping is dormant, "" if it is not.
func dormantReason(m *portmap.Mapping) string {
	if !m.Dormant {
		return ""
	}
	return m.Reason.String()
}

// identify adds the name and the hardware address of the client.
func (e *Entry) identify(h hosts.Host) {
	e.MAC, e.HostName, e.Gone = h.Hardware.String(), h.Name, !h.Present()
}

// status returns the state of the daemon, with its mappings counted.
func (s *Server) status() Status {
	status := s.opts.Status()
	status.Schema = schemaVersion
	clients := make(map[netip.Addr]bool)
	list := s.opts.Table.List()
	for _, m := range list {
		clients[m.Internal.Addr()] = true
	}
	status.Mappings, status.Clients = len(list), len(clients)
	return status
}

// protocols are those that a request can name.
var protocols = map[string]portmap.Protocol{"": 0, "TCP": portmap.TCP, "UDP": portmap.UDP}
