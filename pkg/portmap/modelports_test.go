package portmap_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"igdd/pkg/portmap"
)

// randomPorts returns some of the model's ports, as a provider may forward them, and one
// that the rules forbid; nil: all ports.
func randomPorts(rng *rand.Rand) []uint16 {
	if rng.IntN(3) == 0 {
		return nil
	}
	list := []uint16{1}
	for port := modelPorts.First; port <= modelPorts.Last; port++ {
		if rng.IntN(3) > 0 {
			list = append(list, port)
		}
	}
	return list
}

// provides reports whether the provider forwards a port.
func (m *model) provides(port uint16) bool {
	return m.provided == nil || slices.Contains(m.provided, port)
}

// externalPorts returns the ports that the provider forwards, as the policy has them.
func (m *model) externalPorts() *portmap.PortSet {
	if m.provided == nil {
		return nil
	}
	set := new(portmap.PortSet)
	for _, port := range m.provided {
		set.Add(port)
	}
	return set
}

// setProvided has the provider forward other ports. Mappings of all others are closed.
func (m *model) setProvided(list []uint16, now time.Time) {
	m.provided = list
	m.endForbidden(func(e *entry, _ modelClaim) bool { return !m.provides(e.external) }, now)
}

// nextOf returns the first port of a list in order that is at or after one, else the
// first of all.
func nextOf(list []uint16, from uint16) uint16 {
	i, _ := slices.BinarySearch(list, from)
	return list[i%len(list)]
}

// notProvided refuses a port that the provider does not forward. A UPnP client is told if
// it can have none at all.
func (m *model) notProvided(req portmap.Request) verdict {
	v := m.anyPort(req)
	if req.Origin == portmap.UPnP && v.refusal != portmap.Granted {
		return v
	}
	return no(portmap.NotProvided)
}

// shared gives a port to the client's host, unless the host has more numbers than are left
// of the last quarter, and not this one.
func (m *model) shared(req portmap.Request, port uint16) verdict {
	if m.provided == nil || m.mayHaveMore(req) || m.hasNumber(req, port) {
		return verdict{external: []uint16{port}}
	}
	return no(portmap.QuotaExceeded)
}

// mayHaveMore reports whether the client's host may have one more port number.
func (m *model) mayHaveMore(req portmap.Request) bool {
	all, left := 0, 0
	for port := modelPorts.First; port <= modelPorts.Last; port++ {
		if !m.provides(port) {
			continue
		}
		all++
		isKept := slices.ContainsFunc(m.held, func(r modelHeldPort) bool { return r.external == port })
		if !isKept && m.at(portmap.TCP, port) == nil && m.at(portmap.UDP, port) == nil {
			left++
		}
	}
	own, held := make(map[portmap.Protocol]int), 0
	for _, e := range m.entries {
		if modelHost(e.internal.Addr()) == modelHost(req.Client) {
			own[e.protocol]++
		}
	}
	for _, r := range m.held {
		if r.isOf(req.Client) {
			held++
		}
	}
	n := max(own[portmap.TCP], own[portmap.UDP]) + held
	return left > all/4 || n == 0 || n < left
}

// isOf reports whether the port counts for the host of a client.
func (r modelHeldPort) isOf(c netip.Addr) bool {
	host := modelHost(c)
	return modelHost(r.host) == host && (host != "" || !r.away)
}

// hasNumber reports whether the client's host has a port in either protocol, or had it
// last and keeps it.
func (m *model) hasNumber(req portmap.Request, port uint16) bool {
	isOwn := func(e *entry) bool {
		return e.external == port && modelHost(e.internal.Addr()) == modelHost(req.Client)
	}
	isKept := func(r modelHeldPort) bool { return r.external == port && r.isOf(req.Client) }
	return slices.ContainsFunc(m.entries, isOwn) || slices.ContainsFunc(m.held, isKept)
}
