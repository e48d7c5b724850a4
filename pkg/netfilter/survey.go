package netfilter

import (
	"net/netip"
	"slices"
	"strings"

	"igdd/pkg/portmap"
)

// survey is what becomes of a packet in the chains of table nat.
type survey struct {
	ours   string  // our chain
	passed portSet // may have been in it
	lost   portSet // may go where nothing is forwarded, or where a mapping wins
	takes  []take
}

// take is a rule that forwards.
type take struct {
	ports  portSet // for which the packet may get there
	target netip.AddrPort
	rule   string
}

// survey follows a packet through a listing.
func (c *chain) survey(l listing, p packet) *survey {
	s := &survey{ours: c.name}
	w := walk{chains: l, packet: p, visit: s.visit}
	s.lost = w.from(c.builtIn().chain).or(s.lost)
	return s
}

// visit notes what a rule does with a packet.
func (s *survey) visit(at step) (ends bool) {
	if at.calls {
		if at.target == s.ours {
			s.passed = s.passed.or(at.ports)
		}
		return false
	}
	switch at.target {
	case "", "RETURN", "LOG", "NFLOG", "ULOG", "MARK", "CONNMARK", "SET", "TRACE", "AUDIT", "TEE", "IDLETIMER", "LED", "RATEEST":
		return false
	case "DNAT", "REDIRECT", "NETMAP":
		s.take(at)
		return true
	}
	s.lost = s.lost.or(at.ports) // it ends here, or may do so
	return at.target == "ACCEPT"
}

// take notes a rule that forwards. Behind ours one that names no ports gets
// what mappings leave.
func (s *survey) take(at step) {
	taken := at.ports
	if !at.chooses {
		s.lost = s.lost.or(taken.and(s.passed))
		taken = taken.minus(s.passed)
	}
	if len(taken) > 0 {
		s.takes = append(s.takes, take{taken, destination(at.options, taken), at.chain + " " + at.text})
	}
}

// sure returns the ports that are forwarded, whatever is not known of the
// packet, and those that more than one rule may forward.
func (s *survey) sure() (sure, shared portSet) {
	var sets []portSet
	for _, t := range s.takes {
		sets = append(sets, t.ports)
	}
	sure, shared = union(sets...)
	return sure.minus(s.lost), shared
}

// shadowed returns the sure ports that a mapping would take away.
func (s *survey) shadowed() portSet {
	sure, _ := s.sure()
	return sure.and(s.passed)
}

// forwards returns what is sure, and the rules that forward more than that. A
// port that several rules may forward leads to no one place.
func (s *survey) forwards() (certain []portmap.Forward, perhaps []Conditional) {
	sure, shared := s.sure()
	unsure, own := sure.not(), sure.minus(shared)
	for _, t := range s.takes {
		certain = appendForwards(certain, t.ports.and(own), t.target)
		for _, f := range appendForwards(nil, t.ports.and(unsure), t.target) {
			perhaps = append(perhaps, Conditional{f.Protocol, f.External, t.rule})
		}
	}
	return appendForwards(certain, sure.and(shared), netip.AddrPort{}), perhaps
}

// appendForwards appends the forwards of a set of ports to one target.
func appendForwards(list []portmap.Forward, set portSet, target netip.AddrPort) []portmap.Forward {
	for _, p := range [...]portmap.Protocol{portmap.TCP, portmap.UDP} {
		for _, r := range set.ranges(p) {
			list = append(list, portmap.Forward{Protocol: p, External: r, Target: target})
		}
	}
	return list
}

// destination returns where the options of a rule lead these ports, such as
// "--to-destination 10.0.0.1:80": the zero AddrPort is the router, or no one
// place. A range that all of them lie in keeps the port.
func destination(options []string, external portSet) netip.AddrPort {
	to, _ := option(options, "--to-destination")
	address, numbers, given := strings.Cut(to, ":")
	a, err := netip.ParseAddr(address)
	if err != nil || slices.ContainsFunc(options, func(o string) bool { return strings.HasPrefix(o, "--random") }) {
		return netip.AddrPort{}
	}
	if !given {
		return netip.AddrPortFrom(a, 0)
	}
	r, ok := portRange(numbers, "-")
	switch inside := portsOf(r, portmap.TCP, portmap.UDP); {
	case ok && r.First == r.Last:
		return netip.AddrPortFrom(a, r.First)
	case ok && len(external.minus(inside)) == 0:
		return netip.AddrPortFrom(a, 0)
	}
	return netip.AddrPort{}
}
