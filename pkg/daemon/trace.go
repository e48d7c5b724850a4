package daemon

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"

	"igdd/pkg/control"
	"igdd/pkg/netfilter"
	"igdd/pkg/netif"
	"igdd/pkg/portmap"
	"igdd/pkg/xtables"
)

// trace follows a connection from outside through the firewall by each uplink that is
// up, the announced one first. If its destination has no address it is the IPv4 address
// of the uplink, and uplinks without one are omitted.
func (d *Daemon) trace(ctx context.Context, c xtables.Connection) (list []control.Traced, err error) {
	family := portmap.IPv4
	if c.Source.Addr().Is6() {
		family = portmap.IPv6
	}
	tables, err := d.firewall.Tables(ctx, family)
	if err != nil {
		return nil, err
	}
	for _, uplink := range d.openUplinks(family) {
		t := tracer{uplink, c, tables, d.firewall, d.ports}
		t.connection.In = uplink.Name
		if !c.Destination.Addr().IsValid() {
			own, ok := uplink.IPv4()
			if !ok {
				continue
			}
			t.connection.Destination = netip.AddrPortFrom(own.Addr(), c.Destination.Port())
		}
		list = append(list, t.trace())
	}
	return list, nil
}

// openUplinks returns the uplinks of a family that are up, the announced one first.
func (d *Daemon) openUplinks(family portmap.Family) (list []netif.Link) {
	patterns := d.config.WAN
	if family == portmap.IPv6 {
		patterns = uplinks6(d.config)
	}
	links, _ := d.watch.Now()
	for _, pattern := range patterns {
		for _, link := range matchingLinks(pattern, links) {
			if link.Up && !slices.ContainsFunc(list, link.Equal) {
				list = append(list, link)
			}
		}
	}
	announced := d.uplink.link().Name
	rank := func(l netif.Link) int {
		if l.Name == announced {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(list, func(a, b netif.Link) int { return cmp.Compare(rank(a), rank(b)) })
	return list
}

// tracer follows one connection by one uplink.
type tracer struct {
	uplink     netif.Link
	connection xtables.Connection
	tables     []xtables.Variant
	firewall   *netfilter.Firewall
	ports      *netif.Ports
}

// trace returns the path of the connection.
func (t tracer) trace() control.Traced {
	route := func(to netip.Addr) (xtables.Route, error) {
		way, err := netif.RouteIn(t.uplink, t.connection.Source.Addr(), to)
		return xtables.Route{Out: way.Out, Local: way.Local}, err
	}
	p := control.Traced{Connection: t.connection, Path: xtables.Trace(t.connection, route, t.tables...)}
	if p.Local && !p.Path.To.Addr().IsValid() { // by REDIRECT
		p.Path.To = netip.AddrPortFrom(t.connection.Destination.Addr(), p.Path.To.Port())
	}
	for _, step := range p.Steps {
		p.Owned = p.Owned || step.IsCertain() && !step.Calls && t.firewall.Owns(step)
	}
	if p.Local {
		protocol := strings.ToLower(portmap.Protocol(t.connection.Protocol).String())
		p.Listening = t.ports.Taken(protocol, p.Path.To.Addr(), p.Path.To.Port())
	}
	return p
}
