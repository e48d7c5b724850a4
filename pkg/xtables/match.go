package xtables

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Packet is the first packet of a connection, or of many: whatever is not set
// is not known, and each port of a set is looked at by itself.
type Packet struct {
	In          string       // the interface that it comes in by, or a pattern of interfaces
	Out         string       // the interface that it leaves by; "": not known, or not routed yet
	Source      netip.Addr   // the zero Addr: not known
	Public      bool         // if the source is not known: no private network has it
	Network     netip.Prefix // if the source is not known: the one that it is in; the zero Prefix: any
	SourcePort  uint16       // 0: any
	Destination netip.Addr   // the zero Addr: not known
	Local       bool         // the destination is an address of the router
	Translated  bool         // DNAT has changed its destination
	Original    netip.Addr   // the destination before that; the zero Addr: not known
	Marked      PortSet      // those of packets that may have a mark
	NoIPsec     bool         // nothing that leaves is encrypted

	originalPort uint16   // the destination port before translation; 0: not known
	table, hook  string   // where it is: a table and a built-in chain of it
	untracked    matchSet // those of packets that conntrack leaves alone
	translated   matchSet // those of packets whose destination DNAT has changed, besides Translated
}

// matchSet is the destination ports for which conditions match a packet.
type matchSet struct {
	may        PortSet // match for some sources, marks and the like
	must       PortSet // match for all
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
	return matchSet{may: m.may.And(o.may), must: m.must.And(o.must), namesPorts: m.namesPorts || o.namesPorts}
}

// or returns the set of either condition.
func (m matchSet) or(o matchSet) matchSet { return m.not().and(o.not()).not() }

// not returns the set of the negated condition.
func (m matchSet) not() matchSet {
	return matchSet{may: m.must.Not(), must: m.may.Not()}
}

// Matches reports whether conditions certainly match the packet where it is now, in
// the chain of the walk, whatever its destination port.
func (p *Packet) Matches(conditions []Condition) bool {
	return len(everyPort.Minus(p.matchAll(conditions).must)) == 0
}

// matchAll returns the set of all conditions of a rule together.
func (p *Packet) matchAll(conditions []Condition) matchSet {
	all := always
	unencrypted := p.NoIPsec && isPolicyOut(conditions)
	ofDevice := slices.ContainsFunc(conditions, func(c Condition) bool { return strings.HasPrefix(c.Option, "--limit-iface-") })
	for _, c := range conditions {
		one := p.matchOne(c)
		switch {
		case ofDevice && strings.HasSuffix(c.Option, "-type"):
			one = perhaps // an address of another device is not LOCAL
		case unencrypted && c.Option == "--dir":
			one = always
		case unencrypted && c.Option == "--pol":
			one = matchIf(c.Value == "none")
		}
		if c.Negated {
			one = one.not()
		}
		all = all.and(one)
	}
	return all
}

// isPolicyOut reports whether conditions ask for the IPsec policy of packets that leave,
// and for no other one.
func isPolicyOut(conditions []Condition) bool {
	var directions []string
	for _, c := range conditions {
		if c.Option == "--dir" {
			directions = append(directions, c.Value)
		}
	}
	return slices.Equal(directions, []string{"out"})
}

// matchOne returns the set of a condition before it is negated. An unknown
// condition gives perhaps.
func (p *Packet) matchOne(c Condition) matchSet {
	switch c.Option {
	case "-m":
		return matchModule(c.Value)
	case "--comment":
		return always
	case "-i":
		return p.matchIn(c.Value)
	case "-o":
		return p.matchOut(c.Value)
	case "-d":
		return p.matchDestination(c.Value)
	case "-s":
		return p.matchSource(c.Value)
	case "-p":
		return matchProtocol(c.Value)
	case "-f", "--icmp-type", "--icmpv6-type":
		return never
	case "--dport", "--dports", "--sport", "--sports", "--ports":
		return p.matchPorts(c)
	case "--tcp-flags":
		return matchFlags(c.Value)
	case "--mark":
		return p.matchMark(c.Value)
	case "--tcp-option":
		return matchTCPOption(c.Value)
	case "--dst-type":
		return p.matchType(c.Value)
	case "--src-type":
		return p.matchSourceType(c.Value)
	case "--src-range":
		return matchRange(c.Value, p.Source)
	case "--dst-range":
		return matchRange(c.Value, p.Destination)
	}
	return p.matchConntrack(c)
}

// matchModule returns the set of "-m NAME" by itself: always, for modules whose
// options matchOne knows.
func matchModule(name string) matchSet {
	switch name {
	case "tcp", "udp", "icmp", "icmp6", "multiport", "comment", "conntrack", "state", "addrtype", "iprange", "mark", "policy":
		return always
	}
	return perhaps
}

// matchPort returns the set of ports, such as "80" or "80:90", for one that is not
// the destination's; 0 is not known.
func matchPort(ports string, port uint16) matchSet {
	set, ok := parsePorts(ports)
	if !ok || port == 0 {
		return perhaps
	}
	return matchIf(len(set.And(PortsOf(PortRange{port, port}, TCP))) > 0)
}

// matchDevice returns the set of "-i eth0" and "-o eth0" for packets of a device
// or of a pattern of devices; "" is not known.
func matchDevice(pattern, device string) matchSet {
	switch {
	case device != "" && Covers(pattern, device), pattern == "+":
		return always
	case device == "" || Covers(device, pattern):
		return perhaps
	}
	return never
}

// matchIn returns the set of "-i eth0". Whether a packet has such a device once it
// leaves depends on the kernel's version.
func (p *Packet) matchIn(pattern string) matchSet {
	if p.hook == "POSTROUTING" && pattern != "+" {
		return perhaps
	}
	return matchDevice(pattern, p.In)
}

// matchOut returns the set of "-o eth0". A packet has no such device before it
// is routed, nor if it is for the router.
func (p *Packet) matchOut(pattern string) matchSet {
	if p.hook == "PREROUTING" || p.hook == "INPUT" {
		return matchIf(pattern == "+")
	}
	return matchDevice(pattern, p.Out)
}

// matchProtocol returns the set of "-p tcp".
func matchProtocol(name string) matchSet {
	var set PortSet
	switch all := (PortRange{Last: numPorts - 1}); name {
	case "all", "0":
		set = everyPort
	case "tcp", "6":
		set = PortsOf(all, TCP)
	case "udp", "17":
		set = PortsOf(all, UDP)
	}
	return matchSet{may: set, must: set}
}

// matchPorts returns the set of "--dports 80,443,1000:2000" and the like.
func (p *Packet) matchPorts(c Condition) matchSet {
	set, ok := parsePorts(c.Value)
	if !ok {
		return perhaps
	}
	fromSource := matchPort(c.Value, p.SourcePort)
	to := matchSet{may: set, must: set, namesPorts: len(EveryPort().Minus(set)) > 0}
	switch c.Option {
	case "--sport", "--sports":
		return fromSource
	case "--ports": // source or destination
		return matchSet{may: set.Or(fromSource.may), must: set.Or(fromSource.must), namesPorts: true}
	}
	return to
}

// parsePorts parses "80,443,1000:2000", of both protocols.
func parsePorts(list string) (set PortSet, ok bool) {
	for text := range strings.SplitSeq(list, ",") {
		r, ok := ParsePortRange(text, ":")
		if !ok {
			return nil, false
		}
		set = set.Or(PortsOf(r, TCP, UDP))
	}
	return set, true
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

// synOptions are the TCP options that the first packet of a connection may carry,
// by their kinds in IANA's registry.
var synOptions = [...]string{"2", "3", "4", "8", "19", "28", "29", "30", "34", "253", "254"}

// matchTCPOption returns the set of "--tcp-option 64".
func matchTCPOption(kind string) matchSet {
	if slices.Contains(synOptions[:], kind) {
		return perhaps
	}
	return never
}

// matchMark returns the set of "--mark 0x1/0xff": a packet that no rule has
// marked has the mark 0.
func (p *Packet) matchMark(value string) matchSet {
	text, _, _ := strings.Cut(value, "/")
	want, err := strconv.ParseUint(text, 0, 32)
	if err != nil {
		return perhaps
	}
	unmarked := matchIf(want == 0)
	return matchSet{may: unmarked.may.Or(p.Marked), must: unmarked.must.Minus(p.Marked)}
}

// ParsePortRange parses "80" and, with the separator ":", "80:90".
func ParsePortRange(text, separator string) (PortRange, bool) {
	first, last, isRange := strings.Cut(text, separator)
	if !isRange {
		last = first
	}
	a, err := strconv.ParseUint(first, 10, 16)
	b, err2 := strconv.ParseUint(last, 10, 16)
	if err != nil || err2 != nil || a > b {
		return PortRange{}, false
	}
	return PortRange{First: uint16(a), Last: uint16(b)}, true
}
