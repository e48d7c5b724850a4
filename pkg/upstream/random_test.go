package upstream

import (
	"cmp"
	"context"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"igdd/pkg/pcp"
	"igdd/pkg/portmap"
)

// pcpTable is a router in front with the table of a PCP server: it knows a mapping by the
// nonce that it was made with.
type pcpTable struct {
	fakeRouter
	isMute  bool                // it does what it is asked for mappings, but does not answer
	entries map[uint16]pcpEntry // by the port that they lead to
}

type pcpEntry struct {
	nonce   portmap.Nonce
	expires time.Time
}

// change makes or deletes an entry.
func (r *pcpTable) change(a ask, lifetime time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, found := r.entries[a.port]
	switch {
	case found && e.nonce != a.nonce && time.Now().Before(e.expires):
		return &routerError{cause: denied, reason: "not yours", result: pcp.NotAuthorized}
	case lifetime == 0:
		delete(r.entries, a.port)
	default:
		r.entries[a.port] = pcpEntry{a.nonce, time.Now().Add(lifetime)}
	}
	if r.isMute {
		return &routerError{cause: silent, reason: "no answer"}
	}
	return nil
}

func (r *pcpTable) open(ctx context.Context, a ask) (grant, error) {
	const forever = 1000 * time.Hour
	g, err := r.fakeRouter.open(ctx, a)
	if err == nil {
		err = r.change(a, cmp.Or(g.lifetime, forever))
	}
	return g, err
}

func (r *pcpTable) close(ctx context.Context, a ask) error {
	if err := r.fakeRouter.close(ctx, a); err != nil {
		return err
	}
	return r.change(a, 0)
}

// restart has the router lose what it forwards.
func (r *pcpTable) restart() {
	r.with(func() {
		clear(r.entries)
		r.reset = time.Now()
	})
}

// forwarded returns the ports that are forwarded now.
func (r *pcpTable) forwarded() []uint16 {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.entries, func(_ uint16, e pcpEntry) bool { return !time.Now().Before(e.expires) })
	return slices.Sorted(maps.Keys(r.entries))
}

// natpmpTable is the same router, asked by NAT-PMP, which has no nonces.
type natpmpTable struct{ *pcpTable }

func (r natpmpTable) open(ctx context.Context, a ask) (grant, error) {
	return r.pcpTable.open(ctx, r.authorized(a))
}

func (r natpmpTable) close(ctx context.Context, a ask) error {
	return r.pcpTable.close(ctx, r.authorized(a))
}

// authorized returns a with the nonce that the table knows.
func (r natpmpTable) authorized(a ask) ask {
	r.with(func() { a.nonce = r.entries[a.port].nonce })
	return a
}

// life is a random one of a Client with a pcpTable in front of it.
type life struct {
	*rig
	random *rand.Rand
	table  *pcpTable
	live   map[uint16]*portmap.Mapping // by external port
	serial uint64                      // of the last mapping
}

func newLife(t *testing.T, seed uint64) *life {
	l := &life{rig: newRig(t), random: rand.New(rand.NewPCG(seed, 0)), live: make(map[uint16]*portmap.Mapping)}
	synctest.Wait() // until it waits for a gateway
	l.table = &pcpTable{fakeRouter: fakeRouter{external: outer, reset: time.Now()}, entries: make(map[uint16]pcpEntry)}
	l.options.Methods = []Method{PCP, NATPMP}
	l.connect = func(_ context.Context, m Method, _ Gateway) (router, error) {
		if m == NATPMP {
			return natpmpTable{l.table}, nil
		}
		return l.table, nil
	}
	l.SetGateway(uplink)
	return l
}

// port returns one of a dozen.
func (l *life) port() uint16 { return uint16(3000 + l.random.IntN(12)) }

// often returns true every other time.
func (l *life) often() bool { return l.random.IntN(2) == 0 }

// toggle opens a port, for a client of UPnP or one of three of PCP, or closes it.
func (l *life) toggle() {
	port := l.port()
	before := l.live[port]
	if before != nil {
		delete(l.live, port)
		l.change(before, nil)
		return
	}
	m := mappingOf(netip.AddrFrom4([4]byte{192, 168, 1, byte(2 + l.random.IntN(3))}), port)
	l.serial++
	m.Serial, m.Forwarding.Exact = l.serial, l.often()
	if n := byte(l.random.IntN(6)); n < 3 {
		m.Claims = []portmap.Claim{{Origin: portmap.PCP, Nonce: portmap.Nonce{n + 1}}}
	}
	l.live[port] = m
	l.change(nil, m)
}

// renew has the client of a mapping, if there is one, renew it, and insist on its port or not.
func (l *life) renew() {
	before := l.live[l.port()]
	if before == nil {
		return
	}
	m := *before
	m.Forwarding.Exact = l.often()
	l.live[m.External] = &m
	l.Update([]portmap.Change{{Before: before, After: &m, Cause: portmap.Requested}})
}

// conducts returns what a router may do when it is asked for a forwarding.
func conducts() []func(ask, *grant) error {
	return []func(ask, *grant) error{
		nil, nil, giveOther, refuse(denied), refuse(taken), refuse(silent),
		refusePCP(pcp.UnsuppOpcode, func(a ask) bool { return a.port == 3000 }),
		refusePCP(pcp.NotAuthorized, func(a ask) bool { return a.port%2 == 0 }),
		func(_ ask, g *grant) error { g.lifetime = 0; return nil },
		func(_ ask, g *grant) error { g.lifetime = time.Minute; return nil },
		func(_ ask, g *grant) error { g.external = netip.AddrPortFrom(g.external.Addr(), 0); return nil },
	}
}

// disturb changes what the router does.
func (l *life) disturb(r *pcpTable) {
	switch l.random.IntN(9) {
	case 0:
		r.gone = !r.gone
	case 1:
		r.deaf = !r.deaf
	case 2:
		r.isMute = !r.isMute
	case 3:
		r.secret = !r.secret
	case 4:
		r.fatal = uint16(3000 + l.random.IntN(100))
	case 5:
		r.delay = time.Duration(l.random.Int64N(int64(3 * time.Second)))
	case 6:
		r.external = netip.AddrFrom4([4]byte{203, 0, 113, byte(7 + l.random.IntN(3))})
	default:
		all := conducts()
		r.grant = all[l.random.IntN(len(all))]
	}
}

// event has something happen.
func (l *life) event() {
	switch l.random.IntN(20) {
	case 0, 1:
		l.table.restart()
	case 2:
		l.setOwn(outer)
	case 3:
		l.setOwn()
	case 4: // what comes back is another one
		l.SetGateway(Gateway{})
		synctest.Wait()
		l.table.restart()
	case 5:
		l.SetGateway(uplink)
	case 6, 7:
		l.renew()
	case 8, 9, 10, 11, 12:
		l.table.with(func() { l.disturb(l.table) })
	default:
		l.toggle()
	}
}

// heal has everything in order again.
func (l *life) heal() {
	l.setOwn()
	l.table.with(func() {
		r := l.table
		r.gone, r.deaf, r.isMute, r.secret, r.fatal, r.delay, r.grant = false, false, false, false, 0, 0, nil
	})
	l.SetGateway(uplink)
	l.wait(leaseTime * 5 / 8) // until the last renewal
	if l.hasSetAside() {
		l.wait(setAside)
	}
}

// hasSetAside reports whether a port is not asked for, since the router fell silent both times
// that it was.
func (l *life) hasSetAside() bool {
	for _, m := range l.live {
		if l.of(m).Reason == errFallsSilent.reason {
			return true
		}
	}
	return false
}

// TestRandomLives has mappings come and go while the router does all that routers do. Once
// it behaves, it forwards just what is wanted, and the table knows; and nothing at the end.
func TestRandomLives(t *testing.T) {
	for seed := range uint64(100) {
		synctest.Test(t, func(t *testing.T) {
			l := newLife(t, seed)
			for range 300 {
				l.event()
				l.wait(time.Duration(l.random.Int64N(int64(20*time.Second))) * time.Duration(l.random.IntN(2)))
			}
			l.heal()
			for _, m := range l.live {
				l.expect(t, m, portmap.Reachable, "")
			}
			if got, want := l.table.forwarded(), slices.Sorted(maps.Keys(l.live)); !slices.Equal(got, want) {
				t.Errorf("seed %d: forwarded %v, want %v", seed, got, want)
			}
			l.stop()
			l.GiveBack()
			if got := l.table.forwarded(); len(got) != 0 {
				t.Errorf("seed %d: forwarded at the end: %v", seed, got)
			}
		})
	}
}
