package upstream

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"igdd/pkg/portmap"
)

// ownAddr is an address of this router in tests of loops.
var ownAddr = netip.MustParseAddr("192.168.1.1")

// leadBack has the router grant the ports that such returns true for at an own address.
func (r *rig) leadBack(such func(port uint16) bool) {
	r.setOwn(ownAddr)
	r.router.with(func() {
		r.router.grant = func(a ask, g *grant) error {
			if such(a.port) {
				g.external = netip.AddrPortFrom(ownAddr, g.external.Port())
			}
			return nil
		}
	})
}

// expectReason compares why a mapping is not reachable.
func (r *rig) expectReason(t *testing.T, m *portmap.Mapping, want *routerError) {
	t.Helper()
	if got := r.of(m); got.State != portmap.Unreachable || got.Reason != want.reason {
		t.Errorf("%v is %v, want %v", m.Key, got.Forwarding, want)
	}
}

func all(uint16) bool { return true }

// TestLoops has routers in front that are, or lead to, this one.
func TestLoops(t *testing.T) {
	for name, own := range map[string]netip.Addr{"a client": uplink.Address, "the outermost address": outer} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.setOwn(own)
				r.SetGateway(uplink)
				m := mapping(3001)
				r.change(nil, m)
				r.expect(t, m, portmap.Unreachable, "")
				if opens, _, _ := r.router.counts(); opens != 0 || r.Status().Err == nil {
					t.Errorf("%d requests, status %+v", opens, r.Status())
				}
				r.setOwn()
				r.wait(maxLoopPause)
				r.expect(t, m, portmap.Reachable, "203.0.113.7:3001")
			})
		})
	}
}

// TestOneLeadsBack has one forwarding of three lead back: that one is given back and asked
// for again later, and the others stay.
func TestOneLeadsBack(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		before, m, after := mapping(3000), mapping(3001), mapping(3002)
		r.change(nil, before)
		r.leadBack(func(port uint16) bool { return port == 3001 })
		r.change(nil, m)
		r.change(nil, after)
		r.wait(firstRetry / 2)
		r.expectReason(t, m, errLoop)
		if opens, closes, _ := r.router.counts(); opens != 3 || closes != 1 || r.Status().Err != nil {
			t.Errorf("%d opens, %d closes, status %+v", opens, closes, r.Status())
		}
		r.wait(24 * time.Hour)
		r.expectReason(t, m, errLoop)
		r.expect(t, before, portmap.Reachable, "203.0.113.7:3000")
		r.expect(t, after, portmap.Reachable, "203.0.113.7:3002")
		r.router.with(func() { r.router.grant = nil })
		r.wait(lastRetry)
		r.expect(t, m, portmap.Reachable, "203.0.113.7:3001")
	})
}

// TestSomeLeadBack has every other forwarding lead back: that is no loop.
func TestSomeLeadBack(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		r.leadBack(func(port uint16) bool { return port%2 == 0 })
		for port := range uint16(4 * maxLedBack) {
			r.change(nil, mapping(3001+port))
			if st := r.Status(); st.Err != nil {
				t.Errorf("port %d: status %+v", 3001+port, st)
			}
		}
	})
}

// TestMostLeadBack has all forwardings but one lead back: they are given back, that one
// stays, and no more are asked for until a look shows better.
func TestMostLeadBack(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		kept := mapping(3000)
		r.change(nil, kept)
		r.leadBack(all)
		for port := range uint16(maxLedBack) {
			if r.Status().Err != nil {
				t.Errorf("%v after %d", r.Status().Err, port)
			}
			r.change(nil, mapping(3001+port))
		}
		r.router.with(func() { r.router.secret = true })
		late := mapping(4000)
		r.change(nil, late)
		r.expectReason(t, late, errLoop)
		r.expectReason(t, mapping(3001), errLoop)
		r.expect(t, kept, portmap.Reachable, "203.0.113.7:3000")
		if opens, closes, _ := r.router.counts(); opens != 1+maxLedBack || closes != maxLedBack || r.Status().Err != errLoop {
			t.Errorf("%d opens, %d closes, status %+v", opens, closes, r.Status())
		}
		r.router.with(func() { r.router.grant = nil })
		r.wait(minLoopPause)
		r.expect(t, mapping(3001), portmap.Reachable, "203.0.113.7:3001")
		r.expect(t, late, portmap.Reachable, "203.0.113.7:4000")
		if r.Status().Err != nil {
			t.Errorf("status %+v", r.Status())
		}
	})
}

// TestPauseOfLoops has a router that leads back all the time: looks become rare.
func TestPauseOfLoops(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		r.leadBack(all)
		r.router.with(func() { r.router.delay = 100 * time.Millisecond })
		var changes []portmap.Change
		for port := range uint16(100) {
			changes = append(changes, portmap.Change{After: mapping(3001 + port)})
		}
		r.Update(changes)
		r.wait(time.Second)
		if opens, closes, _ := r.router.counts(); opens > maxAsking+maxLedBack || closes != opens {
			t.Errorf("%d opens, %d closes", opens, closes)
		}
		r.wait(24 * time.Hour)
		opens, closes, checks := r.router.counts()
		if most := 24*6 + 10; checks > most || opens > most*maxAsking || closes != opens {
			t.Errorf("%d opens, %d closes, %d checks in a day", opens, closes, checks)
		}
	})
}

// TestEndOfLoop looks at once when the router announces something, or restarts.
func TestEndOfLoop(t *testing.T) {
	for name, happen := range map[string]func(*rig, chan<- struct{}){
		"announcement": func(_ *rig, heard chan<- struct{}) { signal(heard) },
		"restart": func(r *rig, _ chan<- struct{}) {
			r.router.with(func() { r.router.reset = time.Now() })
			r.change(nil, filtered(mapping(3000))) // which is forwarded elsewhere, and asked for anew
		},
		"good address": func(r *rig, _ chan<- struct{}) { r.change(nil, filtered(mapping(3000))) },
	} {
		t.Run(name, func(t *testing.T) {
			inRig(t, func(t *testing.T, r *rig) {
				heard := <-r.said
				r.change(nil, mapping(3000))
				r.leadBack(func(port uint16) bool { return port != 3000 })
				for port := range uint16(maxLedBack) {
					r.change(nil, mapping(3001+port))
				}
				r.wait(checkPause)
				r.router.with(func() { r.router.grant = nil })
				happen(r, heard)
				r.wait(checkPause)
				r.expect(t, mapping(3001), portmap.Reachable, "203.0.113.7:3001")
			})
		})
	}
}

// filtered returns m with a filter, so that it is asked for anew.
func filtered(m *portmap.Mapping) *portmap.Mapping {
	m.Claims[0].Filters = []portmap.Filter{{Prefix: netip.MustParsePrefix("198.51.100.7/32")}}
	return m
}

// TestRenumberedToALoop has a router without addresses in its grants be renumbered so that it
// leads back: what it forwards stays until it is renewed, and is given back then.
func TestRenumberedToALoop(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		m, n := mapping(3001), mapping(3002)
		r.router.with(func() {
			r.router.grant = func(_ ask, g *grant) error {
				g.external = netip.AddrPortFrom(netip.Addr{}, g.external.Port())
				return nil
			}
		})
		r.change(nil, m)
		r.setOwn(ownAddr)
		r.router.with(func() { r.router.external = ownAddr })
		r.wait(checkInterval)
		r.change(nil, n)
		r.expectReason(t, n, errLoop)
		r.expect(t, m, portmap.Reachable, "203.0.113.7:3001")
		r.wait(leaseTime)
		r.expectReason(t, m, errLoop)
		if _, closes, _ := r.router.counts(); closes != 1 {
			t.Errorf("%d closes", closes)
		}
		r.router.with(func() { r.router.external = outer })
		r.wait(maxLoopPause)
		r.expect(t, m, portmap.Reachable, "203.0.113.7:3001")
		r.expect(t, n, portmap.Reachable, "203.0.113.7:3002")
	})
}

// TestServedAddress has a router with an address of a network that is served, as another
// router has that asks this one.
func TestServedAddress(t *testing.T) {
	served := netip.MustParseAddr("192.168.1.9")
	inRig(t, func(t *testing.T, r *rig) {
		r.mu.Lock()
		r.served = netip.MustParsePrefix("192.168.1.0/24")
		r.mu.Unlock()
		kept := mapping(3000)
		r.change(nil, kept)
		r.router.with(func() {
			r.router.grant = func(_ ask, g *grant) error { g.external = netip.AddrPortFrom(served, g.external.Port()); return nil }
		})
		for port := range uint16(maxLedBack) {
			if r.Status().Err != nil {
				t.Errorf("%v after %d", r.Status().Err, port)
			}
			r.change(nil, mapping(3001+port))
			r.expectReason(t, mapping(3001+port), errServed)
		}
		r.expect(t, kept, portmap.Reachable, "203.0.113.7:3000")
		r.router.counts()
		r.router.with(func() { r.router.external = served })
		r.wait(minLoopPause)
		r.change(nil, mapping(4000))
		r.expectReason(t, mapping(4000), errServed)
		if opens, _, _ := r.router.counts(); opens != 0 || r.Status().Err != errServed || r.Status().External != outer {
			t.Errorf("%d opens, status %+v", opens, r.Status())
		}
	})
}
