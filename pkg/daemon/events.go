package daemon

import (
	"cmp"
	"net/netip"
	"strings"
	"time"

	"igdd/pkg/config"
	"igdd/pkg/event"
	"igdd/pkg/portmap"
)

// emit tells all who want to know what has happened. It never waits.
func (d *Daemon) emit(e event.Event) {
	e = d.events.Add(e)
	d.metrics.events.Inc(string(e.Kind))
	e.Log(d.log)
	if d.notify != nil {
		d.notify.Push(e)
	}
}

// emitChanges emits the events of changes that are in force.
func (d *Daemon) emitChanges(changes []portmap.Change) {
	for i := range changes {
		if e, isEvent := changeEvent(&changes[i]); isEvent {
			e.Shared = e.Kind == event.Unreachable && d.nothingForwarded()
			d.emit(e)
		}
	}
}

// emitSkipped emits the events of saved mappings that are not allowed any more.
func (d *Daemon) emitSkipped(skipped []portmap.Loss) {
	for _, l := range skipped {
		d.emitChanges([]portmap.Change{{Before: l.Mapping, Cause: portmap.Rechecked, Reason: l.Reason}})
	}
}

// emitStates emits the events of mappings that have become dormant, or active, between
// the previous instance and this one.
func (d *Daemon) emitStates(list []*portmap.Mapping) {
	for _, m := range list {
		was, known := d.dormant[m.Key]
		switch {
		case !known || was == m.Dormant:
		case m.Dormant:
			e := mappingEvent(event.Dormant, m)
			e.Reason = m.Reason.String()
			d.emit(e)
		default:
			d.emit(mappingEvent(event.Active, m))
		}
	}
}

// Dormant returns the mappings, and whether they are dormant.
func (d *Daemon) Dormant() map[portmap.Key]bool {
	states := make(map[portmap.Key]bool)
	for _, m := range d.table.List() {
		states[m.Key] = m.Dormant
	}
	return states
}

// onDecision is called for every answer.
func (d *Daemon) onDecision(r portmap.Request, a portmap.Answer) {
	d.metrics.decided(&r, &a)
	d.resolver.Decided(a)
	if a.Refusal != portmap.Granted && a.Refusal != portmap.Stopping {
		d.emit(refusalEvent(&r, &a))
	}
}

// onRepair is called when missing rules of a family were restored.
func (d *Daemon) onRepair(f portmap.Family) {
	d.metrics.repaired(f)
	d.emit(event.Event{Kind: event.Repaired, Family: f.String()})
}

// onBlockEnd is called for each block that has ended by itself.
func (d *Daemon) onBlockEnd(b *portmap.Block) {
	d.emit(event.Event{Kind: event.Unblocked, Block: b.ID, Subject: b.String(), Reason: "it has ended"})
}

// uplinkEvent returns the event of the external address that clients are told.
func (d *Daemon) uplinkEvent(a netip.Addr) event.Event {
	e := event.Event{Kind: event.Uplink, Interface: cmp.Or(d.uplink.link().Name, strings.Join(d.config.WAN, ", ")), Address: a}
	if a.IsValid() && config.Reserved(a) {
		e.Reason = event.PrivateUplink
	}
	return e
}

// changeEvent returns the event of a change, if it is one: the loss of one claim of
// several is not.
func changeEvent(c *portmap.Change) (e event.Event, isEvent bool) {
	switch {
	case c.Before == nil:
		e = mappingEvent(event.Opened, c.After)
	case c.After == nil:
		e = mappingEvent(event.Closed, c.Before)
		e.Lifetime, e.Reason = nil, closingReason(c)
	case c.Cause == portmap.Requested && c.After.Enabled() && !c.Before.Enabled():
		e = mappingEvent(event.Opened, c.After)
	case c.Cause == portmap.Requested:
		e = mappingEvent(event.Renewed, c.After)
	case c.Before.Forwarding != c.After.Forwarding && c.Cause == portmap.ByUpstream:
		return forwardingEvent(c.After)
	case c.Before.Dormant && !c.After.Dormant:
		e = mappingEvent(event.Active, c.After)
	case c.After.Dormant && c.After.Reason != c.Before.Reason:
		e = mappingEvent(event.Dormant, c.After)
		e.Reason = c.Reason.String()
	default:
		return e, false
	}
	if c.Client.IsValid() {
		e.Client = c.Client
		e.Host = c.ClientHost
	}
	return e, true
}

// forwardingEvent returns the event of what the router in front does now, if that is one.
func forwardingEvent(m *portmap.Mapping) (e event.Event, isEvent bool) {
	switch f := m.Forwarding; f.State {
	case portmap.Reachable:
		e = mappingEvent(event.Reachable, m)
		if config.Reserved(f.External.Addr()) {
			e.Reason = event.PrivateUplink
		}
	case portmap.Unreachable:
		e = mappingEvent(event.Unreachable, m)
		e.Reason = f.Reason
	default:
		return e, false
	}
	return e, true
}

// mappingEvent returns an event about a mapping.
func mappingEvent(kind event.Kind, m *portmap.Mapping) event.Event {
	e := event.Event{
		Kind:         kind,
		Origins:      m.Origins(),
		Host:         m.Host.Name,
		Protocol:     m.Protocol.String(),
		ExternalPort: m.ExternalPort(),
		Pinhole:      m.Pinhole.IsValid(),
		Internal:     m.Internal.Addr(),
		InternalPort: m.Internal.Port(),
		MAC:          m.Host.Hardware,
		Description:  m.Description(),
		Disabled:     m.Inbound() && !m.Enabled(),
	}
	if f := m.Forwarding; f.State != portmap.NotAsked {
		e.Forwarding, e.OuterAddress, e.OuterPort = f.State.Slug(), f.External.Addr(), f.External.Port()
	}
	for _, f := range m.Filters() {
		e.Remote = append(e.Remote, f.String())
	}
	if left := int64(m.Remaining(time.Now()) / time.Second); left > 0 {
		e.Lifetime = &left
	}
	return e
}

// closingReason says why a mapping has ended.
func closingReason(c *portmap.Change) string {
	switch c.Cause {
	case portmap.Deleted:
		return "a client deleted it"
	case portmap.Expired:
		return "it has expired"
	case portmap.ByOperator:
		return "the operator closed it"
	case portmap.HostLeft:
		return "its host has left"
	case portmap.ByUpstream:
		return "the router in front does not forward its port"
	case portmap.HostMoved:
		return "its host has another address now"
	}
	return "it is not allowed any more: " + c.Reason.String()
}

// refusalEvent returns the event of a request that was refused.
func refusalEvent(r *portmap.Request, a *portmap.Answer) event.Event {
	protocol, to := r.Protocol, r.Internal
	if r.ID != 0 && a.Mapping != nil { // a request by UniqueID names neither
		protocol, to = a.Mapping.Protocol, a.Mapping.Internal
	}
	e := event.Event{
		Kind:         event.Refused,
		Origins:      []string{r.Origin.String()},
		Client:       r.Client,
		Host:         r.ClientHost,
		Protocol:     protocolName(protocol),
		ExternalPort: r.External,
		Pinhole:      to.Addr().Is6() || r.ID != 0,
		Internal:     to.Addr(),
		InternalPort: to.Port(),
		MAC:          r.Host.Hardware,
		Description:  r.Description,
		Delete:       r.Op == portmap.Close,
	}
	addReasons(&e, a)
	return e
}

// addReasons adds why a request was refused.
func addReasons(e *event.Event, a *portmap.Answer) {
	e.Reason = a.Refusal.String()
	if a.Rule != nil {
		e.Rule = config.RuleAndPlace(*a.Rule)
	}
	if a.Block != nil {
		e.Block = a.Block.ID
	}
	switch {
	case a.Mapping != nil:
		e.Holder = a.Mapping.String()
	case a.Forward != nil:
		e.Holder = a.Forward.String()
	}
}

// protocolName returns the name of a protocol, "" for none.
func protocolName(p portmap.Protocol) string {
	if p == 0 {
		return ""
	}
	return p.String()
}
