package daemon

import (
	"net/netip"
	"slices"

	"igdd/pkg/netfilter"
	"igdd/pkg/netif"
)

// hairpin returns where hosts of the LANs reach mappings by the external address: the
// one that is announced, and those of all uplinks, since mappings are for all of them.
// An uplink that is a LAN as well is none here: the rules would let in the Internet.
func (d *Daemon) hairpin(links map[string]netif.Link, u netfilter.Uplink) (h netfilter.Hairpin) {
	if a := d.announced(); a.IsValid() {
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
				networks := slices.Concat(links[link.Name].Addrs, d.routedBy(link.Index))
				h.LANs = append(h.LANs, netfilter.HairpinLAN{Device: link.Name, Networks: networks4(networks)})
			}
		}
	}
	return h
}

// networks4 returns the IPv4 networks of addresses, without those of a single address.
func networks4(addrs []netip.Prefix) (list []netip.Prefix) {
	for _, p := range routable(addrs) {
		if n := p.Masked(); n.Addr().Is4() && !n.IsSingleIP() && !slices.Contains(list, n) {
			list = append(list, n)
		}
	}
	return list
}
