package daemon

import (
	"net/netip"
	"slices"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/config"
	"igdd/pkg/netfilter"
	"igdd/pkg/netif"
	"igdd/pkg/portmap"
	"igdd/pkg/upnpd"
	"igdd/pkg/upstream"
)

// networkState returns the state of the network for the table, and whether the
// static port forwards in it are known.
func (d *Daemon) networkState(links map[string]netif.Link) (s portmap.NetworkState, known bool) {
	s.External, s.NoIPv6 = d.announced(), !d.firewall.Pinholes()
	s.Forwards, known = d.forwards.list()
	if router := d.routerInFront(); router != (upstream.Gateway{}) {
		s.Upstream = true
		if !d.config.ExternalIP.IsValid() {
			s.Uplink = router.Local
		}
	}
	s.LANs, s.Interfaces, s.Devices = d.lans(links)
	s.Routed = d.routedNetworks(links)
	for _, link := range links {
		for _, a := range link.Addrs {
			s.Own = append(s.Own, a.Addr())
		}
		s.Hardware = append(s.Hardware, link.Hardware.String())
	}
	return s, known
}

// lans returns the networks of the listening interfaces, in one list and by
// interface, and the names of the interfaces.
func (d *Daemon) lans(links map[string]netif.Link) (all []netip.Prefix, byInterface [][]netip.Prefix, names []string) {
	for _, l := range d.config.LANs {
		for _, link := range linksOf(l, uplinks(d.config), links) {
			networks := routable(link.Addrs)
			all = append(all, networks...)
			byInterface = append(byInterface, networks)
			names = append(names, link.Name)
		}
	}
	return all, byInterface, names
}

// routable returns the networks without the link-local ones, which no rule can reach.
func routable(addrs []netip.Prefix) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(addrs), func(p netip.Prefix) bool { return p.Addr().IsLinkLocalUnicast() })
}

// uplinks6 returns the external interfaces for IPv6: those for IPv4, unless another
// one is set.
func uplinks6(c *config.Config) []string {
	if len(c.WAN) > 0 && c.WAN6 == c.WAN[0] {
		return c.WAN
	}
	return []string{c.WAN6}
}

// matchingLinks returns the links that match an iptables interface pattern, the
// oldest first: "ppp0", or "ppp+" for all with that prefix.
func matchingLinks(pattern string, links map[string]netif.Link) []netif.Link {
	prefix, wild := strings.CutSuffix(pattern, "+")
	if !wild {
		if link, ok := links[pattern]; ok {
			return []netif.Link{link}
		}
		return nil
	}
	var list []netif.Link
	for name, link := range links {
		if strings.HasPrefix(name, prefix) {
			list = append(list, link)
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Index < list[j].Index })
	return list
}

// announced returns the address that clients are told, the zero Addr if there is none.
func (d *Daemon) announced() netip.Addr {
	d.mu.Lock()
	outerAddr, stunAddr := d.outerAddr, d.stunAddr
	d.mu.Unlock()
	if !d.routerInFront().Address.IsValid() {
		outerAddr = netip.Addr{}
	}
	return announcedAddr(d.config, d.uplink.addr(), outerAddr, stunAddr)
}

// announcedAddr returns the address that clients are told: the configured one, that of
// the router in front, the one that a STUN server sees, or the uplink's own. If the
// uplink has no address it returns the zero Addr. Where the router in front has a private
// address, it has another one in front, and the STUN server sees further.
func announcedAddr(c *config.Config, own, outerAddr, stunAddr netip.Addr) netip.Addr {
	switch {
	case !own.IsValid():
		return netip.Addr{}
	case c.ExternalIP.IsValid():
		return c.ExternalIP
	case outerAddr.IsValid() && !(isPrivate(outerAddr) && stunAddr.IsValid()):
		return outerAddr
	case stunAddr.IsValid():
		return stunAddr
	}
	return own
}

// forwardUplink returns where connections from the Internet arrive: the uplink that is
// announced, and the IPv4 addresses of all uplinks.
func (d *Daemon) forwardUplink() netfilter.Uplink {
	links, _ := d.watch.Now()
	chosen := d.uplink.link()
	u := netfilter.Uplink{Device: chosen.Name}
	if own, ok := chosen.IPv4(); ok {
		u.Addrs = []netip.Addr{own.Addr()}
	}
	for _, pattern := range d.config.WAN {
		for _, link := range matchingLinks(pattern, links) {
			for _, a := range link.Addrs {
				if a.Addr().Is4() && !slices.Contains(u.Addrs, a.Addr()) {
					u.Addrs = append(u.Addrs, a.Addr())
				}
			}
		}
	}
	return u
}

// uplinkLink returns the uplink that is announced, or the preferred one if none has an
// address; the zero Link if there is none.
func (d *Daemon) uplinkLink() netif.Link {
	link := d.uplink.link()
	if link.Name == "" && len(d.config.WAN) > 0 {
		link, _ = d.watch.Link(d.config.WAN[0])
	}
	return link
}

// uplinkState returns the state of the external interface.
func (d *Daemon) uplinkState() upnpd.Uplink {
	return upnpd.Uplink{Up: d.uplinkLink().Up, Since: d.connectedSince()}
}

// uplinkTraffic returns the counters of the external interface, zero if the kernel
// has none, and its rates.
func (d *Daemon) uplinkTraffic() upnpd.Traffic {
	name := d.uplinkLink().Name
	t, _ := netif.ReadTraffic(name)
	return upnpd.Traffic{
		BytesSent: t.BytesSent, BytesReceived: t.BytesReceived,
		PacketsSent: t.PacketsSent, PacketsReceived: t.PacketsReceived,
		UpstreamRate: rate(d.config.BitrateUp, name), DownstreamRate: rate(d.config.BitrateDown, name),
	}
}

// defaultRate is the rate of an uplink that is not known otherwise, in bit/s.
const defaultRate = 100_000_000

// rate returns the configured rate, or that of the link, in bit/s.
func rate(configured uint64, link string) uint64 {
	if configured != 0 {
		return configured
	}
	if own, err := netif.Speed(link); err == nil {
		return own
	}
	return defaultRate
}

// connectedSince returns since when the uplink has been connected, the zero Time if
// it is not: since the system was started if the settings say so, as in miniupnpd,
// else since the address appeared.
func (d *Daemon) connectedSince() time.Time {
	d.mu.Lock()
	since := d.connectedAt
	d.mu.Unlock()
	var info unix.Sysinfo_t
	if since.IsZero() || !d.config.SystemUptime || unix.Sysinfo(&info) != nil {
		return since
	}
	return time.Now().Add(-time.Duration(info.Uptime) * time.Second)
}
