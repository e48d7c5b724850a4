package netfilter

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"igdd/pkg/portmap"
	"igdd/pkg/xtables"
)

// rule is a rule in one of the daemon's chains, as iptables-save prints it.
type rule struct {
	chain *chain
	text  string
}

// addition returns the edit that adds the rule to its chain.
func (r rule) addition() xtables.Edit {
	if r.chain.goesFirst(r.text) {
		return xtables.Edit{Op: xtables.Insert, Chain: r.chain.name, Rule: r.text}
	}
	return xtables.Edit{Op: xtables.Append, Chain: r.chain.name, Rule: r.text}
}

// rules returns the rules of a mapping: none while it is disabled. They have the
// form of miniupnpd's, which administrators know.
func (f *Firewall) rules(m *portmap.Mapping) ([]rule, error) {
	if m == nil || m.Dormant {
		return nil, nil
	}
	list, err := f.flowRules(m)
	if err != nil || !m.Enabled() {
		return list, err
	}
	peers, err := peers(m)
	if err != nil {
		return nil, err
	}
	if m.Internal.Addr().Is6() {
		return f.pinhole(m, peers)
	}
	for _, peer := range peers {
		in := match{source: peer.Prefix, sport: peer.Port, protocol: m.Protocol, dport: m.External}
		list = append(list, rule{f.nat, in.String() + " -j DNAT --to-destination " + m.Internal.String()})
		list = append(list, f.outboundRules(m, peer)...)
		list = append(list, rule{f.forward, acceptRule(m, peer)})
	}
	return append(list, f.ipv4.hairpin.mappingRules(m)...), nil
}

// flowRules returns the rules that give packets to the peers of PCP PEER the
// external port. IPv6 packets are not translated.
func (f *Firewall) flowRules(m *portmap.Mapping) ([]rule, error) {
	if m.Internal.Addr().Is6() {
		return nil, nil
	}
	c := f.peer
	if f.postrouting.present {
		c = f.postrouting
	}
	var list []rule
	for _, remote := range m.Outbound() {
		if err := checkExpressible(m); err != nil {
			return nil, err
		}
		if !remote.Addr().Is4() || remote.Port() == 0 {
			return nil, fmt.Errorf("%w: %v: %w: %v", portmap.ErrNoRules, m.Key, errFilter, remote)
		}
		list = append(list, rule{c, snatRule(m, portmap.Filter{Prefix: hostPrefix(remote.Addr()), Port: remote.Port()}, "")})
	}
	return list, nil
}

// pinhole returns the rules of an IPv6 mapping.
func (f *Firewall) pinhole(m *portmap.Mapping, peers []portmap.Filter) ([]rule, error) {
	if f.forward6 == nil {
		return nil, fmt.Errorf("%w: %v: IPv6 is disabled", portmap.ErrNoRules, m.Key)
	}
	list := make([]rule, 0, len(peers))
	for _, peer := range peers {
		list = append(list, rule{f.forward6, acceptRule(m, peer)})
	}
	return list, nil
}

// acceptRule returns the rule that accepts packets of a peer to the mapping's
// target.
func acceptRule(m *portmap.Mapping, peer portmap.Filter) string {
	in := match{source: peer.Prefix, sport: peer.Port, destination: hostPrefix(m.Internal.Addr()), dport: m.Internal.Port(), protocol: m.Protocol}
	return in.String() + " -j ACCEPT"
}

// snatRule returns the rule that gives packets of the target to a peer, by a device or
// by any if that is "", the external port and the address of the uplink.
func snatRule(m *portmap.Mapping, peer portmap.Filter, device string) string {
	out := match{source: hostPrefix(m.Internal.Addr()), sport: m.Internal.Port(), destination: peer.Prefix, dport: peer.Port, protocol: m.Protocol, out: device}
	return out.String() + " -j MASQUERADE --to-ports " + strconv.Itoa(int(m.External))
}

// hostPrefix returns the prefix of a single host.
func hostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// checkExpressible returns an error for a mapping that cannot be expressed
// exactly: other rules would open more.
func checkExpressible(m *portmap.Mapping) error {
	to := m.Internal.Addr()
	switch {
	case m.Protocol != portmap.TCP && m.Protocol != portmap.UDP:
		return fmt.Errorf("%w: %v: only TCP and UDP are forwarded", portmap.ErrNoRules, m.Key)
	case !to.IsValid() || to.Is4In6() || to.Zone() != "" || m.Internal.Port() == 0 || to.Is4() && m.External == 0:
		return fmt.Errorf("%w: %v: no rule leads to %v", portmap.ErrNoRules, m.Key, m.Internal)
	}
	return nil
}

// peers returns the remote hosts that may use a mapping, the whole Internet if
// it has no filter.
func peers(m *portmap.Mapping) ([]portmap.Filter, error) {
	if err := checkExpressible(m); err != nil {
		return nil, err
	}
	to := m.Internal.Addr()
	list := m.Filters()
	if len(list) == 0 {
		return []portmap.Filter{{Prefix: netip.PrefixFrom(to, 0)}}, nil
	}
	for _, p := range list {
		if !p.Prefix.IsValid() || p.Prefix.Addr().BitLen() != to.BitLen() {
			return nil, fmt.Errorf("%w: %v: %w: %v", portmap.ErrNoRules, m.Key, errFilter, p.Prefix)
		}
	}
	return list, nil
}

// errFilter is the error of a peer that is invalid or of the other family.
var errFilter = errors.New("filter is not of the mapping's family")

// match is the part of a rule that selects packets. Networks of no bits and
// ports 0 match everything.
type match struct {
	source, destination netip.Prefix
	protocol            portmap.Protocol
	sport, dport        uint16
	out                 string // the device that packets leave by; "": any
}

// String returns the match as iptables-save prints it.
func (m match) String() string {
	b := make([]byte, 0, 100)
	b = appendNetwork(b, "-s ", m.source)
	b = appendNetwork(b, "-d ", m.destination)
	if m.out != "" {
		b = append(b, "-o "+m.out+" "...)
	}
	protocol := strings.ToLower(m.protocol.String())
	b = append(b, "-p "+protocol+" -m "+protocol...)
	b = appendPort(b, " --sport ", m.sport)
	b = appendPort(b, " --dport ", m.dport)
	return string(b)
}

func appendNetwork(b []byte, option string, network netip.Prefix) []byte {
	if network.Bits() <= 0 {
		return b
	}
	b = network.Masked().AppendTo(append(b, option...))
	return append(b, ' ')
}

func appendPort(b []byte, option string, port uint16) []byte {
	if port == 0 {
		return b
	}
	return strconv.AppendUint(append(b, option...), uint64(port), 10)
}
