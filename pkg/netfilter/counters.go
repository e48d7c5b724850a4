package netfilter

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"igdd/pkg/portmap"
)

// Count is what came in by a mapping.
type Count struct{ Packets, Bytes uint64 }

func (c Count) plus(o Count) Count { return Count{c.Packets + o.Packets, c.Bytes + o.Bytes} }

// endpoint is the inside of a mapping.
type endpoint struct {
	portmap.Protocol
	netip.AddrPort
}

// Counters returns what has come in by each mapping since its rules were made,
// counted by the rules that let it through. Behind a firewall that lets known
// connections through before them, as AstLinux's does, that is the first packet
// of each. Mappings that lead to the same port share that rule: for them only
// the first packet of each connection is known, as the translation counts it.
func (f *Firewall) Counters() (map[portmap.Key]Count, error) {
	f.begin()
	defer f.end()
	counts := make(map[portmap.Key]Count)
	through, err := f.counters(f.forward)
	if err != nil {
		return nil, fmt.Errorf("netfilter: %w", err)
	}
	translated, err := f.counters(f.nat)
	if err != nil {
		return nil, fmt.Errorf("netfilter: %w", err)
	}
	inside := make(map[portmap.Key]endpoint)
	leading := make(map[endpoint]int) // how many mappings lead there
	for _, r := range translated {
		key := portmap.Key{Protocol: r.protocol(), External: r.port()}
		counts[key] = counts[key].plus(r.Count)
		if _, known := inside[key]; !known {
			inside[key] = endpoint{key.Protocol, r.target()}
			leading[inside[key]]++
		}
	}
	accepted := sum(through)
	for key, to := range inside {
		if leading[to] == 1 {
			counts[key] = accepted[to]
		}
	}
	return counts, f.addPinholes(counts)
}

// PinholeCounters is Counters for pinholes alone: it does not list the rules of
// IPv4.
func (f *Firewall) PinholeCounters() (map[portmap.Key]Count, error) {
	f.begin()
	defer f.end()
	counts := make(map[portmap.Key]Count)
	return counts, f.addPinholes(counts)
}

// addPinholes adds what has come in by each pinhole.
func (f *Firewall) addPinholes(counts map[portmap.Key]Count) error {
	if f.forward6 == nil {
		return nil
	}
	pinholes, err := f.counters(f.forward6)
	if err != nil {
		return fmt.Errorf("netfilter: %w", err)
	}
	for to, n := range sum(pinholes) {
		counts[portmap.Key{Protocol: to.Protocol, Pinhole: to.AddrPort}] = n
	}
	return nil
}

// counted is a rule and what has matched it.
type counted struct {
	words []string
	Count
}

// counters lists the chain's rules with what has matched them.
func (f *Firewall) counters(c *chain) ([]counted, error) {
	var lines []string
	var err error
	f.withoutNotices(func() { lines, err = c.family.tables.ListWithCounters(c.table, c.name) })
	if err != nil {
		return nil, fmt.Errorf("list counters of chain %s of table %s: %w", c.name, c.table, err)
	}
	var list []counted
	for _, line := range lines {
		if text, ok := strings.CutPrefix(line, "-A "+c.name+" "); ok {
			list = append(list, parseCounted(text))
		}
	}
	return list, nil
}

// parseCounted reads a rule that has "-c PACKETS BYTES" in it.
func parseCounted(text string) counted {
	r := counted{words: splitRule(text)}
	for i := 0; i+2 < len(r.words); i++ {
		if r.words[i] == "-c" {
			r.Packets, r.Bytes = count(r.words[i+1]), count(r.words[i+2])
			break
		}
	}
	return r
}

// count reads a counter; 0 if it is none.
func count(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// protocol returns what the rule is for.
func (r counted) protocol() portmap.Protocol {
	switch name, _ := option(r.words, "-p"); name {
	case "tcp":
		return portmap.TCP
	case "udp":
		return portmap.UDP
	}
	return 0
}

// port returns the destination port that the rule is for.
func (r counted) port() uint16 {
	text, _ := option(r.words, "--dport")
	number, _ := portRange(text, ":")
	return number.First
}

// target returns where a rule of a mapping leads.
func (r counted) target() netip.AddrPort {
	text, _ := option(r.words, "--to-destination")
	to, err := netip.ParseAddrPort(text)
	if err != nil {
		return netip.AddrPort{}
	}
	return to
}

// sum adds up the rules that lead to the same port.
func sum(rules []counted) map[endpoint]Count {
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
