package daemon

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"igdd/pkg/control"
	"igdd/pkg/netfilter"
	"igdd/pkg/portmap"
)

// statusTimeout is how long status and metrics wait for a look at the firewall: longer
// than iptables-save may take, ten seconds, as many rules take a slow board some.
const statusTimeout = 12 * time.Second

// looked takes what a look at the firewall has found, and returns after what time to
// look again; 0: when the firewall changes again.
func (d *Daemon) looked(l netfilter.Look) (again time.Duration) {
	if l.Family == portmap.IPv4 {
		again = d.forwards.update(l.Forwards, l.Changed)
	} else if !d.pinholes.Swap(true) {
		d.wakeUplink() // they are possible from now on
	}
	d.ipv6.notify(l)
	return again
}

// network returns the interfaces on which the firewall's rules depend.
func (d *Daemon) network() netfilter.Network {
	links, _ := d.watch.Now()
	n := netfilter.Network{Uplink: d.forwardUplink(), Sources: make(map[string]netip.Addr)}
	for _, l := range d.config.LANs {
		for _, link := range linksOf(l, uplinks(d.config), links) {
			n.LANs = append(n.LANs, link.Name)
			n.Networks = append(n.Networks, networks4(link.Addrs, d.routedBy(link.Index))...)
		}
	}
	for _, pattern := range d.config.WAN {
		for _, link := range matchingLinks(pattern, links) {
			n.Sources[link.Name] = link.MasqueradeAlways()
		}
	}
	if d.config.Hairpin {
		n.Hairpin = d.hairpin(links, n.Uplink)
	}
	return n
}

// health returns the state of the firewall's families, after a look at it.
func (d *Daemon) health() []netfilter.Health {
	ctx, cancel := context.WithTimeout(context.Background(), statusTimeout)
	defer cancel()
	return d.firewall.Health(ctx)
}

// firewallStatus returns the state of the firewall.
func (d *Daemon) firewallStatus() control.Firewall {
	f := control.Firewall{Healthy: true}
	var troubles []string
	for _, h := range d.health() {
		f.Healthy = f.Healthy && h.IsHealthy()
		if err := cmp.Or(h.Trouble, d.table.LastError(h.Family)); err != nil {
			troubles = append(troubles, fmt.Sprintf("%v: %v", h.Family, err))
		}
		for _, reason := range h.Dead {
			troubles = append(troubles, fmt.Sprintf("%v: mappings do not work: %s", h.Family, reason))
		}
		f.Repairs += h.Repairs
		if h.Repaired.After(f.Repaired) {
			f.Repaired = h.Repaired
		}
	}
	f.Trouble = strings.Join(troubles, "; ")
	return f
}
