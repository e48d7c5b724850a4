package daemon

import (
	"net/netip"

	"igdd/pkg/hosts"
)

// hideHosts makes the servers give no answer to hosts that may have no port, if the
// settings say so. Where a host may open ports for others there is no such host.
func (d *Daemon) hideHosts() {
	if !d.config.Hidden || d.config.ThirdParty {
		return
	}
	d.lanHosts.IsHidden = func(index int, a netip.Addr) bool {
		return d.currentPolicy().Secure && !d.resolver.MayHavePorts(index, a)
	}
	d.lanHosts.AreAllHidden = func(index int) bool {
		return d.currentPolicy().Secure && !d.resolver.AnyMayHavePorts(index)
	}
}

// lanAt returns the LAN of the interface with that index.
func (d *Daemon) lanAt(index int) hosts.LAN {
	l := hosts.LAN{Index: index}
	links, _ := d.watch.Now()
	for _, lan := range d.config.LANs {
		for _, link := range linksOf(lan, uplinks(d.config), links) {
			if link.Index != index {
				continue
			}
			l.Device = link.Name
			for _, p := range link.Addrs {
				if p.Addr().Is4() && !p.IsSingleIP() {
					l.Networks = append(l.Networks, p.Masked())
				}
			}
			return l
		}
	}
	return l
}
