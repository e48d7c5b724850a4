package portmap

import (
	"net/netip"
	"slices"
	"strings"
)

// HostSelector selects a host as an operator names it: by an address, a hardware
// address or the name in its DHCP lease. The zero value selects every host.
type HostSelector struct {
	Addr     netip.Addr
	Hardware string // as net.HardwareAddr formats it
	Name     string // in lower case, without domain
	// Bound lists the hardware addresses that the host with Addr or Name was found
	// to have: a host that has one of these is selected, too, whatever its address.
	Bound []string
	// Leased lists the addresses that the host with Hardware or Name has leased now:
	// mappings to them are closed whatever is known of their hosts.
	Leased []netip.Addr
}

// IsEvery reports whether the selector selects every host.
func (h *HostSelector) IsEvery() bool {
	return !h.Addr.IsValid() && h.Hardware == "" && h.Name == ""
}

// String returns the host as it was named; empty: every host.
func (h *HostSelector) String() string {
	if h.Addr.IsValid() {
		return h.Addr.String()
	}
	return h.Hardware + h.Name
}

// IsUnbound reports whether the selector names a host by address or name of which no
// hardware address is known.
func (h *HostSelector) IsUnbound() bool {
	return (h.Addr.IsValid() || h.Name != "") && len(h.Bound) == 0
}

// isByAddress reports whether the address alone says which host is meant.
func (h *HostSelector) isByAddress() bool { return h.Addr.IsValid() && len(h.Bound) == 0 }

// matches returns whether host, which has address a, certainly is the selected
// one, and whether it possibly is, given what is known of it.
func (h *HostSelector) matches(a netip.Addr, host Host) (certain, possible bool) {
	if h.IsEvery() || h.hasAddress(a, host) || h.hasHardware(host.Hardware) || h.Name != "" && slices.Contains(host.Names, h.Name) {
		return true, true
	}
	isUnknown := host.Hardware == "" && !host.NoHardware
	return false, isUnknown && (!h.isByAddress() || h.Addr.Is4() && a.Is6())
}

// addrsOf returns the addresses of the client and the target of a request that certainly
// belong to the selected host.
func (h *HostSelector) addrsOf(req *Request) (addrs []netip.Addr) {
	to := req.Internal.Addr()
	isOwn := req.comesFrom(to)
	if certain, _ := h.matches(to, req.Host); certain {
		addrs = append(addrs, to)
		if isOwn && req.Client != to {
			addrs = append(addrs, req.Client)
		}
	}
	if certain, _ := h.matches(req.Client, req.Asker); certain && !isOwn {
		addrs = append(addrs, req.Client)
	}
	return addrs
}

// hasHardware reports whether the selected host has a hardware address, which may
// be empty.
func (h *HostSelector) hasHardware(hardware string) bool {
	return hardware != "" && (hardware == h.Hardware || slices.Contains(h.Bound, hardware))
}

// hostBits is the length of the IPv6 networks of which a host on a link without
// hardware addresses can choose any address.
const hostBits = 64

// hasAddress reports whether host, which has address a, has the selected one, if
// the selector has an address.
func (h *HostSelector) hasAddress(a netip.Addr, host Host) bool {
	isNear := host.NoHardware && h.Addr.Is6() && netip.PrefixFrom(h.Addr, hostBits).Contains(a)
	return h.Addr.IsValid() && (a == h.Addr || isNear || slices.Contains(host.IPv4, h.Addr))
}

// Selector selects mappings, and requests for them: of a host, of a protocol and
// with external ports.
type Selector struct {
	Host     HostSelector
	Protocol Protocol  // 0: both
	External PortRange // the zero range: every port
}

// String returns the words that select the same: "laptop tcp 80-90".
func (s *Selector) String() string {
	var words []string
	if !s.Host.IsEvery() {
		words = append(words, s.Host.String())
	}
	if s.Protocol != 0 {
		words = append(words, strings.ToLower(s.Protocol.String()))
	}
	if s.External.First > 0 {
		words = append(words, s.External.String())
	}
	return strings.Join(words, " ")
}

// coversPort reports whether the selector covers an external port, whatever the
// host. Port 0, where it is not decided yet, is covered with every port only.
func (s *Selector) coversPort(p Protocol, external uint16) bool {
	return (s.Protocol == 0 || s.Protocol == p) && (s.External == PortRange{} || s.External.Contains(external))
}

// IsSame reports whether o was made with the same words.
func (s *Selector) IsSame(o *Selector) bool {
	return s.Protocol == o.Protocol && s.External == o.External &&
		s.Host.Addr == o.Host.Addr && s.Host.Hardware == o.Host.Hardware && s.Host.Name == o.Host.Name
}

// covers returns whether the selector certainly covers m, and whether it possibly
// does.
func (s *Selector) covers(m *Mapping) (certain, possible bool) {
	if !s.coversPort(m.Protocol, m.externalEndpoint().Port()) {
		return false, false
	}
	return s.Host.matches(m.Internal.Addr(), m.Host)
}

// leadsTo reports whether m leads to the address that names the selected host, or to
// one that the host has leased.
func (s *Selector) leadsTo(m *Mapping) bool {
	a := m.Internal.Addr()
	return (s.Host.Addr == a || slices.Contains(s.Host.Leased, a)) && s.coversPort(m.Protocol, m.externalEndpoint().Port())
}

// closes reports whether a new block, or a delete, closes m.
func (s *Selector) closes(m *Mapping) bool {
	certain, _ := s.covers(m)
	return certain || s.leadsTo(m)
}

// refuses returns whether the selector certainly covers a request: its target or
// the host that asks, and whether it possibly does.
func (s *Selector) refuses(req *Request, external uint16) (certain, possible bool) {
	if !s.coversPort(req.Protocol, external) {
		return false, false
	}
	certain, possible = s.Host.matches(req.Internal.Addr(), req.Host)
	if certain || req.comesFrom(req.Internal.Addr()) {
		return certain, possible
	}
	certain, asker := s.Host.matches(req.Client, req.Asker)
	return certain, possible || asker
}
