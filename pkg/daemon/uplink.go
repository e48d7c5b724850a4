package daemon

import (
	"net/netip"
	"slices"

	"igdd/pkg/config"
	"igdd/pkg/netif"
	"igdd/pkg/portmap"
)

// surroundings tells the desk what the links look like.
func surroundings(c *config.Config, links map[string]netif.Link, forwards []portmap.Forward) portmap.Surroundings {
	s := portmap.Surroundings{External: external(c, links), Forwards: forwards}
	for _, l := range c.LANs {
		if link, ok := locate(l, links); ok {
			s.LANs = append(s.LANs, routable(link.Addrs)...)
		} else if l.Prefix.IsValid() {
			s.LANs = append(s.LANs, l.Prefix)
		}
	}
	for _, link := range links {
		for _, a := range link.Addrs {
			s.Own = append(s.Own, a.Addr())
		}
	}
	return s
}

// routable leaves out the link-local networks, which no rule can reach.
func routable(addrs []netip.Prefix) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(addrs), func(p netip.Prefix) bool { return p.Addr().IsLinkLocalUnicast() })
}

// external returns the announced address: the configured one, else that of
// the first external interface that has one.
func external(c *config.Config, links map[string]netif.Link) netip.Addr {
	for _, name := range c.WAN {
		link := links[name]
		if a, ok := link.IPv4(); ok && link.Up {
			if c.ExternalIP.IsValid() {
				return c.ExternalIP
			}
			return a.Addr()
		}
	}
	return netip.Addr{}
}
