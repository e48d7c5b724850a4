package daemon

import (
	"fmt"
	"net/netip"
	"slices"

	"igdd/pkg/config"
	"igdd/pkg/control"
	"igdd/pkg/netif"
	"igdd/pkg/portmap"
)

// routes returns the routes of the settings that are served now.
func (d *Daemon) routes(links map[string]netif.Link) (list []config.Route) {
	for _, r := range d.config.Routes {
		if checkRoute(d.config, r, links) == nil {
			list = append(list, r)
		}
	}
	return list
}

// routedBy returns the networks behind other routers on the interface with that index.
func (d *Daemon) routedBy(index int) (list []netip.Prefix) {
	links, _ := d.watch.Now()
	for _, r := range d.routes(links) {
		if links[r.Interface].Index == index {
			list = append(list, r.Network)
		}
	}
	return list
}

// routedNetworks returns the networks behind other routers on all LANs.
func (d *Daemon) routedNetworks(links map[string]netif.Link) (list []portmap.RoutedNetwork) {
	for _, r := range d.routes(links) {
		list = append(list, portmap.RoutedNetwork{Prefix: r.Network, Device: r.Interface})
	}
	return list
}

// checkRoute returns an error that says why a network is not served: its interface is no
// LAN that is served now, or one of its addresses is the router's own or that of a LAN.
func checkRoute(c *config.Config, r config.Route, links map[string]netif.Link) error {
	if _, found := links[r.Interface]; !found {
		return fmt.Errorf("there is no interface %s", r.Interface)
	}
	for name, link := range links {
		inside := func(p netip.Prefix) bool { return r.Network.Contains(p.Addr()) }
		if i := slices.IndexFunc(link.Addrs, inside); i >= 0 {
			return fmt.Errorf("%v is the router's own address on %s", link.Addrs[i].Addr(), name)
		}
	}
	lans := lanLinks(c, links)
	for _, link := range lans {
		if i := slices.IndexFunc(link.Addrs, r.Network.Overlaps); i >= 0 {
			return fmt.Errorf("it overlaps with %v, the network of %s", link.Addrs[i].Masked(), link.Name)
		}
	}
	if !slices.ContainsFunc(lans, func(l netif.Link) bool { return l.Name == r.Interface }) {
		return fmt.Errorf("%s is not served", r.Interface)
	}
	return nil
}

// lanLinks returns the interfaces of all LANs that are there.
func lanLinks(c *config.Config, links map[string]netif.Link) (list []netif.Link) {
	for _, l := range c.LANs {
		list = append(list, linksOf(l, uplinks(c), links)...)
	}
	return list
}

// checkRouting returns an error if a network is not served, or if the kernel routes it
// elsewhere: then nothing that comes from the Internet gets there.
func checkRouting(c *config.Config, r config.Route, links map[string]netif.Link) error {
	if err := checkRoute(c, r, links); err != nil {
		return err
	}
	host := r.Network.Addr()
	if !r.Network.IsSingleIP() {
		host = host.Next()
	}
	if netif.NextLink(host) != links[r.Interface].Index {
		return fmt.Errorf("the system does not route %v by %s, so that mappings to it lead nowhere", host, r.Interface)
	}
	return nil
}

// missingRoutes returns what is wrong with routes of the settings, by route.
func (d *Daemon) missingRoutes(links map[string]netif.Link) map[string]string {
	missing := make(map[string]string)
	for _, r := range d.config.Routes {
		if err := checkRouting(d.config, r, links); err != nil {
			missing["lan_route="+r.String()] = err.Error()
		}
	}
	return missing
}

// routeStates returns the routes of the settings as status shows them.
func (d *Daemon) routeStates(links map[string]netif.Link) (list []control.Route) {
	for _, r := range d.config.Routes {
		state := control.Route{Network: r.Network, Interface: r.Interface}
		if err := checkRouting(d.config, r, links); err != nil {
			state.Note = err.Error()
		}
		list = append(list, state)
	}
	return list
}
