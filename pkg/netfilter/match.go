package netfilter

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"igdd/pkg/portmap"
)

// packet is the first packet of a connection that a host in the Internet makes
// through an uplink. From which address and port it comes is left open.
type packet struct {
	in string     // the interface that it comes in by
	to netip.Addr // where it goes, an address of the router; the zero Addr: not known which
}

// reach is what conditions match of a packet to any port.
type reach struct {
	may     portSet // matched if what is left open fits
	must    portSet // matched whatever is left open
	chooses bool    // ports are named: not all, nor all but some
}

// The answers of a condition that has nothing to do with ports.
var (
	always  = reach{may: everyPort, must: everyPort}
	never   = reach{}
	perhaps = reach{may: everyPort}
)

// answer is always or never.
func answer(matches bool) reach {
	if matches {
		return always
	}
	return never
}

// and returns what both match.
func (r reach) and(o reach) reach {
	return reach{may: r.may.and(o.may), must: r.must.and(o.must), chooses: r.chooses || o.chooses}
}

// not returns what a negated condition matches.
func (r reach) not() reach { return reach{may: r.must.not(), must: r.may.not()} }

// meets returns what all conditions of a rule match.
func (p packet) meets(conditions []condition) reach {
	r := always
	for _, c := range conditions {
		one := p.meetsOne(c)
		if c.negated {
			one = one.not()
		}
		r = r.and(one)
	}
	return r
}

// meetsOne returns what a condition matches before it is negated. What it does
// not know is left open.
func (p packet) meetsOne(c condition) reach {
	switch c.option {
	case "-m":
		return meetsModule(c.value)
	case "--comment":
		return always
	case "-i":
		return answer(spans(c.value, p.in))
	case "-d":
		return p.meetsDestination(c.value)
	case "-s":
		return meetsSource(c.value)
	case "-p":
		return meetsProtocol(c.value)
	case "--dport", "--dports":
		return meetsPorts(c.value)
	case "--ports": // of either side
		return reach{may: everyPort, must: meetsPorts(c.value).must, chooses: true}
	case "--ctstate", "--state":
		return answer(slices.Contains(strings.Split(c.value, ","), "NEW"))
	case "--dst-type":
		return answer(slices.Contains(strings.Split(c.value, ","), "LOCAL"))
	case "--tcp-flags":
		return meetsFlags(c.value)
	}
	return perhaps
}

// meetsModule returns what "-m NAME" matches by itself: everything, if what
// else the module matches is said by options that are known here.
func meetsModule(name string) reach {
	switch name {
	case "tcp", "udp", "multiport", "comment", "conntrack", "state", "addrtype":
		return always
	}
	return perhaps
}

// meetsDestination returns what "-d 192.0.2.0/24" matches.
func (p packet) meetsDestination(network string) reach {
	prefix, err := netip.ParsePrefix(network)
	if err != nil || !p.to.IsValid() {
		return perhaps
	}
	return answer(prefix.Contains(p.to))
}

// inside are the networks that no host in the Internet sends from.
var inside = [...]netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"),
}

// meetsSource returns what "-s 192.0.2.0/24" matches.
func meetsSource(network string) reach {
	prefix, err := netip.ParsePrefix(network)
	if err != nil {
		return perhaps
	}
	for _, n := range inside {
		if n.Bits() <= prefix.Bits() && n.Contains(prefix.Addr()) {
			return never
		}
	}
	return perhaps
}

// meetsProtocol returns what "-p tcp" matches of TCP and UDP.
func meetsProtocol(name string) reach {
	var set portSet
	switch whole := (portmap.PortRange{Last: ports - 1}); name {
	case "all":
		set = everyPort
	case "tcp", "6":
		set = portsOf(whole, portmap.TCP)
	case "udp", "17":
		set = portsOf(whole, portmap.UDP)
	}
	return reach{may: set, must: set}
}

// meetsPorts returns what "80", "80:90" and "80,443,1000:2000" match.
func meetsPorts(list string) reach {
	var set portSet
	for text := range strings.SplitSeq(list, ",") {
		r, ok := portRange(text, ":")
		if !ok {
			return perhaps
		}
		set = set.or(portsOf(r, portmap.TCP, portmap.UDP))
	}
	every := portsOf(portmap.PortRange{First: 1, Last: ports - 1}, portmap.TCP, portmap.UDP)
	return reach{may: set, must: set, chooses: len(every.minus(set)) > 0}
}

// meetsFlags returns what "--tcp-flags FIN,SYN,RST,ACK SYN" matches of a
// packet that has SYN alone.
func meetsFlags(value string) reach {
	mask, set, _ := strings.Cut(value, " ")
	want := "NONE"
	if mask == "ALL" || slices.Contains(strings.Split(mask, ","), "SYN") {
		want = "SYN"
	}
	return answer(set == want)
}

// portRange reads "80" and, with its separator, "80:90".
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

// condition is one option that a rule chooses packets by.
type condition struct {
	option, value string // "--dport", "80"; words of a value are parted by blanks
	negated       bool
}

// parsedRule is a rule taken apart.
type parsedRule struct {
	conditions []condition
	verb       string // "-j" or "-g"; "": the rule only counts
	target     string // a chain or an extension
	options    []string
}

// parseRule takes a rule apart as iptables-save prints it: first what
// chooses packets, then what is done with them.
func parseRule(rule []string) parsedRule {
	var c parsedRule
	negated := false
	for i := 0; i < len(rule); {
		word := rule[i]
		i++
		switch {
		case word == "!":
			negated = true
			continue
		case (word == "-j" || word == "-g") && i < len(rule):
			c.verb, c.target, c.options = word, rule[i], rule[i+1:]
			return c
		}
		n := operands(word, rule[i:])
		c.conditions = append(c.conditions, condition{word, strings.Join(rule[i:i+n], " "), negated})
		i += n
		negated = false
	}
	return c
}

// operands returns how many of the words behind an option belong to it.
func operands(option string, behind []string) int {
	if slices.Contains(textOptions[:], option) {
		return min(1, len(behind))
	}
	n := slices.IndexFunc(behind, func(word string) bool { return word == "!" || strings.HasPrefix(word, "-") })
	if n < 0 {
		return len(behind)
	}
	return n
}
