package netfilter

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"igdd/pkg/portmap"
)

// Count is the traffic that came in through a mapping.
type Count struct{ Packets, Bytes uint64 }

func (c Count) plus(o Count) Count { return Count{c.Packets + o.Packets, c.Bytes + o.Bytes} }

// endpoint is the target of a mapping.
type endpoint struct {
	portmap.Protocol
	netip.AddrPort
}

// Counters returns the traffic that has come in through each mapping since its
// rules were installed, as the accept rules count it. If the firewall accepts
// established connections before them, as AstLinux's does, that is the first
// packet of each connection. Mappings to the same target share an accept rule:
// for them the DNAT rule counts, which also sees only the first packets.
func (f *Firewall) Counters() (map[portmap.Key]Count, error) {
	f.begin()
	defer f.end()
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
		counts[key] = counts[key].plus(r.Count)
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
	f.begin()
	defer f.end()
	counts := make(map[portmap.Key]Count)
	return counts, f.addPinholes(counts)
}

// addPinholes adds the traffic that has come in through each pinhole.
func (f *Firewall) addPinholes(counts map[portmap.Key]Count) error {
	if f.forward6 == nil {
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
	words []string
	Count
}

// counters lists the chain's rules with their counters.
func (f *Firewall) counters(c *chain) ([]countedRule, error) {
	var lines []string
	var err error
	f.withoutNotices(func() { lines, err = c.family.tables.ListWithCounters(c.table, c.name) })
	if err != nil {
		return nil, fmt.Errorf("list counters of chain %s of table %s: %w", c.name, c.table, err)
	}
	var list []countedRule
	for _, line := range lines {
		if text, ok := strings.CutPrefix(line, "-A "+c.name+" "); ok {
			list = append(list, parseCounted(text))
		}
	}
	return list, nil
}

// parseCounted parses a rule with "-c PACKETS BYTES".
func parseCounted(text string) countedRule {
	r := countedRule{words: splitRule(text)}
	for i := 0; i+2 < len(r.words); i++ {
		if r.words[i] == "-c" {
			r.Packets, r.Bytes = parseCount(r.words[i+1]), parseCount(r.words[i+2])
			break
		}
	}
	return r
}

// parseCount parses a counter, 0 if it is invalid.
func parseCount(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// protocol returns the rule's protocol, 0 if it is neither TCP nor UDP.
func (r countedRule) protocol() portmap.Protocol {
	switch name, _ := option(r.words, "-p"); name {
	case "tcp":
		return portmap.TCP
	case "udp":
		return portmap.UDP
	}
	return 0
}

// port returns the rule's destination port.
func (r countedRule) port() uint16 {
	text, _ := option(r.words, "--dport")
	number, _ := portRange(text, ":")
	return number.First
}

// target returns where a DNAT rule forwards to.
func (r countedRule) target() netip.AddrPort {
	text, _ := option(r.words, "--to-destination")
	to, err := netip.ParseAddrPort(text)
	if err != nil {
		return netip.AddrPort{}
	}
	return to
}

// sumByTarget adds up the accept rules of each target.
func sumByTarget(rules []countedRule) map[endpoint]Count {
	sums := make(map[endpoint]Count)
	for _, r := range rules {
		text, _ := option(r.words, "-d")
		if to, err := netip.ParsePrefix(text); err == nil {
			at := endpoint{r.protocol(), netip.AddrPortFrom(to.Addr(), r.port())}
			sums[at] = sums[at].plus(r.Count)
		}
	}
	return sums
}
