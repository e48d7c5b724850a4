package netfilter

import (
	"net/netip"
	"slices"
	"strings"

	"igdd/pkg/portmap"
	"igdd/pkg/xtables"
)

// Forwards are the static port forwards: those in the administrator's firewall.
type Forwards struct {
	// Certain apply to every new connection from the Internet. Ports that a rule
	// keeps from the daemon's chain without forwarding them count as forwards to
	// the router itself.
	Certain []portmap.Forward
	// Rules are the rules that make them, and those that forward only some
	// connections, by their source address, a mark or a set.
	Rules []PortRule
}

// PortRule is a rule that takes connections to a port.
type PortRule struct {
	Protocol portmap.Protocol
	External portmap.PortRange
	Rule     string // "PREROUTING -s 192.0.2.7/32 -p udp -j DNAT …"
	Certain  bool   // it takes every new connection that gets there
}

// forwards returns the ports of an uplink that the administrator's rules in c's
// table forward, before the daemon's chain, or after it if they name ports. The
// table has the jumps to the chain.
func (c *chain) forwards(t xtables.Table, u Uplink) Forwards {
	t = t.After(xtables.Edit{Op: xtables.Flush, Chain: c.name}) // its own rules are not static forwards
	addrs := u.Addrs
	if len(addrs) == 0 {
		addrs = make([]netip.Addr, 1)
	}
	devices := c.devices(t)
	announced := devices
	if u.Device != "" {
		announced = []string{u.Device}
	}
	var found Forwards
	var reserved xtables.PortSet
	for _, device := range announced {
		trace := c.traceNAT(t, device, addrs[0])
		certain, rules := trace.forwards()
		found.Certain, found.Rules = append(found.Certain, certain...), append(found.Rules, rules...)
		ports, _ := trace.certainPorts()
		reserved = reserved.Or(ports)
	}
	for _, device := range devices {
		for i, to := range addrs {
			if i == 0 && slices.Contains(announced, device) {
				continue
			}
			shadowed := c.traceNAT(t, device, to).shadowedPorts().Minus(reserved)
			found.Certain = appendForwards(found.Certain, shadowed, netip.AddrPort{})
			reserved = reserved.Or(shadowed)
		}
	}
	found.Certain, found.Rules = distinct(found.Certain), distinct(found.Rules)
	return found
}

// unnamed stands for an interface that a pattern covers and no rule names: no
// name has a blank.
func unnamed(pattern string) string {
	if prefix, isPattern := strings.CutSuffix(pattern, "+"); isPattern {
		return prefix + " "
	}
	return pattern
}

// devices returns the interfaces by which packets come in: those that rules name
// and the patterns cover, and one that no rule names.
func (c *chain) devices(t xtables.Table) []string {
	var list []string
	for _, pattern := range c.wan {
		list = append(list, unnamed(pattern))
		for _, chain := range t {
			for _, text := range chain.Rules {
				if !strings.Contains(text, c.side) {
					continue
				}
				if device := xtables.ParseRule(text).Condition(c.side).Value; device != "" && xtables.Covers(pattern, device) && !strings.HasSuffix(device, "+") {
					list = append(list, device)
				}
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// distinct returns the list without duplicates, in its order.
func distinct[T comparable](list []T) []T {
	seen := make(map[T]bool, len(list))
	return slices.DeleteFunc(list, func(v T) bool { known := seen[v]; seen[v] = true; return known })
}
