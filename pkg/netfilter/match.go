package netfilter

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"igdd/pkg/portmap"
)

// packet is the first packet of a connection from the Internet. Its source
// address and port are not known.
type packet struct {
	in string     // the interface that it comes in by
	to netip.Addr // its destination, an address of the router; the zero Addr: not known which
}

// matchSet is the destination ports for which conditions match a packet.
type matchSet struct {
	may        portSet // match for some sources, marks and the like
	must       portSet // match for all
	namesPorts bool    // the conditions select ports
}

// The match sets of a condition that has nothing to do with ports.
var (
	always  = matchSet{may: everyPort, must: everyPort}
	never   = matchSet{}
	perhaps = matchSet{may: everyPort}
)

// matchIf returns always or never.
func matchIf(matches bool) matchSet {
	if matches {
		return always
	}
	return never
}

// and returns the set of both conditions together.
func (m matchSet) and(o matchSet) matchSet {
	return matchSet{may: m.may.and(o.may), must: m.must.and(o.must), namesPorts: m.namesPorts || o.namesPorts}
}

// not returns the set of the negated condition.
func (m matchSet) not() matchSet { return matchSet{may: m.must.not(), must: m.may.not()} }

// matchAll returns the set of all conditions of a rule together.
func (p packet) matchAll(conditions []condition) matchSet {
	all := always
	for _, c := range conditions {
		one := p.matchOne(c)
		if c.negated {
			one = one.not()
		}
		all = all.and(one)
	}
	return all
}

// matchOne returns the set of a condition before it is negated. An unknown
// condition gives perhaps.
func (p packet) matchOne(c condition) matchSet {
	switch c.option {
	case "-m":
		return matchModule(c.value)
	case "--comment":
		return always
	case "-i":
		return matchIf(covers(c.value, p.in))
	case "-d":
		return p.matchDestination(c.value)
	case "-s":
		return matchSource(c.value)
	case "-p":
		return matchProtocol(c.value)
	case "--dport", "--dports":
		return matchPorts(c.value)
	case "--ports": // source or destination
		return matchSet{may: everyPort, must: matchPorts(c.value).must, namesPorts: true}
	case "--ctstate", "--state":
		return matchIf(slices.Contains(strings.Split(c.value, ","), "NEW"))
	case "--dst-type":
		return matchIf(slices.Contains(strings.Split(c.value, ","), "LOCAL"))
	case "--tcp-flags":
		return matchFlags(c.value)
	}
	return perhaps
}

// matchModule returns the set of "-m NAME" by itself: always, for modules whose
// options matchOne knows.
func matchModule(name string) matchSet {
	switch name {
	case "tcp", "udp", "multiport", "comment", "conntrack", "state", "addrtype":
		return always
	}
	return perhaps
}

// matchDestination returns the set of "-d 192.0.2.0/24".
func (p packet) matchDestination(network string) matchSet {
	prefix, err := netip.ParsePrefix(network)
	if err != nil || !p.to.IsValid() {
		return perhaps
	}
	return matchIf(prefix.Contains(p.to))
}

// privateNetworks are networks that are not routed in the Internet.
var privateNetworks = [...]netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"),
}

// matchSource returns the set of "-s 192.0.2.0/24".
func matchSource(network string) matchSet {
	prefix, err := netip.ParsePrefix(network)
	if err != nil {
		return perhaps
	}
	for _, n := range privateNetworks {
		if n.Bits() <= prefix.Bits() && n.Contains(prefix.Addr()) {
			return never
		}
	}
	return perhaps
}

// matchProtocol returns the set of "-p tcp".
func matchProtocol(name string) matchSet {
	var set portSet
	switch all := (portmap.PortRange{Last: numPorts - 1}); name {
	case "all":
		set = everyPort
	case "tcp", "6":
		set = portsOf(all, portmap.TCP)
	case "udp", "17":
		set = portsOf(all, portmap.UDP)
	}
	return matchSet{may: set, must: set}
}

// matchPorts returns the set of "--dports 80,443,1000:2000".
func matchPorts(list string) matchSet {
	var set portSet
	for text := range strings.SplitSeq(list, ",") {
		r, ok := portRange(text, ":")
		if !ok {
			return perhaps
		}
		set = set.or(portsOf(r, portmap.TCP, portmap.UDP))
	}
	every := portsOf(portmap.PortRange{First: 1, Last: numPorts - 1}, portmap.TCP, portmap.UDP)
	return matchSet{may: set, must: set, namesPorts: len(every.minus(set)) > 0}
}

// matchFlags returns the set of "--tcp-flags FIN,SYN,RST,ACK SYN" for a packet
// that has no flag but SYN.
func matchFlags(value string) matchSet {
	mask, set, _ := strings.Cut(value, " ")
	want := "NONE"
	if mask == "ALL" || slices.Contains(strings.Split(mask, ","), "SYN") {
		want = "SYN"
	}
	return matchIf(set == want)
}

// portRange parses "80" and, with the separator ":", "80:90".
func portRange(text, separator string) (portmap.PortRange, bool) {
	first, last, isRange := strings.Cut(text, separator)
	if !isRange {
		last = first
	}
	a, err := strconv.ParseUint(first, 10, 16)
	b, err2 := strconv.ParseUint(last, 10, 16)
	if err != nil || err2 != nil || a > b {
		return portmap.PortRange{}, false
	}
	return portmap.PortRange{First: uint16(a), Last: uint16(b)}, true
}

// condition is an option that selects packets.
type condition struct {
	option, value string // "--dport", "80"; several words are separated by blanks
	negated       bool
}

// parsedRule is a rule in its parts.
type parsedRule struct {
	conditions []condition
	verb       string   // "-j" (jump) or "-g" (goto); "": the rule only counts
	target     string   // a chain or an extension
	options    []string // of the extension
}

// parseRule parses the words of a rule as iptables-save prints it: first the
// conditions, then the target.
func parseRule(words []string) parsedRule {
	var r parsedRule
	negated := false
	for i := 0; i < len(words); {
		word := words[i]
		i++
		switch {
		case word == "!":
			negated = true
			continue
		case (word == "-j" || word == "-g") && i < len(words):
			r.verb, r.target, r.options = word, words[i], words[i+1:]
			return r
		}
		n := operands(word, words[i:])
		r.conditions = append(r.conditions, condition{word, strings.Join(words[i:i+n], " "), negated})
		i += n
		negated = false
	}
	return r
}

// operands returns how many of the words after an option belong to it.
func operands(option string, rest []string) int {
	if slices.Contains(textOptions[:], option) {
		return min(1, len(rest))
	}
	n := slices.IndexFunc(rest, func(word string) bool { return word == "!" || strings.HasPrefix(word, "-") })
	if n < 0 {
		return len(rest)
	}
	return n
}
