package daemon

import (
	"net/netip"
	"slices"

	"igdd/pkg/netfilter"
	"igdd/pkg/netif"
)

// hairpin returns where hosts of the LANs reach mappings by the external address: the
// one that is announced, and those of all uplinks, since mappings are for all of them.
// An uplink that is a LAN as well is none here: the rules would let in the Internet. Nor
// is the address of the router in front, whose ports may lead to others here.
func (d *Daemon) hairpin(links map[string]netif.Link, u netfilter.Uplink) (h netfilter.Hairpin) {
	if a := d.announced(); a.IsValid() && !d.isRouterInFront(a) {
		h.External = append(h.External, a)
	}
	for _, a := range u.Addrs {
		if !slices.Contains(h.External, a) {
			h.External = append(h.External, a)
		}
	}
	for _, l := range d.config.LANs {
		for _, link := range linksOf(l, uplinks(d.config), links) {
			if !isUplink(link, uplinks(d.config), links) {
				networks := networks4(links[link.Name].Addrs, d.routedBy(link.Index))
				h.LANs = append(h.LANs, netfilter.HairpinLAN{Device: link.Name, Networks: networks})
			}
		}
	}
	return h
}

// networks4 returns the IPv4 networks of a LAN: of the router's addresses there, but for
// single ones, which are no network, and behind other routers.
func networks4(addrs, routed []netip.Prefix) (list []netip.Prefix) {
	near := slices.DeleteFunc(routable(addrs), netip.Prefix.IsSingleIP)
	for _, p := range slices.Concat(near, routed) {
		if n := p.Masked(); n.Addr().Is4() && !slices.Contains(list, n) {
			list = append(list, n)
		}
	}
	return list
}
