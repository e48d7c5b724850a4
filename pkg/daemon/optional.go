package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"igdd/pkg/hosts"
	"igdd/pkg/identity"
	"igdd/pkg/notify"
	"igdd/pkg/portmap"
	"igdd/pkg/stun"
)

// prepareOptional makes the optional parts that are configured.
func (d *Daemon) prepareOptional(o Options) (err error) {
	c := d.config
	if c.NotifyCmd != "" {
		if d.notify, err = notify.New(notify.Options{Command: c.NotifyCmd, Run: o.Notify, Log: d.log}); err != nil {
			return fmt.Errorf("UPNP_NOTIFY_CMD: %w", err)
		}
	}
	if c.STUN != "" && !c.ExternalIP.IsValid() {
		d.stun = stun.NewFollower(stun.Options{Server: c.STUN, Uplink: d.uplink.addr, Seen: d.setSTUNAddr, Log: d.log})
	}
	d.upstream = d.newUpstream()
	d.hosts = hosts.NewWatcher(hosts.Options{
		Leases:   c.DHCPLeases,
		Grace:    c.Withdraw,
		Clients:  d.mappedHosts,
		Index:    d.linkIndexOf,
		Withdraw: d.withdraw,
		Log:      d.log,
	})
	return nil
}

// newResolver returns the table as the servers see it: it finds the hosts of
// addresses where permission rules name hosts.
func (d *Daemon) newResolver() *identity.Resolver {
	return identity.New(identity.Options{
		Table:  d.table,
		Finder: d.finder,
		Hosts:  d.lanHosts,
		Policy: d.currentPolicy,
		LAN:    d.lanOf,
		At:     d.lanAt,
		Index: func(device string) int {
			links, _ := d.watch.Now()
			return links[device].Index
		},
	})
}

// currentPolicy returns the policy in force.
func (d *Daemon) currentPolicy() *portmap.Policy {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.policy
}

// lanOf returns the LAN of a host.
func (d *Daemon) lanOf(host netip.Addr) (hosts.LAN, bool) {
	index := d.linkIndexOf(host)
	if index == 0 {
		return hosts.LAN{}, false
	}
	links, _ := d.watch.Now()
	state := portmap.NetworkState{Routed: d.routedNetworks(links)}
	state.LANs, state.Interfaces, _ = d.lans(links)
	return hosts.LAN{Index: index, Networks: state.Networks(host)}, true
}

// setSTUNAddr sets the router's address as the STUN server sees it.
func (d *Daemon) setSTUNAddr(a netip.Addr) {
	d.mu.Lock()
	d.stunAddr = a
	d.mu.Unlock()
	d.wakeUplink()
}

// mappedHosts returns the hosts that have mappings, without those behind other routers:
// of these the kernel never knows whether they answer.
func (d *Daemon) mappedHosts() []netip.Addr {
	links, _ := d.watch.Now()
	routed := d.routedNetworks(links)
	seen := make(map[netip.Addr]bool)
	var list []netip.Addr
	for _, m := range d.table.List() {
		a := m.Internal.Addr()
		if !seen[a] && !slices.ContainsFunc(routed, func(n portmap.RoutedNetwork) bool { return n.Contains(a) }) {
			seen[a] = true
			list = append(list, a)
		}
	}
	return list
}

// linkIndexOf returns the index of the interface whose network a host is in, or behind
// which it is, 0 if there is none.
func (d *Daemon) linkIndexOf(host netip.Addr) int {
	links, _ := d.watch.Now()
	for _, l := range d.config.LANs {
		for _, link := range linksOf(l, uplinks(d.config), links) {
			if slices.ContainsFunc(link.Addrs, func(p netip.Prefix) bool { return p.Contains(host) }) {
				return link.Index
			}
		}
	}
	for _, r := range d.routes(links) {
		if r.Network.Contains(host) {
			return links[r.Interface].Index
		}
	}
	return 0
}

// withdraw deletes the mappings of a host that has left.
func (d *Daemon) withdraw(host netip.Addr) {
	d.table.Withdraw(context.Background(), func(m *portmap.Mapping) bool { return m.Internal.Addr() == host })
}
