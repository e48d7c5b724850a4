package portmap_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"igdd/pkg/portmap"
	"igdd/pkg/portmap/portmaptest"
)

// The settings of the model: few ports and clients, so that they compete.
var (
	modelPorts  = portmap.PortRange{First: 40000, Last: 40009}
	modelPolicy = portmap.Policy{
		Rules: []portmap.Rule{
			{Internal: portmap.Ports{{First: 40000, Last: 40000}, {First: 40001, Last: deniedLast}}, Network: netip.IPv4Unspecified()},
			{Allow: true, External: portmap.Ports{{First: 40000, Last: 40003}, {First: 40004, Last: 40009}}, Network: gateway.Addr(), Mask: 0xffffff00, Internal: portmap.Ports{{First: 40000, Last: 40004}}, Interfaces: []string{"lan0"}},
			{External: portmap.Ports{{Last: 65535}}, Network: gateway.Addr(), Internal: portmap.Ports{{Last: 65535}}},
		},
		Secure: true, MinLifetime: 2 * time.Minute, MaxLifetime: time.Hour,
		MaxPerHost: 7, MaxPerLAN: 16, MaxTotal: 20,
	}
	// modelHosts are the hosts of the clients: one has two addresses, and one is
	// not known.
	modelHosts = [...]string{"a", "a", "b", ""}
	modelPeers = []netip.AddrPort{netip.MustParseAddrPort("9.9.9.9:443"), netip.MustParseAddrPort("9.9.9.9:80")}
)

// model is a second, simple implementation of the table: it has no indices and
// walks all entries for every lookup.
type model struct {
	entries []*entry // in order of creation
	held    []modelHeldPort
	now     time.Time
	away    bool           // the LAN's network is gone
	wan     netip.Addr     // the external address
	epoch   time.Time      // when the epoch began
	last    uint16         // the last internal port that the rules allow
	denied  portmap.Origin // whose clients the rules deny the internal ports up to deniedLast; 0: nobody's

	provided []uint16 // the external ports that the provider forwards, in order; nil: all

	blocks    []modelBlock // in the order in which they were set
	lastBlock int          // the number of the last one
}

// entry is a mapping.
type entry struct {
	protocol portmap.Protocol
	external uint16
	internal netip.AddrPort
	claims   []modelClaim
}

// modelClaim is a claim.
type modelClaim struct {
	origin portmap.Origin
	remote netip.AddrPort
	ends   time.Time
	nonce  portmap.Nonce
	rebind time.Time // until then any nonce is accepted
}

// modelHeldPort is a port in hold-down after a PCP mapping.
type modelHeldPort struct {
	protocol portmap.Protocol
	external uint16
	to       netip.AddrPort
	ends     time.Time
}

func (e *entry) claim(by portmap.Origin, remote netip.AddrPort) *modelClaim {
	for i := range e.claims {
		if e.claims[i].origin == by && e.claims[i].remote == remote {
			return &e.claims[i]
		}
	}
	return nil
}

// release removes claims from an entry, and the entry with the last of them.
func (m *model) release(e *entry, which func(modelClaim) bool) {
	pcp := slices.ContainsFunc(e.claims, func(c modelClaim) bool { return c.origin == portmap.PCP })
	e.claims = slices.DeleteFunc(e.claims, which)
	if len(e.claims) > 0 {
		return
	}
	m.entries = slices.DeleteFunc(m.entries, func(o *entry) bool { return o == e })
	if pcp {
		pause := map[portmap.Protocol]time.Duration{portmap.UDP: 2 * time.Minute, portmap.TCP: 10 * time.Minute}[e.protocol]
		m.held = slices.DeleteFunc(m.held, func(r modelHeldPort) bool { return r.protocol == e.protocol && r.external == e.external })
		m.held = append(m.held, modelHeldPort{e.protocol, e.external, e.internal, m.now.Add(pause)})
	}
}

// pass advances the time to now and ends the expired claims in order.
func (m *model) pass(now time.Time) {
	for {
		var next time.Time
		for _, e := range m.entries {
			for _, c := range e.claims {
				if !c.ends.IsZero() && !c.ends.After(now) && (next.IsZero() || c.ends.Before(next)) {
					next = c.ends
				}
			}
		}
		if next.IsZero() {
			break
		}
		m.now = next
		for _, e := range slices.Clone(m.entries) {
			m.release(e, func(c modelClaim) bool { return c.ends.Equal(next) })
		}
	}
	m.now = now
	m.held = slices.DeleteFunc(m.held, func(r modelHeldPort) bool { return !r.ends.After(now) })
}

func (m *model) at(p portmap.Protocol, external uint16) *entry {
	for _, e := range m.entries {
		if e.protocol == p && e.external == external {
			return e
		}
	}
	return nil
}

func (m *model) mappingsTo(p portmap.Protocol, to netip.AddrPort) []*entry {
	var list []*entry
	for _, e := range m.entries {
		if e.protocol == p && e.internal.Addr() == to.Addr() && (to.Port() == 0 || e.internal.Port() == to.Port()) {
			list = append(list, e)
		}
	}
	return list
}

// isTwinOfOther reports whether the mapping of another host in the other protocol
// keeps the port from a request: NAT-PMP gives no two hosts the same port number.
func (m *model) isTwinOfOther(req portmap.Request, external uint16) bool {
	twin := m.at(portmap.TCP+portmap.UDP-req.Protocol, external)
	byNATPMP := req.Origin == portmap.NATPMP || twin != nil && twin.claim(portmap.NATPMP, netip.AddrPort{}) != nil
	return twin != nil && twin.internal.Addr() != req.Client && byNATPMP
}

// isHeld reports whether the port is in hold-down after a mapping of another host: for
// NAT-PMP, in either protocol.
func (m *model) isHeld(req portmap.Request, external uint16) bool {
	return slices.ContainsFunc(m.held, func(r modelHeldPort) bool {
		concerned := r.protocol == req.Protocol || req.Origin == portmap.NATPMP
		return concerned && r.external == external && r.to.Addr() != req.Client && m.at(r.protocol, external) == nil
	})
}

// freePorts returns the ports that a client can get instead of its preferred
// one: those that any host can get, and its own where the provider forwards some only.
func (m *model) freePorts(req portmap.Request) []uint16 {
	own := req
	if m.provided == nil {
		req.Client = netip.Addr{}
	}
	var list []uint16
	for port := modelPorts.First; port <= modelPorts.Last; port++ {
		if m.provides(port) && m.blocked(own, port) == portmap.Granted && m.at(req.Protocol, port) == nil && !m.isTwinOfOther(req, port) && !m.isHeld(req, port) {
			list = append(list, port)
		}
	}
	return list
}

// verdict is the model's decision on a request: a refusal, or the mappings that
// it may be granted.
type verdict struct {
	refusal  portmap.Refusal
	entry    *entry   // join this one,
	external []uint16 // or make a new one on one of these ports
}

func no(r portmap.Refusal) verdict { return verdict{refusal: r} }

// open decides a request for a mapping.
func (m *model) open(req portmap.Request) verdict {
	if m.away {
		return no(portmap.BadTarget)
	}
	if r := m.blocked(req, 0); r != portmap.Granted {
		return no(r)
	}
	targets := m.mappingsTo(req.Protocol, req.Internal)
	switch {
	case req.Remote.IsValid():
		for _, e := range targets {
			if c := e.claim(portmap.PCP, req.Remote); c != nil {
				return m.withProof(e, c, req)
			}
		}
		if len(targets) > 0 {
			return m.share(targets, req)
		}
	case req.Origin == portmap.UPnP:
		if e := m.at(req.Protocol, req.External); e != nil {
			alone := len(e.claims) == 1 && e.claim(portmap.UPnP, netip.AddrPort{}) != nil
			fits := e.internal.Addr() == req.Client && (e.internal == req.Internal || alone)
			switch {
			case fits && m.rulesAllow(req.Origin, req.Internal.Port()):
				return verdict{entry: e}
			case fits && req.Exact:
				return no(portmap.NotAuthorized)
			case req.Exact:
				return no(portmap.Conflict)
			}
		}
		if !req.Exact && len(targets) > 0 {
			return verdict{entry: targets[0]}
		}
	case len(targets) > 0:
		e := targets[0]
		if req.Exact && e.external != req.External {
			return no(portmap.Conflict)
		}
		if c := e.claim(portmap.PCP, netip.AddrPort{}); c != nil && req.Origin == portmap.PCP {
			return m.withProof(e, c, req)
		}
		return verdict{entry: e}
	}
	return m.create(req)
}

// deniedLast is the last of the internal ports that the rules may deny to a protocol.
const deniedLast = 40002

// rulesAllow reports whether the rules allow the internal port to clients that ask by o.
func (m *model) rulesAllow(o portmap.Origin, internal uint16) bool {
	return internal <= m.last && (o != m.denied || internal > deniedLast)
}

// policy returns the settings that the model has.
func (m *model) policy() portmap.Policy {
	p := modelPolicy
	p.Rules = slices.Clone(p.Rules)
	p.Rules[0].Origins = []portmap.Origin{m.denied}
	p.Rules[1].Internal = portmap.Ports{{First: 40000, Last: m.last}}
	p.ExternalPorts = m.externalPorts()
	return p
}

// setRandomRules has the rules allow other internal ports, and deny some to the clients
// of another protocol.
func (m *model) setRandomRules(rng *rand.Rand, now time.Time) {
	m.last = uint16(40003 + rng.IntN(2))
	m.denied = []portmap.Origin{0, 0, portmap.NATPMP, portmap.PCP, portmap.UPnP}[rng.IntN(5)]
	m.endForbidden(func(e *entry, c modelClaim) bool { return !m.rulesAllow(c.origin, e.internal.Port()) }, now)
}

// endForbidden ends the claims that new settings forbid. If clients learn of that from a
// new epoch alone, it begins one; the nonces of others bind.
func (m *model) endForbidden(isForbidden func(*entry, modelClaim) bool, now time.Time) {
	m.entries = slices.DeleteFunc(m.entries, func(e *entry) bool {
		isInForce := !m.away && !m.isUncertain(e)
		e.claims = slices.DeleteFunc(e.claims, func(c modelClaim) bool {
			if !isForbidden(e, c) {
				return false
			}
			if isInForce && c.origin != portmap.UPnP {
				m.epoch = now
			}
			return true
		})
		return len(e.claims) == 0
	})
}

func (m *model) withProof(e *entry, c *modelClaim, req portmap.Request) verdict {
	if !m.isProof(c, req) {
		return no(portmap.NotOwner)
	}
	return verdict{entry: e}
}

// isProof reports whether a request, which is from the claim's host, may renew
// or delete the claim.
func (m *model) isProof(c *modelClaim, req portmap.Request) bool {
	return c.origin != portmap.PCP || c.nonce == req.Nonce || m.now.Before(c.rebind)
}

// reset begins a new epoch: all claims accept other nonces for a while.
func (m *model) reset(now time.Time) {
	m.epoch = now
	for _, e := range m.entries {
		for i := range e.claims {
			e.claims[i].rebind = now.Add(10 * time.Minute)
		}
	}
}

// share gives a flow the port of a mapping to its source.
func (m *model) share(targets []*entry, req portmap.Request) verdict {
	for _, e := range targets {
		if e.external == req.External {
			return verdict{entry: e}
		}
	}
	if req.External != 0 {
		return no(portmap.Conflict)
	}
	return verdict{entry: targets[0]}
}

// join decides a request that would get a claim on an entry.
func (m *model) join(e *entry, req portmap.Request) verdict {
	if !m.rulesAllow(req.Origin, req.Internal.Port()) {
		return no(portmap.NotAuthorized)
	}
	if r := m.blocked(req, e.external); r != portmap.Granted {
		return no(r)
	}
	if r := m.quota(req); r != portmap.Granted && e.claim(req.Origin, req.Remote) == nil {
		return no(r)
	}
	return verdict{entry: e}
}

// quota returns whether the client's host may have one more claim. All are on one
// LAN, whose limit is the lowest but that of a host.
func (m *model) quota(req portmap.Request) portmap.Refusal {
	owned, all := 0, 0
	for _, e := range m.entries {
		all += len(e.claims)
		if modelHost(e.internal.Addr()) == modelHost(req.Client) {
			owned += len(e.claims)
		}
	}
	left := modelPolicy.MaxPerLAN - all
	switch {
	case owned >= modelPolicy.MaxPerHost:
		return portmap.QuotaExceeded
	case left <= modelPolicy.MaxPerLAN/8 && owned >= left:
		return portmap.TableFull
	}
	return portmap.Granted
}

// modelHost returns the host of a client's address.
func modelHost(a netip.Addr) string { return modelHosts[a.As4()[3]-client(0).As4()[3]] }

// create decides a request for a new mapping.
func (m *model) create(req portmap.Request) verdict {
	wish := cmp.Or(req.External, req.Internal.Port())
	exact := req.External != 0 && (req.Exact || req.Remote.IsValid())
	isBlocked := m.blocked(req, wish) != portmap.Granted
	switch r := m.quota(req); {
	case r != portmap.Granted:
		return no(r)
	case exact && isBlocked:
		return no(portmap.Blocked)
	case !m.rulesAllow(req.Origin, req.Internal.Port()):
		return no(portmap.NotAuthorized)
	}
	taken := m.at(req.Protocol, wish) != nil || m.isTwinOfOther(req, wish)
	switch {
	case modelPorts.Contains(wish) && m.provides(wish) && !isBlocked && !taken && !m.isHeld(req, wish):
		switch {
		case m.mayHave(req, wish):
			return verdict{external: []uint16{wish}}
		case exact:
			return no(portmap.ShareExceeded)
		}
	case exact && !modelPorts.Contains(wish):
		return no(portmap.NotAuthorized)
	case exact && !m.provides(wish):
		return m.notProvided(req)
	case exact && !taken:
		return no(portmap.HeldDown)
	case exact:
		return no(portmap.Conflict)
	}
	return m.anyPort(req)
}

// anyPort decides a request for a new mapping with any port.
func (m *model) anyPort(req portmap.Request) verdict {
	switch list := m.freePorts(req); {
	case len(list) > 0 && m.provided == nil:
		return verdict{external: list}
	case len(list) > 0:
		return m.shared(req, list)
	}
	for port := modelPorts.First; port <= modelPorts.Last; port++ {
		if m.provides(port) && m.blocked(req, port) == portmap.Granted {
			return no(portmap.NoPorts)
		}
	}
	if len(m.provided) == 1 { // the rules forbid it
		return no(portmap.NoPorts)
	}
	return no(portmap.Blocked)
}

// grant records what was granted.
func (m *model) grant(req portmap.Request, v verdict, external uint16) time.Duration {
	e := v.entry
	if e == nil {
		e = &entry{protocol: req.Protocol, external: external}
		m.entries = append(m.entries, e)
	}
	e.internal = req.Internal
	lifetime := req.Lifetime
	if req.Origin != portmap.UPnP {
		lifetime = min(lifetime, modelPolicy.MaxLifetime)
	}
	if req.Origin == portmap.PCP {
		lifetime = max(lifetime, modelPolicy.MinLifetime)
	}
	c := e.claim(req.Origin, req.Remote)
	if c == nil {
		e.claims = append(e.claims, modelClaim{origin: req.Origin, remote: req.Remote})
		c = &e.claims[len(e.claims)-1]
	} else if req.Remote.IsValid() {
		lifetime = max(lifetime, c.ends.Sub(m.now))
	}
	c.nonce, c.rebind, c.ends = req.Nonce, time.Time{}, time.Time{}
	if lifetime > 0 {
		c.ends = m.now.Add(lifetime)
	}
	return lifetime
}

// close carries out a delete and returns the answer.
func (m *model) close(req portmap.Request) (r portmap.Refusal, closed int) {
	releases := func(c modelClaim) bool { return c.origin == req.Origin && !c.remote.IsValid() }
	if req.Origin == portmap.UPnP {
		e := m.at(req.Protocol, req.External)
		switch {
		case e == nil || !slices.ContainsFunc(e.claims, func(c modelClaim) bool { return !c.remote.IsValid() }):
			return portmap.NotFound, 0
		case e.internal.Addr() != req.Client || !slices.ContainsFunc(e.claims, releases):
			return portmap.NotOwner, 0
		}
		m.release(e, releases)
		return portmap.Granted, 1
	}
	for _, e := range m.mappingsTo(req.Protocol, req.Internal) {
		c := e.claim(req.Origin, netip.AddrPort{})
		if c == nil || !m.isProof(c, req) {
			r = portmap.NotOwner
			continue
		}
		m.release(e, releases)
		closed++
	}
	if closed > 0 && req.Internal.Port() != 0 {
		r = portmap.Granted
	}
	return r, closed
}

// check compares an answer with the model and updates the model.
func (m *model) check(req portmap.Request, a portmap.Answer) error {
	if req.Op == portmap.Close {
		if r, closed := m.close(req); a.Refusal != r || a.Closed != closed {
			return fmt.Errorf("%v, %d closed, want %v, %d", a.Refusal, a.Closed, r, closed)
		}
		return nil
	}
	v := m.open(req)
	if v.entry != nil {
		v = m.join(v.entry, req)
	}
	if a.Refusal != v.refusal {
		return fmt.Errorf("%v, want %v", a.Refusal, v.refusal)
	}
	if denied := a.Refusal == portmap.NotAuthorized; denied != (a.Rule != nil) || denied && a.Rule.Allow {
		return fmt.Errorf("%v by rule %+v", a.Refusal, a.Rule)
	}
	if a.Refusal != portmap.Granted {
		return nil
	}
	if v.entry != nil {
		v.external = []uint16{v.entry.external}
	}
	if !slices.Contains(v.external, a.Mapping.External) {
		return fmt.Errorf("granted %v, want one of %v", a.Mapping.Key, v.external)
	}
	if lifetime := m.grant(req, v, a.Mapping.External); a.Lifetime != lifetime {
		return fmt.Errorf("granted for %v, want %v", a.Lifetime, lifetime)
	}
	return nil
}

// lines prints the model in the form of print.
func (m *model) lines() []string {
	var lines []string
	for _, e := range m.entries {
		line := fmt.Sprintf("%d/%v to %v", e.external, e.protocol, e.internal)
		for _, c := range e.claims {
			line += fmt.Sprintf(" [%v %v %v %v]", c.origin, c.remote, c.ends.Unix(), c.nonce[0])
		}
		lines = append(lines, line)
	}
	return lines
}

// print prints mappings for comparison with the model.
func print(list []*portmap.Mapping) []string {
	var lines []string
	for _, e := range list {
		line := fmt.Sprintf("%v to %v", e.Key, e.Internal)
		for _, h := range e.Claims {
			line += fmt.Sprintf(" [%v %v %v %v]", h.Origin, h.Remote, h.Expires.Unix(), h.Nonce[0])
		}
		lines = append(lines, line)
	}
	return lines
}

// randomRequest returns a random request.
func randomRequest(rng *rand.Rand) portmap.Request {
	c := client(rng.IntN(4))
	req := portmap.Request{
		Origin: []portmap.Origin{portmap.NATPMP, portmap.PCP, portmap.UPnP}[rng.IntN(3)],
		Client: c, ClientHost: modelHost(c), Protocol: []portmap.Protocol{portmap.TCP, portmap.UDP}[rng.IntN(2)],
		Internal: netip.AddrPortFrom(c, uint16(40000+rng.IntN(6))), Host: portmap.Host{Hardware: modelHardware(c)},
		Lifetime: time.Duration(rng.IntN(90*60)+1) * time.Second,
	}
	if rng.IntN(3) > 0 {
		req.External = uint16(39999 + rng.IntN(12))
	}
	switch req.Origin {
	case portmap.PCP:
		req.Nonce = portmap.Nonce{byte(c.As4()[3]) + byte(rng.IntN(8)/7)} // now and then a wrong one
		req.Exact = req.External != 0 && rng.IntN(4) == 0
		if rng.IntN(3) == 0 {
			req.Remote, req.Exact = modelPeers[rng.IntN(len(modelPeers))], false
			return req
		}
	case portmap.UPnP:
		req.External = cmp.Or(req.External, 40000)
		req.Exact = rng.IntN(3) > 0
		if rng.IntN(8) == 0 {
			req.Lifetime = 0
		}
	}
	if rng.IntN(3) == 0 {
		req.Op = portmap.Close
		if req.Origin != portmap.UPnP {
			req.External = 0
		}
		if req.Origin == portmap.NATPMP && rng.IntN(4) == 0 {
			req.Internal = netip.AddrPortFrom(c, 0)
		}
	}
	return req
}

// network returns the network state that the model has.
func (m *model) network() portmap.NetworkState {
	s := having(gateway, gateway6)
	if m.away {
		s = having(gateway6)
	}
	s.External = m.wan
	s.Interfaces, s.Devices = [][]netip.Prefix{s.LANs}, []string{"lan0"}
	return s
}

// modelSeeds is the number of runs of TestModel, modelStepsEnv the environment variable
// for a number of requests instead.
const (
	modelSeeds    = 8
	modelStepsEnv = "PORTMAP_MODEL_STEPS"
)

// TestModel sends random requests of all protocols from several clients, in
// batches, with time passing, firewalls flushed, the LAN gone and back, another
// external address, other rules and ports of the provider, blocks that are set, bound and lifted, and the table restarted between them, also
// after a reboot, and compares every answer and the epoch with the model, and
// then table, kernel and file.
func TestModel(t *testing.T) {
	wanted := modelSteps(t)
	seed, steps := uint64(0), 0
	answered := make(map[portmap.Refusal]int)
	for ; wanted == 0 && seed < modelSeeds || steps < wanted; seed++ {
		passed := t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				steps += runModel(t, rand.New(rand.NewPCG(seed, 0)), answered)
			})
		})
		if !passed {
			break
		}
	}
	t.Logf("%d requests from %d seeds", steps, seed)
	few := func(r portmap.Refusal, each int) bool { return answered[r] < each*int(seed) }
	if !t.Failed() && (few(portmap.Granted, 300) || few(portmap.QuotaExceeded, 30) || few(portmap.TableFull, 10) || few(portmap.Blocked, 30) || few(portmap.UnknownHost, 10) || few(portmap.NotProvided, 5) || few(portmap.NoPorts, 5)) {
		t.Errorf("the requests were answered %v", answered)
	}
}

// modelSteps returns the number of requests that the environment asks for, 0 if
// none.
func modelSteps(t *testing.T) int {
	t.Helper()
	text := os.Getenv(modelStepsEnv)
	if text == "" {
		return 0
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// runModel runs one seed and returns the number of requests. It counts the answers to
// those for mappings.
func runModel(t *testing.T, rng *rand.Rand, answered map[portmap.Refusal]int) (steps int) {
	store := &portmaptest.Store{}
	m := &model{wan: wan, epoch: time.Now(), last: 40004}
	r := startTableRig(t, m.policy(), m.network(), &portmaptest.Firewall{}, store)
	for round := range 300 {
		switch rng.IntN(20) {
		case 0:
			r.firewall.Flush()
			r.firewall.Restore()
		case 1:
			r.stop()
			if rng.IntN(2) == 0 {
				store.Reboot()
				m.reset(time.Now())
			}
			m.setRandomRules(rng, time.Now())
			m.setProvided(randomPorts(rng), time.Now())
			r = startTableRig(t, m.policy(), m.network(), &portmaptest.Firewall{}, store)
			m.held = nil
		case 2, 3:
			m.away = !m.away && rng.IntN(2) == 0
			r.set(t, m.network())
		case 4:
			m.wan = m.wan.Next()
			m.reset(time.Now())
			r.set(t, m.network())
		case 5:
			if rng.IntN(2) == 0 {
				m.setRandomRules(rng, time.Now())
			} else {
				m.setProvided(randomPorts(rng), time.Now())
			}
			p := m.policy()
			if err := r.SetPolicy(context.Background(), &p); err != nil {
				t.Fatal(err)
			}
		case 6, 7:
			m.setBlock(t, r, randomBlock(rng))
		case 8:
			m.liftBlock(t, r, rng)
		case 9:
			m.bindBlocks(t, r)
		}
		time.Sleep(time.Duration(rng.IntN(600)) * time.Second)
		synctest.Wait()
		m.pass(time.Now())
		m.ids() // without those that have ended
		requests := make([]portmap.Request, rng.IntN(20))
		answers := make([]portmap.Answer, len(requests))
		var order []int // of the decisions: those without new rules come first
		var pending sync.WaitGroup
		together := make(chan struct{}) // closed when all requests are queued
		r.Submit(portmap.Request{Client: client(0)}, func(portmap.Answer) { <-together })
		synctest.Wait()
		for i := range requests {
			requests[i] = randomRequest(rng)
			pending.Add(1)
			r.Submit(requests[i], func(a portmap.Answer) {
				answers[i], order = a, append(order, i)
				pending.Done()
			})
		}
		close(together)
		pending.Wait()
		steps += len(requests)
		for _, i := range order {
			req := requests[i]
			if err := m.check(req, answers[i]); err != nil {
				t.Fatalf("round %d: %+v: %v", round, req, err)
			}
			if req.Op == portmap.Open {
				answered[answers[i].Refusal]++
			}
		}
		if got, want := print(r.List()), m.lines(); !slices.Equal(got, want) {
			t.Fatalf("round %d at %v: the table holds\n%q, want\n%q", round, time.Now().Unix(), got, want)
		}
		r.checkAgreement(t, len(m.entries))
		if got, want := r.Epoch(), uint32(time.Since(m.epoch)/time.Second); got != want {
			t.Fatalf("round %d: the epoch is %d, want %d", round, got, want)
		}
		if got, want := r.ids(), m.ids(); !slices.Equal(got, want) {
			t.Fatalf("round %d: blocks %v are in force, want %v", round, got, want)
		}
		if n := len(r.firewall.Open()); n != m.inForce() {
			t.Fatalf("round %d: the kernel has %d mappings, want %d", round, n, m.inForce())
		}
	}
	r.stop()
	return steps
}
