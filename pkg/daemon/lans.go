package daemon

import (
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strings"

	"igdd/pkg/config"
	"igdd/pkg/netif"
)

// CheckInterfaces returns an error if no uplink and no LAN of the settings exists:
// then they are most likely another router's.
func CheckInterfaces(c *config.Config) error {
	links, err := netif.Links()
	if err != nil {
		return err
	}
	return checkInterfaces(c, links)
}

func checkInterfaces(c *config.Config, links map[string]netif.Link) error {
	var missing []string
	for _, pattern := range uplinks(c) {
		if len(matchingLinks(pattern, links)) > 0 {
			return nil
		}
		missing = append(missing, placeOfUplink(c, pattern)+"there is no interface "+pattern)
	}
	for _, l := range c.LANs {
		if len(linksOf(l, uplinks(c), links)) > 0 {
			return nil
		}
		missing = append(missing, c.Place("listening_ip="+l.String())+missingText(l, links))
	}
	return fmt.Errorf("%s: nothing to serve", strings.Join(missing, ", "))
}

// placeOfUplink returns the place in the settings that names an uplink.
func placeOfUplink(c *config.Config, pattern string) string {
	switch {
	case pattern == c.WAN[0]:
		return c.Place("ext_ifname")
	case slices.Contains(c.WAN, pattern):
		return c.Place("ext_ifname2")
	}
	return c.Place("ext_ifname6")
}

// linksOf returns the interfaces of a LAN, the oldest first: the one with its name,
// the one with its address, or for a network all that have an address in it. An
// uplink counts only if it is named.
func linksOf(l config.LAN, uplinks []string, links map[string]netif.Link) []netif.Link {
	if l.Interface != "" {
		link, found := links[l.Interface]
		if !found {
			return nil
		}
		return []netif.Link{limitPrefixes(l, link)}
	}
	var list []netif.Link
	for _, link := range links {
		if isOnLAN(l, link) && !isUplink(link, uplinks, links) {
			list = append(list, limitPrefixes(l, link))
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Index < list[j].Index })
	return list
}

// isOnLAN reports whether the link has an address of a LAN that the settings give by
// address.
func isOnLAN(l config.LAN, link netif.Link) bool {
	return slices.ContainsFunc(link.Addrs, func(p netip.Prefix) bool {
		a := p.Addr()
		return a == l.Prefix.Addr() || l.IsNetwork() && l.Prefix.Contains(a) && !a.IsLoopback()
	})
}

// isUplink reports whether the link is one of the uplinks.
func isUplink(link netif.Link, uplinks []string, links map[string]netif.Link) bool {
	return slices.ContainsFunc(uplinks, func(pattern string) bool {
		return slices.ContainsFunc(matchingLinks(pattern, links), func(u netif.Link) bool { return u.Name == link.Name })
	})
}

// limitPrefixes returns the link with its networks no larger than the settings allow
// for the LAN.
func limitPrefixes(l config.LAN, link netif.Link) netif.Link {
	link.Addrs = slices.Clone(link.Addrs)
	for i, p := range link.Addrs {
		bits := p.Bits()
		switch {
		case l.Interface != "" && p.Addr().Is4():
			bits = l.Bits
		case l.Prefix.IsValid() && l.Prefix.Contains(p.Addr()):
			bits = l.Prefix.Bits()
		}
		link.Addrs[i] = netip.PrefixFrom(p.Addr(), max(bits, p.Bits()))
	}
	return link
}

// ownPrefixes returns the link's addresses with their networks as clients of a LAN use
// them. If the settings give the router's address it comes first, and without it there
// are none: a virtual address and its clients are another router's by then.
func ownPrefixes(l config.LAN, link netif.Link) []netip.Prefix {
	list := limitPrefixes(l, link).Addrs
	if l.Interface != "" || l.IsNetwork() {
		return list
	}
	i := slices.IndexFunc(list, func(p netip.Prefix) bool { return p.Addr() == l.Prefix.Addr() })
	if i < 0 {
		return nil
	}
	own := inNetwork(list[i], list)
	return slices.Insert(slices.Delete(list, i, i+1), 0, own)
}

// inNetwork returns an address with the network that its neighbours are in: that of
// another address, the smallest one, if it was added as a single address, as keepalived
// does.
func inNetwork(p netip.Prefix, others []netip.Prefix) netip.Prefix {
	if !p.IsSingleIP() {
		return p
	}
	bits := 0
	for _, o := range others {
		if !o.IsSingleIP() && o.Contains(p.Addr()) {
			bits = max(bits, o.Bits())
		}
	}
	if bits == 0 {
		return p
	}
	return netip.PrefixFrom(p.Addr(), bits)
}

// uplinks returns the names and patterns of all external interfaces.
func uplinks(c *config.Config) []string {
	if c.WAN6 == "" || slices.Contains(c.WAN, c.WAN6) {
		return c.WAN
	}
	return append(slices.Clip(c.WAN), c.WAN6)
}

// missingText says what is missing for a LAN that has no interface.
func missingText(l config.LAN, links map[string]netif.Link) string {
	subject := "no interface"
	for _, link := range links {
		if isOnLAN(l, link) {
			subject = "only the uplink " + link.Name
		}
	}
	switch {
	case l.Interface != "":
		return "there is no interface " + l.Interface
	case l.IsNetwork():
		return fmt.Sprintf("%s has an address in %v", subject, l.Prefix)
	}
	return fmt.Sprintf("%s has the address %v", subject, l.Prefix.Addr())
}
