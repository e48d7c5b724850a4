package netfilter

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"igdd/pkg/portmap"
)

// rule is one rule in a chain of ours, worded as iptables-save prints it.
type rule struct {
	*chain
	text string
}

// rules returns the rules that make m work: none while it is disabled. They
// have the shape of miniupnpd's, so that whoever looks finds what he knows.
func (f *Firewall) rules(m *portmap.Mapping) ([]rule, error) {
	if m == nil || !m.Enabled() {
		return nil, nil
	}
	peers, err := peers(m)
	if err != nil {
		return nil, err
	}
	if m.Internal.Addr().Is6() {
		return f.pinhole(m, peers)
	}
	list := make([]rule, 0, 3*len(peers))
	for _, peer := range peers {
		in := match{source: peer.Prefix, sport: peer.Port, protocol: m.Protocol, dport: m.External}
		list = append(list, rule{f.nat, fmt.Sprintf("%v -j DNAT --to-destination %v", in, m.Internal)})
		if f.postrouting.present {
			out := match{source: single(m), sport: m.Internal.Port(), destination: peer.Prefix, dport: peer.Port, protocol: m.Protocol}
			list = append(list, rule{f.postrouting, fmt.Sprintf("%v -j MASQUERADE --to-ports %d", out, m.External)})
		}
		list = append(list, rule{f.forward, accept(m, peer)})
	}
	return list, nil
}

// pinhole returns the rules of an IPv6 mapping.
func (f *Firewall) pinhole(m *portmap.Mapping, peers []portmap.Filter) ([]rule, error) {
	if f.forward6 == nil {
		return nil, fmt.Errorf("%v: there is no IPv6 firewall here, see the log of the start", m.Key)
	}
	list := make([]rule, 0, len(peers))
	for _, peer := range peers {
		list = append(list, rule{f.forward6, accept(m, peer)})
	}
	return list, nil
}

// accept lets a peer through to the mapping's target.
func accept(m *portmap.Mapping, peer portmap.Filter) string {
	in := match{source: peer.Prefix, sport: peer.Port, destination: single(m), dport: m.Internal.Port(), protocol: m.Protocol}
	return in.String() + " -j ACCEPT"
}

// single is the mapping's target as a network.
func single(m *portmap.Mapping) netip.Prefix {
	return netip.PrefixFrom(m.Internal.Addr(), m.Internal.Addr().BitLen())
}

// peers returns who may use m, the whole Internet if there is no filter. It
// refuses a mapping that cannot be said in rules exactly: whatever else came
// of it would be wider.
func peers(m *portmap.Mapping) ([]portmap.Filter, error) {
	to := m.Internal.Addr()
	switch {
	case m.Protocol != portmap.TCP && m.Protocol != portmap.UDP:
		return nil, fmt.Errorf("%v: only TCP and UDP are forwarded", m.Key)
	case !to.IsValid() || to.Is4In6() || to.Zone() != "" || m.Internal.Port() == 0 || to.Is4() && m.External == 0:
		return nil, fmt.Errorf("%v: no rule leads to %v", m.Key, m.Internal)
	}
	list := m.Filters()
	if len(list) == 0 {
		return []portmap.Filter{{Prefix: netip.PrefixFrom(to, 0)}}, nil
	}
	for _, p := range list {
		if !p.Prefix.IsValid() || p.Prefix.Addr().BitLen() != to.BitLen() {
			return nil, fmt.Errorf("%v: %w: %v", m.Key, errFilter, p.Prefix)
		}
	}
	return list, nil
}

// errFilter is a remote peer that is of the other family, or none at all.
var errFilter = errors.New("filter is not of the mapping's family")

// match is the part of a rule that chooses packets. Networks of no bits and
// ports 0 match everything.
type match struct {
	source, destination netip.Prefix
	protocol            portmap.Protocol
	sport, dport        uint16
}

// String words the match as iptables-save does.
func (m match) String() string {
	var b strings.Builder
	for _, n := range [...]struct {
		option string
		netip.Prefix
	}{{"-s", m.source}, {"-d", m.destination}} {
		if n.Bits() > 0 {
			fmt.Fprintf(&b, "%s %v ", n.option, n.Masked())
		}
	}
	protocol := strings.ToLower(m.protocol.String())
	fmt.Fprintf(&b, "-p %s -m %s", protocol, protocol)
	for _, p := range [...]struct {
		option string
		port   uint16
	}{{"--sport", m.sport}, {"--dport", m.dport}} {
		if p.port != 0 {
			fmt.Fprintf(&b, " %s %d", p.option, p.port)
		}
	}
	return b.String()
}
