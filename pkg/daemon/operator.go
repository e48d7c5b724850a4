package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"igdd/pkg/config"
	"igdd/pkg/control"
	"igdd/pkg/hosts"
	"igdd/pkg/portmap"
	"igdd/pkg/upstream"
)

// serveOperator answers the requests of miniupnpctl. The daemon goes on if it
// fails.
func (d *Daemon) serveOperator(ctx context.Context) error {
	server := control.New(control.Options{
		Socket:    d.config.ControlSocket,
		Table:     d.resolver,
		Status:    d.status,
		Metrics:   d.metricsText,
		Left:      d.firewall.Left,
		NotSaved:  d.notSaved,
		RuleText:  config.RuleAndPlace,
		PortRules: d.forwards.rulesFor,
		Trace:     d.trace,
		Traffic:   d.traffic,
		Events:    d.events,
		Emit:      d.emit,
		Explain:   d.explain,
		Limits:    d.limits,
		Ports:     d.portsText,
		Hosts:     func() (map[netip.Addr]hosts.Host, error) { return hosts.Read(d.config.DHCPLeases) },
		Log:       d.log,
	})
	if err := server.Run(ctx); err != nil {
		d.log.Error("cannot serve miniupnpctl", "err", err)
	}
	return nil
}

// limits returns the limits for the number of mappings, in brackets.
func (d *Daemon) limits() string {
	p := d.currentPolicy()
	return fmt.Sprintf(" (UPNP_MAX_PER_HOST is %d, UPNP_MAX_PER_LAN %d, UPNP_MAX_TOTAL %d)", p.MaxPerHost, p.MaxPerLAN, p.MaxTotal)
}

// portsText returns the external ports that the provider forwards, in brackets; "": every
// port.
func (d *Daemon) portsText() string {
	ports := d.currentPolicy().ExternalPorts
	if ports == nil {
		return ""
	}
	return fmt.Sprintf(" (UPNP_EXT_PORTS is %s)", cmp.Or(ports.String(), "none"))
}

// portCount counts the external ports that the provider forwards; nil: every port.
func (d *Daemon) portCount() *control.PortCount {
	ports := d.currentPolicy().ExternalPorts
	if ports == nil {
		return nil
	}
	return &control.PortCount{
		Total: ports.Len(), FreeTCP: d.table.Unmapped(portmap.TCP, ports), FreeUDP: d.table.Unmapped(portmap.UDP, ports),
	}
}

// traffic returns the counters of the mappings that have rules.
func (d *Daemon) traffic() (map[portmap.Key]control.Traffic, error) {
	counts, err := d.firewall.Counters()
	if err != nil {
		return nil, err
	}
	traffic := make(map[portmap.Key]control.Traffic, len(counts))
	for k, c := range counts {
		traffic[k] = control.Traffic(c)
	}
	return traffic, nil
}

// status returns the state of the daemon.
func (d *Daemon) status() control.Status {
	links, _ := d.watch.Now()
	s := control.Status{
		Version: d.version, Started: d.started, External: d.table.External(),
		Firewall: d.firewallStatus(), Note: externalNote(d.uplink.addr(), d.table.External()), Ports: d.portCount(), Upstream: d.upstreamStatus(),
	}
	if err := d.helper(); err != nil {
		s.Helper = err.Error()
	}
	if err := d.leaseTrouble(); err != nil {
		s.Leases = err.Error()
	}
	for name, enabled := range map[string]bool{"NAT-PMP": d.config.NATPMP, "PCP": d.config.PCP, "UPnP": d.config.UPnP} {
		if enabled {
			s.Protocols = append(s.Protocols, name)
		}
	}
	slices.Sort(s.Protocols)
	for _, pattern := range uplinks(d.config) {
		found := matchingLinks(pattern, links)
		if len(found) == 0 {
			s.Uplinks = append(s.Uplinks, control.Link{Name: pattern, Note: "there is no interface " + pattern})
		}
		for _, l := range found {
			s.Uplinks = append(s.Uplinks, control.Link{Name: l.Name, Up: l.Up, Addresses: l.Addrs})
		}
	}
	servers := slices.Sorted(maps.Keys(d.servers()))
	for _, l := range d.config.LANs {
		found := linksOf(l, uplinks(d.config), links)
		if len(found) == 0 {
			s.LANs = append(s.LANs, control.Link{Name: l.String(), Note: missingText(l, links)})
		}
		for _, link := range found {
			s.LANs = append(s.LANs, control.Link{Name: link.Name, Up: link.Up, Addresses: link.Addrs, Servers: servers})
		}
	}
	s.Routes = d.routeStates(links)
	return s
}

// externalNote returns a note on the announced address of an uplink with an own address,
// "" if there is none.
func externalNote(own, announced netip.Addr) string {
	switch {
	case !own.IsValid():
		return "the uplink has no IPv4 address"
	case own != announced && config.Reserved(announced):
		return fmt.Sprintf("the uplink's own address is %v; the announced one is not routed on the Internet: a router further upstream must forward the ports too", own)
	case own != announced:
		return fmt.Sprintf("the uplink's own address is %v", own)
	case config.Reserved(own):
		return "this address is not routed on the Internet: a router upstream must forward the ports too"
	}
	return ""
}

// upstreamStatus returns the state of the router in front; nil: none is asked.
func (d *Daemon) upstreamStatus() *control.Upstream {
	if d.upstream == nil {
		return nil
	}
	return upstreamState(d.upstream.Status())
}

// upstreamState returns the state of the router in front for the operator; nil: none is
// asked.
func upstreamState(s upstream.Status) *control.Upstream {
	if !s.Gateway.IsValid() && s.Err == nil {
		return nil
	}
	u := &control.Upstream{Address: s.Gateway, External: s.External}
	if s.Method != 0 {
		u.Protocol = s.Method.String()
	}
	if s.Err != nil {
		u.Trouble = s.Err.Error()
	}
	return u
}

// leaseTrouble returns why the leases are not saved, nil if they are. In the sandbox the
// cause that was found before may not be visible any more.
func (d *Daemon) leaseTrouble() error {
	err := d.store.Trouble()
	switch {
	case err != nil && d.barred != nil:
		return d.barred
	case err == nil && d.covered != nil:
		return d.covered()
	}
	return err
}

// notSaved returns why leases and blocks are not saved, nil if they are.
func (d *Daemon) notSaved() error {
	if d.config.LeaseFile == "" {
		return errors.New("there is no lease file; set lease_file (UPNP_LEASE_FILE)")
	}
	return d.leaseTrouble()
}

// isLogged reports whether the table has logged this trouble already, since a Save has
// failed and the store sees the cause itself.
func (d *Daemon) isLogged(trouble error) bool {
	seen := d.store.Trouble()
	return d.store.Failed() && seen != nil && seen.Error() == trouble.Error()
}
