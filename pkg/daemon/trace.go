package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strings"

	"igdd/pkg/config"
	"igdd/pkg/control"
	"igdd/pkg/netfilter"
	"igdd/pkg/netif"
	"igdd/pkg/portmap"
	"igdd/pkg/xtables"
)

// trace follows a connection through the firewall: of a host on a LAN as it leaves, of
// another one by each uplink that is up.
func (d *Daemon) trace(ctx context.Context, c xtables.Connection) ([]control.Traced, error) {
	family := portmap.IPv4
	if c.Source.Addr().Is6() {
		family = portmap.IPv6
	}
	tables, err := d.firewall.Tables(ctx, family)
	if err != nil {
		return nil, err
	}
	c.NoIPsec = netif.NoIPsec()
	links, _ := d.watch.Now()
	t := tracer{connection: c, links: links, tables: tables, firewall: d.firewall, ports: d.ports}
	if in, ok := lanTo(d.config, links, c.Source.Addr()); ok {
		return t.fromLAN(in)
	}
	return t.fromOutside(d.openUplinks(family)), nil
}

// lanTo returns the link of the LAN that a host is on, or behind by the router's routes.
func lanTo(c *config.Config, links map[string]netif.Link, host netip.Addr) (netif.Link, bool) {
	index := netif.LinkTo(host)
	for _, l := range c.LANs {
		for _, link := range linksOf(l, uplinks(c), links) {
			if link.Index == index && isBehind(link, host) {
				return link, true
			}
		}
	}
	return netif.Link{}, false
}

// isBehind reports whether a host to which the route leaves by a LAN's link is not one of
// the Internet: the Internet may be reached by that link, too.
func isBehind(link netif.Link, host netip.Addr) bool {
	onLink := slices.ContainsFunc(link.Addrs, func(p netip.Prefix) bool { return p.Contains(host) })
	return onLink || link.Index != netif.InternetLink()
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
	sort.SliceStable(list, func(i, j int) bool { return rank(list[i]) < rank(list[j]) })
	return list
}

// tracer follows one connection.
type tracer struct {
	connection xtables.Connection
	links      map[string]netif.Link
	tables     []xtables.Variant
	firewall   *netfilter.Firewall
	ports      *netif.Ports
}

// fromLAN returns the path of the connection of a host on a LAN.
func (t tracer) fromLAN(in netif.Link) ([]control.Traced, error) {
	if c := t.connection; !c.Destination.Addr().IsValid() {
		return nil, fmt.Errorf("%v is on the LAN of %s: write where it connects to as ADDRESS:PORT", c.Source.Addr(), in.Name)
	}
	p := t.trace(in)
	p.FromLAN = true
	return []control.Traced{p}, nil
}

// fromOutside returns the path of the connection by each uplink. If its destination has no
// address it is the IPv4 address of the uplink, and uplinks without one are omitted.
func (t tracer) fromOutside(uplinks []netif.Link) (list []control.Traced) {
	to := t.connection.Destination
	for _, uplink := range uplinks {
		if !to.Addr().IsValid() {
			own, ok := uplink.IPv4()
			if !ok {
				continue
			}
			t.connection.Destination = netip.AddrPortFrom(own.Addr(), to.Port())
		}
		list = append(list, t.trace(uplink))
	}
	return list
}

// trace returns the path of the connection that comes in by a link.
func (t tracer) trace(in netif.Link) control.Traced {
	t.connection.In = in.Name
	route := func(to netip.Addr) (xtables.Route, error) {
		way, err := netif.RouteIn(in, t.connection.Source.Addr(), to)
		return xtables.Route{Out: way.Out, Local: way.Local, Masquerade: t.links[way.Out].Masquerade(way.NextHop)}, err
	}
	p := control.Traced{Connection: t.connection, Path: xtables.Trace(t.connection, route, t.tables...)}
	if p.Local && !p.Path.To.Addr().IsValid() { // by REDIRECT
		p.Path.To = netip.AddrPortFrom(firstAddr(in, t.connection.Destination.Addr()), p.Path.To.Port())
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

// firstAddr returns the first address of a link in the family of another address, but none
// that is valid on the link alone.
func firstAddr(l netif.Link, like netip.Addr) netip.Addr {
	for _, p := range l.Addrs {
		if a := p.Addr(); a.Is4() == like.Is4() && !a.IsLinkLocalUnicast() {
			return a
		}
	}
	return like
}
