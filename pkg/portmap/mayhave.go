package portmap

import (
	"net/netip"
	"slices"
)

// MayHavePorts reports whether the rules let a host have any port at all, whatever the
// internal port and the description. The port of to does not matter.
func (p *Policy) MayHavePorts(to Destination) bool {
	return p.eachNetwork(to, func(to Destination) bool { return p.permitsAny(to, (*Rule).appliesToHost) })
}

// AnyMayHavePorts reports whether the rules may let a host have a port that is behind
// an interface with these IPv4 networks.
func (p *Policy) AnyMayHavePorts(device string, networks []netip.Prefix) bool {
	anyone := Destination{AddrPort: netip.AddrPortFrom(netip.IPv6Unspecified(), 0), Interface: device, Networks: networks}
	return p.permitsAny(anyone, func(r *Rule, to *Destination) bool {
		if r.Hardware != "" || r.Prefix.IsValid() {
			return r.Allow && r.matchesInterface(device)
		}
		certain, possible := r.matchesHost(to)
		return certain || r.Allow && possible
	})
}

// PortsOfAnybody returns every external port that the rules may let reach some IPv4
// destination.
func (p *Policy) PortsOfAnybody() *PortSet {
	var denied, open PortSet
	for i := range p.Rules {
		r := &p.Rules[i]
		var ports PortSet
		for _, external := range r.External.ranges() {
			ports.AddRange(external)
		}
		ports.subtract(&denied)
		switch {
		case r.Allow && !r.Prefix.IsValid():
			open.unite(&ports)
		case r.deniesEverybody():
			denied.unite(&ports)
		}
	}
	for w := range open {
		open[w] |= ^denied[w]
	}
	open.Remove(0)
	return &open
}

// deniesEverybody reports whether the rule denies its external ports to all IPv4
// destinations.
func (r *Rule) deniesEverybody() bool {
	all := len(r.Internal) == 0 || slices.ContainsFunc(r.Internal, func(p PortRange) bool { return p.First <= 1 && p.Last == 1<<16-1 })
	return !r.Allow && r.isIPv4() && r.Mask == 0 && all && r.Interfaces == nil && r.Origins == nil && r.Description == nil
}

// eachNetwork reports whether ask is true of a destination: if the host may be in
// several networks, of all of them.
func (p *Policy) eachNetwork(to Destination, ask func(Destination) bool) bool {
	if len(to.IPv4) > 0 || len(to.Networks) < 2 {
		return ask(to)
	}
	return !slices.ContainsFunc(to.Networks, func(n netip.Prefix) bool {
		to.Networks = []netip.Prefix{n}
		return !ask(to)
	})
}

// permitsAny reports whether the rules that apply to a destination permit it any
// external port for any internal port by any protocol.
func (p *Policy) permitsAny(to Destination, applies func(*Rule, *Destination) bool) bool {
	ways := []Origin{PCP} // which stands for all if the rules do not tell them apart
	if p.selectsOrigins() {
		ways = []Origin{NATPMP, PCP, UPnP}
	}
	return slices.ContainsFunc(ways, func(o Origin) bool {
		var rules []*Rule
		for i := range p.Rules {
			if r := &p.Rules[i]; r.matchesOrigin(o) && applies(r, &to) {
				rules = append(rules, r)
			}
		}
		return permitSomePorts(rules)
	})
}

// permitSomePorts reports whether rules permit a pair of ports. It tries the ports at
// which the decision can change.
func permitSomePorts(rules []*Rule) bool {
	externals := edges(rules, func(r *Rule) Ports { return r.External })
	internals := edges(rules, func(r *Rule) Ports { return r.Internal })
	for _, external := range externals {
		for _, internal := range internals {
			if permitsSome(rules, external, internal) {
				return true
			}
		}
	}
	return false
}

// edges returns the first port, and those at which ranges of rules begin or have just
// ended.
func edges(rules []*Rule, ports func(*Rule) Ports) []uint16 {
	list := []uint16{1}
	for _, r := range rules {
		for _, p := range ports(r) {
			list = append(list, max(p.First, 1), max(p.Last+1, 1)) // behind the last port is the first
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// permitsSome reports whether rules permit a pair of ports with some description.
func permitsSome(rules []*Rule, external, internal uint16) bool {
	for _, r := range rules {
		if r.External.Contains(external) && r.Internal.Contains(internal) && (r.Allow || r.Description == nil) {
			return r.Allow
		}
	}
	return true
}
