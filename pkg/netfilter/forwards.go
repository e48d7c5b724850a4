package netfilter

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"igdd/pkg/portmap"
)

// allPorts is what a rule without ports takes.
var allPorts = portmap.PortRange{First: 1, Last: 65535}

// StaticForwards returns the port forwards that the administrator's firewall
// makes in table nat, in PREROUTING and the chains that it leads to, but ours.
func (f *Firewall) StaticForwards() ([]portmap.Forward, error) {
	f.begin()
	defer f.end()
	tables, err := f.ipv4.look()
	if err != nil {
		return nil, fmt.Errorf("netfilter: %w", err)
	}
	var forwards []portmap.Forward
	visited := map[string]bool{f.nat.name: true}
	for waiting := []string{f.nat.builtIn().chain}; len(waiting) > 0; waiting = waiting[1:] {
		name := waiting[0]
		if visited[name] {
			continue
		}
		visited[name] = true
		for _, text := range tables[f.nat.table][name] {
			rule := words(text)
			if !slices.ContainsFunc(f.nat.wan, func(device string) bool { return admits(rule, f.nat.side, device) }) {
				continue
			}
			switch to := target(rule); to {
			case "DNAT", "REDIRECT":
				forwards = append(forwards, parseForward(rule)...)
			default: // what is no chain has no rules
				waiting = append(waiting, to)
			}
		}
	}
	return forwards, nil
}

// parseForward returns what a rule with target DNAT or REDIRECT forwards. What
// it does not understand of the rule it takes for as wide as can be.
func parseForward(rule []string) []portmap.Forward {
	var forwards []portmap.Forward
	for _, protocol := range protocols(rule) {
		for _, external := range ports(rule) {
			forwards = append(forwards, portmap.Forward{Protocol: protocol, External: external, Target: destination(rule)})
		}
	}
	return forwards
}

// protocols returns those of ours that the rule is for.
func protocols(rule []string) []portmap.Protocol {
	switch name, negated := option(rule, "-p"); {
	case negated, name == "", name == "all":
		return []portmap.Protocol{portmap.TCP, portmap.UDP}
	case name == "tcp":
		return []portmap.Protocol{portmap.TCP}
	case name == "udp":
		return []portmap.Protocol{portmap.UDP}
	}
	return nil
}

// ports returns the external ports of "--dport 80", "--dport 80:90" and
// "--dports 80,443,1000:2000".
func ports(rule []string) []portmap.PortRange {
	list, negated := option(rule, "--dport", "--dports", "--ports")
	if list == "" || negated {
		return []portmap.PortRange{allPorts}
	}
	var ranges []portmap.PortRange
	for text := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(text, ":")
		if !isRange {
			last = first
		}
		r := portmap.PortRange{First: port(first), Last: port(last)}
		if r.First == 0 || r.Last < r.First {
			r = allPorts
		}
		ranges = append(ranges, r)
	}
	return ranges
}

// destination returns where a rule leads: "--to-destination 10.0.0.1:80". A
// range of ports keeps the external port, of several addresses the first
// counts. Without any it is the router.
func destination(rule []string) netip.AddrPort {
	to, _ := option(rule, "--to-destination")
	address, number, _ := strings.Cut(to, ":")
	address, _, _ = strings.Cut(address, "-")
	a, err := netip.ParseAddr(address)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a, port(number))
}

// port reads a port number; 0 if it is none.
func port(text string) uint16 {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0
	}
	return uint16(n)
}
