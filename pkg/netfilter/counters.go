package netfilter

import (
	"fmt"
	"net/netip"

	"igdd/pkg/portmap"
	"igdd/pkg/xtables"
)

// Count is the traffic that came in through a mapping.
type Count = xtables.Count

// endpoint is the target of a mapping.
type endpoint struct {
	portmap.Protocol
	netip.AddrPort
}

// Counters returns the traffic that has come in through each mapping since its
// rules were installed, as the accept rules count it. If the firewall accepts
// established connections before them, as AstLinux's does, that is the first
// packet of each connection. Mappings to the same target share an accept rule:
// for them the DNAT rule counts, which also sees only the first packets. It
// waits for no other operation.
func (f *Firewall) Counters() (map[portmap.Key]Count, error) {
	counts := make(map[portmap.Key]Count)
	accepting, err := f.counters(f.forward)
	if err != nil {
		return nil, fmt.Errorf("netfilter: %w", err)
	}
	translating, err := f.counters(f.nat)
	if err != nil {
		return nil, fmt.Errorf("netfilter: %w", err)
	}
	targets := make(map[portmap.Key]endpoint)
	mappingsTo := make(map[endpoint]int)
	for _, r := range translating {
		key := portmap.Key{Protocol: r.protocol(), External: r.port()}
		counts[key] = counts[key].Plus(r.Count)
		if _, known := targets[key]; !known {
			targets[key] = endpoint{key.Protocol, r.target()}
			mappingsTo[targets[key]]++
		}
	}
	accepted := sumByTarget(accepting)
	for key, to := range targets {
		if mappingsTo[to] == 1 {
			counts[key] = accepted[to]
		}
	}
	return counts, f.addPinholes(counts)
}

// PinholeCounters is Counters for pinholes only: it does not list the rules of
// IPv4.
func (f *Firewall) PinholeCounters() (map[portmap.Key]Count, error) {
	counts := make(map[portmap.Key]Count)
	return counts, f.addPinholes(counts)
}

// addPinholes adds the traffic that has come in through each pinhole.
func (f *Firewall) addPinholes(counts map[portmap.Key]Count) error {
	if !f.Pinholes() {
		return nil
	}
	pinholes, err := f.counters(f.forward6)
	if err != nil {
		return fmt.Errorf("netfilter: %w", err)
	}
	for to, n := range sumByTarget(pinholes) {
		counts[portmap.Key{Protocol: to.Protocol, Pinhole: to.AddrPort}] = n
	}
	return nil
}

// countedRule is a rule and the traffic that has matched it.
type countedRule struct {
	xtables.Rule
	Count
}

// counters lists the chain's rules with their counters.
func (f *Firewall) counters(c *chain) ([]countedRule, error) {
	counts, err := c.family.programs.Counters(f.ctx, c.table, c.name)
	if err != nil {
		return nil, fmt.Errorf("list counters of chain %s of table %s: %w", c.name, c.table, err)
	}
	list := make([]countedRule, 0, len(counts))
	for rule, n := range counts {
		list = append(list, countedRule{xtables.ParseRule(rule), n})
	}
	return list, nil
}

// protocol returns the rule's protocol, 0 if it is neither TCP nor UDP.
func (r countedRule) protocol() portmap.Protocol {
	switch r.Condition("-p").Value {
	case "tcp":
		return portmap.TCP
	case "udp":
		return portmap.UDP
	}
	return 0
}

// port returns the rule's destination port.
func (r countedRule) port() uint16 {
	number, _ := xtables.ParsePortRange(r.Condition("--dport").Value, ":")
	return number.First
}

// target returns where a DNAT rule forwards to.
func (r countedRule) target() netip.AddrPort {
	to, err := netip.ParseAddrPort(r.Option("--to-destination"))
	if err != nil {
		return netip.AddrPort{}
	}
	return to
}

// sumByTarget adds up the accept rules of each target.
func sumByTarget(rules []countedRule) map[endpoint]Count {
	sums := make(map[endpoint]Count)
	for _, r := range rules {
		if to, err := netip.ParsePrefix(r.Condition("-d").Value); err == nil {
			at := endpoint{r.protocol(), netip.AddrPortFrom(to.Addr(), r.port())}
			sums[at] = sums[at].Plus(r.Count)
		}
	}
	return sums
}
