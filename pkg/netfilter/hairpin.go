package netfilter

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"igdd/pkg/portmap"
	"igdd/pkg/xtables"
)

// Chains that only the daemon creates, so that the hosts of a LAN reach mappings by
// the external address.
const (
	// hairpinChain is in table nat, and leads what is sent to the external address to
	// the chain for DNAT; and in table filter, and leads what stays in one LAN to the
	// chain that accepts it.
	hairpinChain = "MINIUPNPD-HAIRPIN"
	// hairpinMasqueradeChain is in table nat: what stays in one LAN gets the router's
	// address, since the reply would not pass the router otherwise.
	hairpinMasqueradeChain = "MINIUPNPD-HAIRPIN-MASQ"
)

// Hairpin is where hosts of a LAN reach mappings by the external address.
type Hairpin struct {
	// External are the IPv4 addresses that hosts know the router by, first the one
	// that is announced to clients. The router need not have them.
	External []netip.Addr
	LANs     []HairpinLAN
}

// HairpinLAN is an interface of a LAN.
type HairpinLAN struct {
	Device   string
	Networks []netip.Prefix // of IPv4, whose hosts are behind it
}

// Equal reports whether both need the same rules.
func (h Hairpin) Equal(o Hairpin) bool {
	return slices.Equal(h.External, o.External) && slices.EqualFunc(h.LANs, o.LANs, func(a, b HairpinLAN) bool {
		return a.Device == b.Device && slices.Equal(a.Networks, b.Networks)
	})
}

// announced returns the address that is announced to clients, the zero Addr if there
// is none.
func (h Hairpin) announced() netip.Addr {
	if len(h.External) == 0 {
		return netip.Addr{}
	}
	return h.External[0]
}

// sentTo returns packets from a LAN, before DNAT, as they are for an external address.
func (n Network) sentTo(external netip.Addr, p xtables.Packet) xtables.Packet {
	p.Destination, p.Original, p.Local = external, external, slices.Contains(n.Uplink.Addrs, external)
	return p
}

// toEach returns packets for each external address, if the chain is for hairpin and they
// are not translated yet, or else the packets alone.
func (x crossing) toEach(p xtables.Packet) (list []xtables.Packet) {
	if !x.isHairpin() || x.table != "nat" {
		return []xtables.Packet{p}
	}
	for _, external := range x.network.Hairpin.External {
		list = append(list, x.network.sentTo(external, p))
	}
	return list
}

// hairpin is the chains for the hosts of a LAN that connect to the external address.
// Between two LANs the router's own rules decide alone.
type hairpin struct {
	nat, forward, masquerade *chain
	Hairpin                          // that the rules are for
	moved                    bool    // it has changed since the last transaction
	refused                  error   // why the kernel has last refused the rules; nil: it has not
	pause                    backoff // of tries to have it accept them
}

// newHairpin returns the chains as they lead to those for mappings.
func newHairpin(nat, forward *chain) *hairpin {
	h := &hairpin{nat: &chain{
		family: nat.family, table: nat.table, name: hairpinChain, hooks: natHooks[:], side: "-i", onDemand: true, leadsTo: nat.name,
		jumpRule: func(lan string) string { return fmt.Sprintf("-i %s -j %s", lan, hairpinChain) },
	}}
	h.forward = &chain{
		family: nat.family, table: forward.table, name: hairpinChain, hooks: filterHooks[:], side: "-i", onDemand: true, leadsTo: forward.name,
		jumpRule: func(lan string) string { return fmt.Sprintf("-i %s -o %s -j %s", lan, lan, hairpinChain) },
	}
	h.masquerade = &chain{
		family: nat.family, table: nat.table, name: hairpinMasqueradeChain, hooks: peerHooks[:], side: "-o", onDemand: true,
		jumpRule: func(lan string) string {
			return fmt.Sprintf("-o %s -m conntrack --ctstate DNAT -j %s", lan, hairpinMasqueradeChain)
		},
	}
	return h
}

// isHairpin reports whether the chain leads connections from a LAN to another one of
// the daemon's chains.
func (c *chain) isHairpin() bool { return c.leadsTo != "" }

// keepsOut reports whether a rule is one that the chain's jump stands behind, even if it
// ends every connection: in table nat all rules are, and in table filter those that
// say by which interface packets may leave, also by a call of their chain.
func (c *chain) keepsOut(s xtables.Step) bool {
	return c.isHairpin() && (c.table == "nat" || s.NamesOut)
}

// isPrivate reports whether no firewall knows the chain: jumps to it are the daemon's.
func (c *chain) isPrivate() bool { return c.name == hairpinChain || c.name == hairpinMasqueradeChain }

// yieldsTo reports whether no jump to the chain stands in front of a rule with the
// target that gets some of its connections.
func (c *chain) yieldsTo(target string) bool {
	effect := xtables.EffectOf(target)
	translates := c.isHairpin() && c.table == "nat" && effect == xtables.Ends
	return translates || xtables.Stops(target) || effect == xtables.MayEnd
}

// follow has the chains be for the addresses and LANs in a network: for none while the
// kernel refuses the rules.
func (h *hairpin) follow(n Network) {
	now := n.Hairpin
	if !h.pause.isOver(time.Now()) {
		now = Hairpin{}
	}
	h.moved = h.moved || !h.Hairpin.Equal(now)
	h.Hairpin = now
	var devices []string
	for _, lan := range h.LANs {
		if isValidName(lan.Device) {
			devices = append(devices, lan.Device)
		}
	}
	for _, c := range []*chain{h.nat, h.forward, h.masquerade} {
		c.wan = devices
	}
}

// settle reports whether the addresses or LANs have changed since it was last called:
// edits of the tables are no repair then.
func (h *hairpin) settle() (moved bool) {
	if h == nil {
		return false
	}
	moved, h.moved = h.moved, false
	return moved
}

// carryOutWithoutHairpin carries out what the tables lack, but for hairpin, after the
// kernel has refused to do so with it. It reports whether the kernel accepts that: it may
// lack a module that only those rules need.
func (f *Firewall) carryOutWithoutHairpin(ctx context.Context, family *family, refused error) (p plan, accepted bool) {
	h := family.hairpin
	if h == nil || len(h.LANs) == 0 {
		return plan{}, false
	}
	before := h.pause
	h.pause.fail(time.Now(), time.Now())
	s, err := f.snapshot(ctx, family)
	if err == nil {
		p, err = f.carryOutPlan(ctx, family, s)
	}
	notify(family.unsure) // another program may have changed the tables meanwhile
	if err != nil {
		h.pause = before
		return plan{}, false
	}
	if !repeats(refused, h.refused) {
		f.log.Warn("hosts of a LAN do not reach mapped ports by the external address: the kernel refuses UPNP_HAIRPIN's rules", "err", refused)
	}
	h.refused = refused
	return p, true
}

// rules has the chains follow the network, and returns the rules that are there whatever
// the mappings, by chain.
func (h *hairpin) rules(n Network) map[*chain][]string {
	rules := make(map[*chain][]string)
	if h == nil {
		return rules
	}
	h.follow(n)
	for _, a := range h.External {
		rules[h.nat] = append(rules[h.nat], fmt.Sprintf("-d %v -j %s", hostPrefix(a), h.nat.leadsTo))
	}
	if len(h.External) > 0 {
		rules[h.forward] = []string{"-m conntrack --ctstate DNAT -j " + h.forward.leadsTo}
	}
	return rules
}

// mappingRules returns the rules that masquerade what hosts of the target's LAN send
// to a mapping by the external address: nothing else has that original destination.
func (h *hairpin) mappingRules(m *portmap.Mapping) (list []rule) {
	if h == nil {
		return nil
	}
	to := m.Internal.Addr()
	for _, network := range h.networksOf(to) {
		for _, a := range h.External {
			in := match{source: network, destination: hostPrefix(to), protocol: m.Protocol, dport: m.Internal.Port()}
			text := fmt.Sprintf("%v -m conntrack --ctorigdst %v --ctorigdstport %d -j MASQUERADE", in, a, m.External)
			list = append(list, rule{h.masquerade, text})
		}
	}
	return list
}

// networksOf returns the networks behind the interface that leads to a host.
func (h *hairpin) networksOf(host netip.Addr) []netip.Prefix {
	for _, lan := range h.LANs {
		if slices.ContainsFunc(lan.Networks, func(n netip.Prefix) bool { return n.Contains(host) }) {
			return lan.Networks
		}
	}
	return nil
}
