package upstream

import (
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
	return nil
}

func (r *pcpTable) open(ctx context.Context, a ask) (grant, error) {
	g, err := r.fakeRouter.open(ctx, a)
	if err == nil {
		err = r.change(a, a.lifetime)
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
	l.table = &pcpTable{fakeRouter: fakeRouter{external: outer, reset: time.Now()}, entries: make(map[uint16]pcpEntry)}
	l.connect = func(context.Context, Method, Gateway) (router, error) { return l.table, nil }
	l.SetGateway(uplink)
	return l
}

// toggle opens one of a dozen ports, for a client of UPnP or one of three of PCP, or closes it.
func (l *life) toggle() {
	port := uint16(3000 + l.random.IntN(12))
	before := l.live[port]
	if before != nil {
		delete(l.live, port)
		l.change(before, nil)
		return
	}
	m := mapping(port)
	l.serial++
	m.Serial = l.serial
	if n := byte(l.random.IntN(6)); n < 3 {
		m.Claims = []portmap.Claim{{Origin: portmap.PCP, Nonce: portmap.Nonce{n + 1}}}
	}
	l.live[port] = m
	l.change(nil, m)
}

// event has something happen.
func (l *life) event() {
	switch n := l.random.IntN(14); n {
	case 0:
		l.table.restart()
	case 1:
		l.table.with(func() { l.table.gone = !l.table.gone })
	case 2:
		l.table.with(func() { l.table.delay = time.Duration(l.random.Int64N(int64(3 * time.Second))) })
	case 3:
		l.table.with(func() { l.table.secret = !l.table.secret })
	case 4:
		l.table.with(func() { l.table.external = netip.AddrFrom4([4]byte{203, 0, 113, byte(7 + l.random.IntN(3))}) })
	case 5:
		l.setOwn(outer)
	case 6:
		l.setOwn()
	case 7: // what comes back is another one
		l.SetGateway(Gateway{})
		synctest.Wait()
		l.table.restart()
	case 8:
		l.SetGateway(uplink)
	default:
		l.toggle()
	}
}

// heal has everything in order again.
func (l *life) heal() {
	l.setOwn()
	l.table.with(func() { l.table.gone, l.table.delay, l.table.secret = false, 0, false })
	l.SetGateway(uplink)
	l.wait(leaseTime * 5 / 8) // until the last renewal
	for l.hasSetAside() {
		l.wait(time.Hour)
	}
}

// hasSetAside reports whether a port is not asked for, since the router was gone both times
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
// it behaves, it forwards just what is wanted, and the table knows.
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
			if got, want := slices.Sorted(maps.Keys(l.table.entries)), slices.Sorted(maps.Keys(l.live)); !slices.Equal(got, want) {
				t.Errorf("seed %d: forwarded %v, want %v", seed, got, want)
			}
		})
	}
}
