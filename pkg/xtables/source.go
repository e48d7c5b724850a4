package xtables

import (
	"net/netip"
	"slices"
	"strings"
)

// Source is what other hosts see as the source of a connection.
type Source struct {
	Addr  netip.Addr
	Ports PortRange // it has one of these; the zero PortRange: any
	// Kept means that the port, the first of Ports if that is known, is the one that the
	// host sends from, unless another connection to the same place has it.
	Kept bool
}

// ownSource returns the source that the connection comes with.
func ownSource(c Connection) Source {
	port := c.Source.Port()
	return Source{c.Source.Addr(), PortRange{port, port}, true}
}

// after returns the source after a rule of nat POSTROUTING, by the address that
// MASQUERADE gives; the zero Source if that is not known.
func (s Source) after(r Rule, masquerade netip.Addr) Source {
	switch r.Target {
	case "ACCEPT":
		return s
	case "MASQUERADE":
		return s.translated(masquerade, r.Option("--to-ports"), r.isRandom())
	case "NETMAP":
		if base, mask, ok := parseNetwork(r.Option("--to")); ok && base.Is4() == s.Addr.Is4() {
			return s.translated(splice(base, s.Addr, mask), "", false)
		}
	case "SNAT":
		address, ports := cutPorts(r.Option("--to-source"))
		if address == "" && ports != "" {
			return s.translated(s.Addr, ports, r.isRandom())
		}
		if to, err := netip.ParseAddr(address); err == nil {
			return s.translated(to, ports, r.isRandom())
		}
	}
	return Source{}
}

// translated returns the source with another address and one of some ports; "" is any.
// The kernel keeps the port where that is possible and it is not to be random.
func (s Source) translated(to netip.Addr, ports string, random bool) Source {
	if !to.IsValid() {
		return Source{}
	}
	r, ok := ParsePortRange(ports, "-")
	own := s.Ports.First
	switch {
	case ports == "" && random:
		return Source{Addr: to}
	case ports == "":
		return Source{to, s.Ports, true}
	case !ok:
		return Source{}
	case !random && r.First < r.Last && r.First <= own && own <= r.Last:
		return Source{to, s.Ports, true}
	}
	return Source{Addr: to, Ports: r}
}

// cutPorts cuts "192.0.2.1:80-90" and "[2001:db8::1]:80" at the ports; "" if there are
// none.
func cutPorts(text string) (address, ports string) {
	if _, err := netip.ParseAddr(text); err == nil {
		return text, ""
	}
	i := strings.LastIndex(text, ":")
	if i < 0 {
		return text, ""
	}
	return strings.Trim(text[:i], "[]"), text[i+1:]
}

// isRandom reports whether the target chooses ports at random.
func (r Rule) isRandom() bool {
	return slices.ContainsFunc(r.Options, func(o string) bool { return strings.HasPrefix(o, "--random") })
}
