package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"igdd/pkg/portmap"
)

// Route is a network behind another router on a LAN, whose hosts may ask.
type Route struct {
	Network   netip.Prefix
	Interface string // that of the LAN
}

// String returns the route as it is configured.
func (r Route) String() string { return fmt.Sprintf("%v via %s", r.Network, r.Interface) }

// addRoute adds a network with the interface that its hosts' packets come in by.
func (d *draft) addRoute(s string) error {
	r, odd := parseRoute(s)
	if odd != nil && !isRemark(odd) {
		return badEntry{odd}
	}
	for _, o := range d.Routes {
		if o == r {
			return odd
		}
		if o.Network.Overlaps(r.Network) {
			return badEntry{fmt.Errorf("%v, ignored: it overlaps with %v", r, o)}
		}
	}
	d.Routes = append(d.Routes, r)
	d.places["lan_route="+r.String()] = d.where
	return odd
}

// parseRoute parses "10.1.0.0/16 via eth1".
func parseRoute(s string) (Route, error) {
	words := strings.Fields(s)
	if len(words) != 3 || !strings.EqualFold(words[1], "via") {
		return Route{}, fmt.Errorf("%q, ignored: write a network and its interface, such as 10.1.0.0/16 via eth1", s)
	}
	network, err := parseRouted(words[0])
	if err != nil && !isRemark(err) {
		return Route{}, err
	}
	device, labelled := withoutLabel(words[2])
	if _, notAddress := netip.ParseAddr(device); notAddress == nil || !isDevice(device) {
		return Route{}, fmt.Errorf("%q, ignored: %q is not an interface", s, words[2])
	}
	if err == nil {
		err = labelled
	}
	return Route{network, device}, err
}

// neverRouted are networks without addresses of hosts behind a router: those of this
// host, of a link, and of groups (IANA's special-purpose address registries).
var neverRouted = prefixes(
	"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3",
	"::/127", "::ffff:0:0/96", "fe80::/10", "ff00::/8",
)

// parseRouted parses a network that can be behind a router. With a valid network the
// error is only a remark.
func parseRouted(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q, ignored: it is not a network such as 10.1.0.0/16", s)
	}
	network := p.Masked()
	if i := slices.IndexFunc(neverRouted, network.Overlaps); i >= 0 {
		return netip.Prefix{}, fmt.Errorf("%v, ignored: no host behind a router has an address in %v", p, neverRouted[i])
	}
	if network != p {
		return network, remark{fmt.Errorf("%v has bits beyond its mask, it is taken as %v", p, network)}
	}
	return network, nil
}

// finishRoutes drops routes by interfaces that are not served, and those that overlap
// with a network that is. Without UPNP_ALLOW it allows the hosts of the others ports.
func (d *draft) finishRoutes() {
	var kept []Route
	for _, r := range d.Routes {
		if err := d.checkRoute(r); err != nil {
			d.warn(d.places["lan_route="+r.String()], badEntry{fmt.Errorf("lan_route: %v, ignored: %w", r, err)})
			continue
		}
		kept = append(kept, r)
	}
	d.Routes = kept
	if d.routeRules >= 0 {
		d.Policy.Rules = slices.Insert(d.Policy.Rules, d.routeRules, rulesOfRoutes(kept)...)
	}
}

// rulesOfRoutes returns the rules that allow the hosts of routed networks what UPNP_ALLOW
// allows without ports.
func rulesOfRoutes(routes []Route) (list []portmap.Rule) {
	for _, r := range routes {
		text, _ := allowed(r.Network.String())
		rule, _ := parseRule(text) // which is valid for a network that can be routed
		list = append(list, rule)
	}
	return list
}

// checkRoute returns an error if a route cannot be served with the listening interfaces,
// as far as the settings alone tell.
func (d *draft) checkRoute(r Route) error {
	overlaps := func(l LAN) bool { return l.Prefix.IsValid() && l.Prefix.Overlaps(r.Network) }
	if i := slices.IndexFunc(d.LANs, overlaps); i >= 0 {
		return fmt.Errorf("it overlaps with the network %v, which is served itself", d.LANs[i].Prefix.Masked())
	}
	mayBe := func(l LAN) bool { return l.Interface == r.Interface || l.Prefix.IsValid() }
	if len(d.LANs) > 0 && !slices.ContainsFunc(d.LANs, mayBe) {
		return fmt.Errorf("%s is not served", r.Interface)
	}
	return nil
}
