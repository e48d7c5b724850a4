package daemon

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"igdd/pkg/config"
	"igdd/pkg/netif"
	"igdd/pkg/portmap"
	"igdd/pkg/upstream"
)

// upstreamMethods are the protocols that each setting allows, the preferred first.
var upstreamMethods = [...][]upstream.Method{
	config.UpstreamNo:     nil,
	config.UpstreamAuto:   {upstream.PCP, upstream.NATPMP, upstream.IGD},
	config.UpstreamPCP:    {upstream.PCP},
	config.UpstreamNATPMP: {upstream.NATPMP},
	config.UpstreamIGD:    {upstream.IGD},
}

// sharedAddrs are the addresses between carrier-grade NATs and their customers (RFC
// 6598).
var sharedAddrs = netip.MustParsePrefix("100.64.0.0/10")

// isPrivate reports whether an IPv4 address is private (RFC 1918), shared or link-local:
// then there is a router in front that translates addresses.
func isPrivate(a netip.Addr) bool {
	return a.IsPrivate() || a.IsLinkLocalUnicast() || sharedAddrs.Contains(a)
}

// gatewayReader returns the function that finds the router in front of an uplink; nil:
// the settings ask none.
func gatewayReader(c *config.Config) func(netif.Link) netip.Addr {
	if c.Upstream == config.UpstreamNo {
		return nil
	}
	return netif.Gateway
}

// newUpstream returns the part that asks the router in front; nil: the settings ask none.
func (d *Daemon) newUpstream() *upstream.Client {
	if d.config.Upstream == config.UpstreamNo {
		return nil
	}
	return upstream.New(upstream.Options{
		Methods: upstreamMethods[d.config.Upstream],
		Secret:  []byte("nonces of mappings upstream " + d.config.Device.UUID),
		Report:  d.reportForwardings,
		Seen:    d.setOuterAddr,
		IsOwn: func(a netip.Addr) bool {
			links, _ := d.watch.Now()
			return isOwn(links, a)
		},
		IsServed: func(a netip.Addr) bool {
			links, _ := d.watch.Now()
			return d.isServed(links, a)
		},
		Log: d.log,
	})
}

// tableUpstream returns the part that asks the router in front, as the table knows it.
func (d *Daemon) tableUpstream() portmap.Upstream {
	if d.upstream == nil {
		return nil
	}
	return d.upstream
}

// routerInFront returns the router in front that is asked; the zero Gateway: none is.
// Without an Address it would be asked if there were one.
func (d *Daemon) routerInFront() upstream.Gateway {
	uplink, gateway := d.uplink.router()
	own, _ := uplink.IPv4()
	return routerInFront(d.config.Upstream, uplink.Name, own.Addr(), gateway)
}

// asksRouter reports whether the setting has a router in front asked by an uplink with an
// own address.
func asksRouter(u config.Upstream, own netip.Addr) bool {
	return own.IsValid() && u != config.UpstreamNo && (u != config.UpstreamAuto || isPrivate(own))
}

// routerInFront returns the gateway of an uplink with an own address if it is to be asked
// by the setting, also where there is none.
func routerInFront(u config.Upstream, uplink string, own, gateway netip.Addr) upstream.Gateway {
	if !asksRouter(u, own) {
		return upstream.Gateway{}
	}
	return upstream.Gateway{Address: gateway, Local: own, Device: uplink}
}

// followRouter tells the client of the router in front which one that is now. The table
// knows already whether there is one.
func (d *Daemon) followRouter() {
	if d.upstream == nil {
		return
	}
	if now := d.routerInFront(); now != d.asked {
		d.asked = now
		d.upstream.SetGateway(now)
	}
}

// GiveBack gives back what the router in front forwards, after Run: no other instance takes
// it over.
func (d *Daemon) GiveBack() {
	if d.upstream != nil {
		d.upstream.GiveBack()
	}
}

// setOuterAddr sets the external address of the router in front.
func (d *Daemon) setOuterAddr(a netip.Addr) {
	d.mu.Lock()
	d.outerAddr = a
	d.mu.Unlock()
	d.wakeUplink()
}

// isRouterInFront reports whether a is the external address of the router in front.
func (d *Daemon) isRouterInFront(a netip.Addr) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return a == d.outerAddr
}

// reportForwardings passes on to the table what became of forwardings.
func (d *Daemon) reportForwardings(ctx context.Context, reports []portmap.Report) error {
	d.setConfiguredAddr(reports)
	return d.table.Report(ctx, reports)
}

// setConfiguredAddr sets the configured external address, if there is one, as that of all
// forwardings: clients are told it instead of any other.
func (d *Daemon) setConfiguredAddr(reports []portmap.Report) {
	if !d.config.ExternalIP.IsValid() {
		return
	}
	for i := range reports {
		if f := &reports[i].Forwarding; f.State == portmap.Reachable {
			f.External = netip.AddrPortFrom(d.config.ExternalIP, f.External.Port())
		}
	}
}

// isOwn reports whether an address is the router's own.
func isOwn(links map[string]netif.Link, a netip.Addr) bool {
	for _, link := range links {
		if slices.ContainsFunc(link.Addrs, func(p netip.Prefix) bool { return p.Addr() == a }) {
			return true
		}
	}
	return false
}

// isServed reports whether an address is in a network whose hosts are clients.
func (d *Daemon) isServed(links map[string]netif.Link, a netip.Addr) bool {
	lans, _, _ := d.lans(links)
	return slices.ContainsFunc(lans, func(p netip.Prefix) bool { return p.Contains(a) }) ||
		slices.ContainsFunc(d.routedNetworks(links), func(n portmap.RoutedNetwork) bool { return n.Contains(a) })
}

// updateInterval is the shortest time between two looks for PCP clients that must be told
// another external endpoint: each goes through all mappings.
const updateInterval = time.Second

// updateClients tells PCP clients when the router in front does something else for their
// mappings.
func (d *Daemon) updateClients(changes []portmap.Change) {
	if d.upstream != nil && d.pcp != nil && slices.ContainsFunc(changes, changesForwarding) {
		d.updates.request()
	}
}

// changesForwarding reports whether a change of a mapping that stays is one of what the
// router in front does.
func changesForwarding(c portmap.Change) bool {
	return c.Before != nil && c.After != nil && c.Before.Forwarding != c.After.Forwarding
}

// nothingForwarded reports whether the router in front forwards nothing at all, which is
// logged once.
func (d *Daemon) nothingForwarded() bool { return d.upstream != nil && d.upstream.Status().Err != nil }
