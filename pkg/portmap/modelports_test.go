package portmap_test

import (
	"math/rand/v2"
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

// mayHave reports whether the client's host may have a port: it has the number already, or
// not more numbers than are left of the last quarter.
func (m *model) mayHave(req portmap.Request, port uint16) bool {
	return m.provided == nil || m.mayHaveMore(req) || m.hasNumber(req, port)
}

// shared gives one of these ports to the client's host: one that its target has in the
// other protocol, else one that it had last, else the next.
func (m *model) shared(req portmap.Request, list []uint16) verdict {
	list = slices.DeleteFunc(list, func(port uint16) bool { return !m.mayHave(req, port) })
	if len(list) == 0 {
		return no(portmap.ShareExceeded)
	}
	isTwin := func(port uint16) bool {
		e := m.at(portmap.TCP+portmap.UDP-req.Protocol, port)
		return e != nil && e.internal == req.Internal
	}
	isFormer := func(port uint16) bool {
		return slices.ContainsFunc(m.held, func(r modelHeldPort) bool {
			return r.protocol == req.Protocol && r.external == port && r.to == req.Internal
		})
	}
	for _, isBetter := range []func(uint16) bool{isTwin, isFormer} {
		if better := slices.DeleteFunc(slices.Clone(list), func(port uint16) bool { return !isBetter(port) }); len(better) > 0 {
			list = better
			break
		}
	}
	return verdict{external: []uint16{nextOf(list, max(req.External, req.Internal.Port()))}}
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
	own := 0
	for port := modelPorts.First; port <= modelPorts.Last; port++ {
		if m.hasNumber(req, port) {
			own++
		}
	}
	return left > all/4 || own == 0 || own < left
}

// hasNumber reports whether the client's host has a port in either protocol, or had it
// last and keeps it.
func (m *model) hasNumber(req portmap.Request, port uint16) bool {
	isOwn := func(e *entry) bool {
		return e.external == port && modelHost(e.internal.Addr()) == modelHost(req.Client)
	}
	isKept := func(r modelHeldPort) bool {
		return r.external == port && modelHost(r.to.Addr()) == modelHost(req.Client)
	}
	return slices.ContainsFunc(m.entries, isOwn) || slices.ContainsFunc(m.held, isKept)
}
