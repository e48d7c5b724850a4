package upstream

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"igdd/pkg/pcp"
	"igdd/pkg/portmap"
)

// expect fails unless the last report on m has a state, and with Reachable an endpoint.
func (r *rig) expect(t *testing.T, m *portmap.Mapping, state portmap.ForwardingState, endpoint string) {
	t.Helper()
	got := r.of(m)
	if got.State != state || endpoint != "" && got.Forwarding.External.String() != endpoint {
		t.Errorf("%v is %v, want %v %s", m.Key, got.Forwarding, state, endpoint)
	}
}

func TestMappingIsForwardedAndGivenBack(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		m := mapping(3001)
		r.change(nil, m)
		r.expect(t, m, portmap.Reachable, "203.0.113.7:3001")
		if left := time.Until(r.of(m).Expires); left != time.Hour {
			t.Errorf("lease of %v", left)
		}
		a := r.router.last()
		if a.protocol != portmap.TCP || a.port != 3001 || a.suggested != 3001 || a.description != "test" || a.lifetime != time.Hour || a.nonce == (portmap.Nonce{}) {
			t.Errorf("asked %+v", a)
		}
		r.change(m, nil)
		if opens, closes, _ := r.router.counts(); opens != 1 || closes != 1 {
			t.Errorf("%d opens, %d closes", opens, closes)
		}
		if !slices.Equal(r.seen, []netip.Addr{outer}) {
			t.Errorf("seen %v", r.seen)
		}
		if st := r.Status(); st != (Status{Gateway: uplink.Address, Method: PCP, External: outer}) {
			t.Errorf("status %+v", st)
		}
	})
}

// TestIdle has no wants: after discovery nothing is sent.
func TestIdle(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		m := mapping(3001)
		r.change(nil, m)
		r.change(m, nil)
		r.router.counts()
		r.wait(24 * time.Hour)
		if opens, closes, checks := r.router.counts(); opens+closes+checks != 0 {
			t.Errorf("%d opens, %d closes, %d checks", opens, closes, checks)
		}
	})
}

func TestNoGateway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.change(nil, mapping(3001))
		r.wait(time.Hour)
		if opens, _, checks := r.router.counts(); opens+checks != 0 || r.told != 0 || r.Status() != (Status{}) {
			t.Errorf("%d opens, %d checks, %d reports, status %+v", opens, checks, r.told, r.Status())
		}
		r.SetGateway(uplink)
		synctest.Wait()
		r.expect(t, mapping(3001), portmap.Reachable, "203.0.113.7:3001")
	})
}

// TestUplinkWithoutGateway has nobody to ask, and says so, until there is a gateway.
func TestUplinkWithoutGateway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.SetGateway(Gateway{Local: uplink.Local, Device: uplink.Device})
		m, later := mapping(3001), mapping(3002)
		r.change(nil, m)
		r.wait(time.Hour)
		r.change(nil, later)
		for _, m := range []*portmap.Mapping{m, later} {
			if got := r.of(m); got.State != portmap.Unreachable || got.Reason != "wan has no IPv4 gateway" {
				t.Errorf("%v is %v", m.Key, got.Forwarding)
			}
		}
		if opens, _, checks := r.router.counts(); opens+checks+len(r.said) != 0 || r.told != 2 || r.Status().Err == nil {
			t.Errorf("%d opens, %d checks, %d listeners, %d reports, status %+v", opens, checks, len(r.said), r.told, r.Status())
		}
		r.SetGateway(uplink)
		synctest.Wait()
		r.expect(t, m, portmap.Reachable, "203.0.113.7:3001")
	})
}

func TestRenewal(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		for _, lease := range []time.Duration{time.Minute, time.Hour, pcpForever} {
			r.router.grant = func(_ ask, g *grant) error { g.lifetime = lease; return nil }
			m := mapping(uint16(3000 + lease/time.Minute%1000))
			r.change(nil, m)
			r.router.counts()
			capped := min(lease, maxLease)
			r.wait(capped/2 - time.Second)
			if opens, _, _ := r.router.counts(); opens != 0 {
				t.Errorf("lease of %v: renewed before the half", lease)
			}
			r.wait(capped/8 + time.Second)
			if opens, _, _ := r.router.counts(); opens != 1 {
				t.Errorf("lease of %v: %d renewals", lease, opens)
			}
			r.expect(t, m, portmap.Reachable, "")
			r.change(m, nil)
		}
	})
}

const pcpForever = (1<<32 - 1) * time.Second

// TestShortLease has a router that gives the shortest lease that there is: it is asked
// every four seconds at most.
func TestShortLease(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		r.router.grant = func(_ ask, g *grant) error { g.lifetime = time.Second; return nil }
		r.change(nil, mapping(3001))
		r.wait(time.Hour)
		if opens, _, _ := r.router.counts(); opens > 901 {
			t.Errorf("%d requests in an hour", opens)
		}
	})
}

// TestRenewalIsRetried has a router that does not renew: it is asked at three quarters,
// seven eighths and so on, and the mapping is reachable until its lease ends.
func TestRenewalIsRetried(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		m := mapping(3001)
		r.change(nil, m)
		r.router.with(func() { r.router.grant = refuse(denied) })
		r.router.counts()
		r.wait(59*time.Minute + 50*time.Second)
		opens, _, _ := r.router.counts()
		if opens < 6 || opens > 10 {
			t.Errorf("%d requests", opens)
		}
		r.expect(t, m, portmap.Reachable, "203.0.113.7:3001")
		r.wait(11 * time.Second)
		r.expect(t, m, portmap.Unreachable, "")
		r.router.with(func() { r.router.grant = nil })
		r.wait(firstRetry)
		r.expect(t, m, portmap.Reachable, "203.0.113.7:3001")
	})
}

// TestOtherPort has a router that gives another port than asked, and keeps it.
func TestOtherPort(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		r.router.grant = func(a ask, g *grant) error {
			g.lifetime = time.Minute
			if a.suggested == 3001 {
				g.external = netip.MustParseAddrPort("203.0.113.7:50505")
			}
			return nil
		}
		m := mapping(3001)
		r.change(nil, m)
		r.expect(t, m, portmap.Reachable, "203.0.113.7:50505")
		r.wait(time.Minute)
		if a := r.router.last(); a.suggested != 50505 {
			t.Errorf("the renewal suggests %d", a.suggested)
		}
	})
}

// TestAddressByCheckAlone has a router whose grants do not tell the address.
func TestAddressByCheckAlone(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		r.router.grant = func(_ ask, g *grant) error {
			g.external = netip.AddrPortFrom(netip.Addr{}, 50505)
			return nil
		}
		m := mapping(3001)
		r.change(nil, m)
		r.expect(t, m, portmap.Reachable, "203.0.113.7:50505")
	})
}

// exact returns a mapping whose client insists on its port.
func exact(port uint16) *portmap.Mapping {
	m := mapping(port)
	m.Forwarding.Exact = true
	return m
}

// expectOtherPort fails unless the last report on m says that another port could be had.
func (r *rig) expectOtherPort(t *testing.T, m *portmap.Mapping) {
	t.Helper()
	if got := r.of(m); got.State != portmap.Unreachable || !got.OtherPort || got.Reason == "" {
		t.Errorf("%v: %+v", m.Key, got.Forwarding)
	}
}

// giveOther is a fakeRouter's grant of another port than asked, whatever that is.
func giveOther(_ ask, g *grant) error {
	g.external = netip.MustParseAddrPort("203.0.113.7:50505")
	return nil
}

// TestExactPortIsTaken has a client that insists on a port that the router does not have at
// first.
func TestExactPortIsTaken(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		r.router.grant = refuse(taken)
		m := exact(3001)
		r.change(nil, m)
		r.expectOtherPort(t, m)
		if opens, closes, _ := r.router.counts(); opens != 1 || closes != 0 {
			t.Errorf("%d opens, %d closes", opens, closes)
		}
		r.router.with(func() { r.router.grant = nil })
		r.wait(firstRetry)
		r.expect(t, m, portmap.Reachable, "203.0.113.7:3001")
	})
}

// TestExactPortIsAnother has a client that insists on its port, and a router that gives
// another one: that is given back, and the right one is asked for again, but not all the time.
func TestExactPortIsAnother(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		r.router.grant = giveOther
		m := exact(3001)
		r.change(nil, m)
		r.expectOtherPort(t, m)
		if opens, closes, _ := r.router.counts(); opens != 1 || closes != 1 {
			t.Errorf("%d opens, %d closes", opens, closes)
		}
		r.wait(24 * time.Hour)
		r.expectOtherPort(t, m)
		if opens, closes, _ := r.router.counts(); opens < 48 || opens > 60 || opens != closes {
			t.Errorf("%d opens, %d closes in a day", opens, closes)
		}
		r.router.with(func() { r.router.grant = nil })
		r.wait(lastRetry)
		r.expect(t, m, portmap.Reachable, "203.0.113.7:3001")
		r.router.with(func() { r.router.grant = giveOther })
		r.wait(time.Hour)
		r.expectOtherPort(t, m)
		if a := r.router.last(); a.suggested != 3001 || !a.exact {
			t.Errorf("asked %+v", a)
		}
	})
}

// TestClientBeginsToInsist has a client insist on the port of a mapping that another one is
// forwarded for, and then no longer.
func TestClientBeginsToInsist(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		r.router.grant = func(a ask, g *grant) error {
			if !a.exact {
				return giveOther(a, g)
			}
			return nil
		}
		m := mapping(3001)
		r.change(nil, m)
		r.expect(t, m, portmap.Reachable, "203.0.113.7:50505")
		r.router.counts()
		r.change(m, exact(3001))
		r.expect(t, m, portmap.Reachable, "203.0.113.7:3001")
		if opens, closes, _ := r.router.counts(); opens != 1 || closes != 1 {
			t.Errorf("%d opens, %d closes", opens, closes)
		}
		r.router.with(func() { r.router.grant = giveOther })
		r.change(exact(3001), m)
		r.expect(t, m, portmap.Reachable, "203.0.113.7:50505")
	})
}

func TestDenial(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		r.router.grant = refuse(denied)
		m := mapping(3001)
		r.change(nil, m)
		r.expect(t, m, portmap.Unreachable, "")
		if reason := r.of(m).Reason; reason != "refused" {
			t.Errorf("reason %q", reason)
		}
		r.router.counts()
		r.wait(24 * time.Hour)
		if opens, _, _ := r.router.counts(); opens < 48 || opens > 60 {
			t.Errorf("%d requests in a day", opens)
		}
		r.change(m, nil)
		if _, closes, _ := r.router.counts(); closes != 0 {
			t.Error("what was never given is given back")
		}
	})
}

// TestInvalidGrants has answers that make no sense.
func TestInvalidGrants(t *testing.T) {
	for name, external := range map[string]string{
		"port 0": "203.0.113.7:0", "multicast": "224.0.0.1:1", "loopback": "127.0.0.1:1", "link-local": "169.254.0.1:1",
		"unspecified": "0.0.0.0:1", "IPv6": "[2001:db8::1]:1", "broadcast": "255.255.255.255:1",
		"this network": "0.1.2.3:1", "reserved": "240.0.0.1:1", "its inner address": "10.0.0.1:1",
	} {
		t.Run(name, func(t *testing.T) {
			inRig(t, func(t *testing.T, r *rig) {
				r.setOwn(loopback)
				r.router.grant = func(_ ask, g *grant) error { g.external = netip.MustParseAddrPort(external); return nil }
				m := mapping(3001)
				for port := range uint16(maxLedBack) {
					r.change(nil, mapping(4001+port))
				}
				r.change(nil, m)
				r.expect(t, m, portmap.Unreachable, "")
				if reason := r.of(m).Reason; !strings.Contains(reason, "says that") || r.Status().Err != nil {
					t.Errorf("reason %q, status %+v", reason, r.Status())
				}
				r.change(m, nil)
				if _, closes, _ := r.router.counts(); closes != 1 {
					t.Errorf("%d closes: the router may forward something", closes)
				}
			})
		})
	}
}

// TestPrivateOuterAddress is three routers deep.
func TestPrivateOuterAddress(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		r.router.grant = func(_ ask, g *grant) error { g.external = netip.MustParseAddrPort("100.64.0.9:3001"); return nil }
		m := mapping(3001)
		r.change(nil, m)
		r.expect(t, m, portmap.Reachable, "100.64.0.9:3001")
	})
}

// TestReplacedMapping has another client's PCP mapping at a key whose forwarding another
// nonce keeps.
func TestReplacedMapping(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		a, b := mapping(3001), mapping(3001)
		a.Claims = []portmap.Claim{{Origin: portmap.PCP, Nonce: portmap.Nonce{1}}}
		b.Claims = []portmap.Claim{{Origin: portmap.PCP, Nonce: portmap.Nonce{2}}}
		b.Serial++
		r.change(nil, a)
		r.Update([]portmap.Change{{Before: a}, {After: b}})
		synctest.Wait()
		r.router.with(func() {
			if len(r.router.opens) != 2 || r.router.opens[0].nonce != (portmap.Nonce{1}) || r.router.opens[1].nonce != (portmap.Nonce{2}) {
				t.Errorf("opened %+v", r.router.opens)
			}
			if len(r.router.closes) != 1 || r.router.closes[0].nonce != (portmap.Nonce{1}) {
				t.Errorf("closed %+v", r.router.closes)
			}
		})
		r.expect(t, b, portmap.Reachable, "203.0.113.7:3001")
	})
}

// TestReplacedUnanswered has another client's PCP mapping at a key whose forwarding the router
// does not answer to give back at first.
func TestReplacedUnanswered(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		a, b := mapping(3001), mapping(3001)
		a.Claims = []portmap.Claim{{Origin: portmap.PCP, Nonce: portmap.Nonce{1}}}
		b.Serial++
		r.change(nil, a)
		r.router.with(func() { r.router.deaf = true })
		r.Update([]portmap.Change{{Before: a}, {After: b}})
		synctest.Wait()
		r.expect(t, b, portmap.Unreachable, "")
		r.router.with(func() { r.router.deaf = false })
		r.wait(firstRetry)
		r.expect(t, b, portmap.Reachable, "203.0.113.7:3001")
		if opens, closes, _ := r.router.counts(); opens != 2 || closes != 2 {
			t.Errorf("%d opens, %d closes", opens, closes)
		}
	})
}

// TestReplacedWhileAsked has another client's PCP mapping at a key that the router is asked
// for: what it answers to the first client's nonce is no news of the second one's mapping.
func TestReplacedWhileAsked(t *testing.T) {
	for name, answer := range map[string]func(*grant) error{
		"granted": func(g *grant) error { g.external = netip.AddrPortFrom(outer, 1111); return nil },
		"refused": func(*grant) error {
			return &routerError{cause: denied, reason: "not yours", result: pcp.NotAuthorized}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inRig(t, func(t *testing.T, r *rig) {
				a, b := mapping(3001), mapping(3001)
				a.Claims = []portmap.Claim{{Origin: portmap.PCP, Nonce: portmap.Nonce{1}}}
				b.Claims = []portmap.Claim{{Origin: portmap.PCP, Nonce: portmap.Nonce{2}}}
				b.Serial++
				b.Forwarding.Exact = true
				r.router.delay = 400 * time.Millisecond
				r.router.grant = func(asked ask, g *grant) error {
					if asked.nonce == (portmap.Nonce{1}) {
						return answer(g)
					}
					return nil
				}
				r.change(nil, a)
				r.Update([]portmap.Change{{Before: a}, {After: b}})
				r.wait(500 * time.Millisecond)
				r.expect(t, b, portmap.NotAsked, "")
				r.wait(time.Second)
				if asked := r.router.last(); asked.nonce != (portmap.Nonce{2}) || !asked.exact {
					t.Errorf("asked %+v", asked)
				}
				if got := r.of(b); got.State != portmap.Reachable {
					t.Errorf("%v", got.Forwarding)
				}
			})
		})
	}
}

// TestNonceStays has a mapping that a PCP client joins, and a restart.
func TestNonceStays(t *testing.T) {
	var nonces []portmap.Nonce
	for range 2 {
		inRig(t, func(t *testing.T, r *rig) {
			m := mapping(3001)
			r.change(nil, m)
			nonces = append(nonces, r.router.last().nonce)
			joined := *m
			joined.Claims = append(slices.Clone(m.Claims), portmap.Claim{Origin: portmap.PCP, Nonce: portmap.Nonce{9}, Filters: []portmap.Filter{remote}})
			joined.Claims[0].Filters = []portmap.Filter{remote}
			r.change(m, &joined)
			nonces = append(nonces, r.router.last().nonce)
		})
	}
	if len(slices.Compact(nonces)) != 1 {
		t.Errorf("nonces %x", nonces)
	}
}

// TestNonceOfBefore has a router in front that knows a mapping by the nonce that this
// router chose before a restart, since its PCP client came later.
func TestNonceOfBefore(t *testing.T) {
	m := mapping(3001)
	known := nonceOf(m, []byte("secret"))
	m.Claims = append(m.Claims, portmap.Claim{Origin: portmap.PCP, Nonce: portmap.Nonce{9}})
	inRig(t, func(t *testing.T, r *rig) {
		r.router.grant = func(a ask, _ *grant) error {
			if a.nonce != known {
				return &routerError{cause: denied, reason: "not yours", result: pcp.NotAuthorized}
			}
			return nil
		}
		r.change(nil, m)
		r.expect(t, m, portmap.Reachable, "203.0.113.7:3001")
		r.wait(time.Hour)
		if opens, _, _ := r.router.counts(); opens > 4 {
			t.Errorf("%d requests in an hour", opens)
		}
	})
}

// TestForeignNonce has a router in front that knows a mapping by a nonce of others.
func TestForeignNonce(t *testing.T) {
	m := mapping(3001)
	m.Claims = append(m.Claims, portmap.Claim{Origin: portmap.PCP, Nonce: portmap.Nonce{9}})
	inRig(t, func(t *testing.T, r *rig) {
		r.router.grant = func(ask, *grant) error {
			return &routerError{cause: denied, reason: "not yours", result: pcp.NotAuthorized}
		}
		r.change(nil, m)
		r.expect(t, m, portmap.Unreachable, "")
		r.wait(time.Hour)
		if opens, _, _ := r.router.counts(); opens < 3 || opens > 10 {
			t.Errorf("%d requests in an hour", opens)
		}
	})
}

func TestFiltersAreSentAnew(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		m := mapping(3001)
		r.change(nil, m)
		n := mapping(3001)
		n.Claims[0].Filters = []portmap.Filter{remote}
		r.change(m, n)
		if a := r.router.last(); !slices.Equal(a.filters, []portmap.Filter{remote}) {
			t.Errorf("asked %+v", a)
		}
		r.change(n, m)
		if a := r.router.last(); len(a.filters) != 0 || !a.filtered {
			t.Errorf("asked %+v", a)
		}
		r.router.counts()
		r.change(m, mapping(3001)) // a renewal
		if opens, _, _ := r.router.counts(); opens != 0 {
			t.Error("a client's renewal is passed on")
		}
	})
}

// TestTableAsksAgain has a table that was told, and does not know any more.
func TestTableAsksAgain(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		m := mapping(3001)
		r.change(nil, m)
		told := r.told
		forgotten := mapping(3001)
		forgotten.Forwarding = portmap.Forwarding{}
		r.change(forgotten, m)
		if opens, _, _ := r.router.counts(); r.told != told+1 || opens != 1 {
			t.Errorf("%d more reports, %d requests", r.told-told, opens)
		}
	})
}

// TestClosedWhileAsked has mappings that end, one to come again, before a slow router has
// answered.
func TestClosedWhileAsked(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		r.router.delay = 400 * time.Millisecond
		a, b := mapping(3001), mapping(3002)
		r.change(nil, a)
		r.change(nil, b)
		r.change(a, nil)
		r.change(b, nil)
		r.change(nil, b)
		r.wait(2 * time.Second)
		r.expect(t, a, portmap.NotAsked, "")
		r.expect(t, b, portmap.Reachable, "203.0.113.7:3002")
		r.router.with(func() {
			if len(r.router.closes) != 1 || r.router.closes[0].port != 3001 {
				t.Errorf("closed %+v", r.router.closes)
			}
		})
	})
}

// TestStop leaves to its lease what has one, and gives back what has none.
func TestStop(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		r.router.grant = func(a ask, g *grant) error {
			if a.port == 3002 {
				g.lifetime = 0
			}
			return nil
		}
		r.change(nil, mapping(3001))
		r.change(nil, mapping(3002))
		if until := r.of(mapping(3002)).Expires; !until.IsZero() {
			t.Errorf("a forwarding without an end ends at %v", until)
		}
		r.router.with(func() { r.router.gone = true })
		began := time.Now()
		r.stop()
		if d := time.Since(began); d > 2*time.Second {
			t.Errorf("it took %v to stop", d)
		}
		if len(r.router.closes) != 1 || r.router.closes[0].port != 3002 {
			t.Errorf("closed %+v", r.router.closes)
		}
	})
}

// TestStopGivesBack has many mappings end just before the end: all are given back at once.
func TestStopGivesBack(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		const count = 500
		for port := range uint16(count) {
			r.Update([]portmap.Change{{After: mapping(3000 + port)}})
		}
		r.wait(time.Minute)
		r.router.with(func() { r.router.delay = time.Second })
		r.router.counts()
		for port := range uint16(count) {
			r.Update([]portmap.Change{{Before: mapping(3000 + port)}})
		}
		began := time.Now()
		r.stop()
		closed := make(map[uint16]bool)
		for _, a := range r.router.closes {
			closed[a.port] = true
		}
		if d := time.Since(began); d > 2*time.Second || len(closed) != count {
			t.Errorf("%d of %d given back in %v", len(closed), count, d)
		}
	})
}

// TestGiveBack gives everything back that nobody takes over, also what has been asked for
// without an answer, once Run has ended.
func TestGiveBack(t *testing.T) {
	New(Options{}).GiveBack() // that has not run
	for _, gone := range []bool{false, true} {
		inRig(t, func(t *testing.T, r *rig) {
			for port := range uint16(100) {
				r.change(nil, mapping(3001+port))
			}
			r.wait(time.Minute)
			r.router.with(func() { r.router.delay, r.router.gone = 10*time.Millisecond, gone })
			r.change(nil, mapping(4000))
			r.stop()
			began := time.Now()
			r.GiveBack()
			if d := time.Since(began); d > 2*time.Second {
				t.Errorf("it took %v", d)
			}
			if _, closes, _ := r.router.counts(); !gone && closes != 101 {
				t.Errorf("%d closes", closes)
			}
		})
	}
}

// TestGiveBackIsNotTriedTwice has a router that does not answer at the end: with something to
// give back in any case, and the rest then, it takes no longer.
func TestGiveBackIsNotTriedTwice(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		r.router.grant = func(_ ask, g *grant) error { g.lifetime = 0; return nil }
		r.change(nil, mapping(3001))
		r.router.with(func() { r.router.gone = true })
		began := time.Now()
		r.stop()
		r.GiveBack()
		if d := time.Since(began); d > endTime {
			t.Errorf("it took %v", d)
		}
	})
}

// TestPaceOfRequests asks for 1,000 mappings at once, for another one meanwhile, and gives them back.
func TestPaceOfRequests(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		r.router.delay = 100 * time.Millisecond
		var changes []portmap.Change
		for port := range uint16(1000) {
			changes = append(changes, portmap.Change{After: mapping(2000 + port)})
		}
		r.Update(changes)
		r.wait(10 * time.Second)
		if opens, _, _ := r.router.counts(); opens < 200 || opens > burst+10*rate+1 {
			t.Errorf("%d requests in ten seconds", opens)
		}
		r.wait(time.Minute)
		for _, c := range changes {
			r.expect(t, c.After, portmap.Reachable, "")
		}
		if r.router.most > maxAsking+1 { // and a check
			t.Errorf("%d requests at a time", r.router.most)
		}
	})
}

// TestNewMappingGoesFirst has a new mapping while a thousand are asked for anew.
func TestNewMappingGoesFirst(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		for port := range uint16(1000) {
			r.Update([]portmap.Change{{After: mapping(2000 + port)}})
		}
		r.wait(2 * time.Minute)
		r.router.with(func() { r.router.reset = time.Now() })
		r.wait(time.Minute)
		m := mapping(9000)
		r.change(nil, m)
		r.wait(200 * time.Millisecond)
		r.expect(t, m, portmap.Reachable, "203.0.113.7:9000")
	})
}

// mappingOf returns a mapping of a host.
func mappingOf(host netip.Addr, port uint16) *portmap.Mapping {
	m := mapping(port)
	m.Internal = netip.AddrPortFrom(host, port)
	return m
}

// TestHostsTakeTurns has a host with 500 new mappings, and another one with a single one.
func TestHostsTakeTurns(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		greedy, modest := netip.MustParseAddr("192.168.1.2"), netip.MustParseAddr("192.168.1.3")
		for port := range uint16(500) {
			r.Update([]portmap.Change{{After: mappingOf(greedy, 3000+port)}})
		}
		r.wait(5 * time.Second)
		m := mappingOf(modest, 9000)
		r.change(nil, m)
		r.wait(2 * time.Second / rate)
		r.expect(t, m, portmap.Reachable, "")
	})
}

// TestTurns has three hosts, of which one no longer waits when its turn comes.
func TestTurns(t *testing.T) {
	var waiting turns
	var wants []*want
	for port, host := range []byte{2, 2, 2, 3, 4} {
		w := newWant(mappingOf(netip.AddrFrom4([4]byte{192, 168, 1, host}), uint16(port)), nil)
		waiting.add(w)
		wants = append(wants, w)
	}
	wants[3].withdraw()
	var got []byte
	for !waiting.isEmpty() {
		got = append(got, waiting.next().host.As4()[3])
	}
	if want := []byte{2, 4, 2, 2}; !slices.Equal(got, want) || waiting.next() != nil || len(waiting.hosts) != 0 {
		t.Errorf("%v, want %v; %d hosts are left", got, want, len(waiting.hosts))
	}
}

// TestLeaseIsRenewedBesideNewMappings has new mappings all the time, more than the router
// may be asked for.
func TestLeaseIsRenewedBesideNewMappings(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		r.router.grant = func(a ask, g *grant) error {
			if a.port == 1 {
				g.lifetime = time.Minute
			}
			return nil
		}
		m := mapping(1)
		r.change(nil, m)
		for n := range uint16(120 * 40) {
			r.change(nil, mapping(1000+n))
			r.wait(25 * time.Millisecond)
		}
		if left := time.Until(r.of(m).Expires); left < 0 {
			t.Errorf("the lease ended %v ago", -left)
		}
	})
}

// TestShortLivedMappings has more new mappings all the time than the router may be asked
// for, each for a second: what it has granted is given back as fast.
func TestShortLivedMappings(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		for n := range uint16(120 * 40) {
			r.change(nil, mapping(1000+n))
			if n >= 40 {
				r.change(mapping(1000+n-40), nil)
			}
			r.wait(25 * time.Millisecond)
		}
		if opens, closes, _ := r.router.counts(); opens-closes > burst+40 {
			t.Errorf("%d opens, %d closes", opens, closes)
		}
	})
}

// TestLyingRouter has one that gives another port, address and epoch each time: it is
// asked at a bounded rate, and the address that is announced changes rarely.
func TestLyingRouter(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		n := uint32(0)
		r.router.grant = func(_ ask, g *grant) error {
			n += 7919
			r.router.external = netip.AddrFrom4([4]byte{198, 51, 100, byte(n)})
			g.external = netip.AddrPortFrom(r.router.external, uint16(n)|1)
			g.epoch.seconds = n * 77777
			g.lifetime = pcpForever / time.Duration(n%3+1)
			return nil
		}
		for port := range uint16(100) {
			r.change(nil, mapping(2000+port))
		}
		r.wait(24 * time.Hour)
		opens, _, _ := r.router.counts()
		if opens > 100*(24*2+10)+100 {
			t.Errorf("%d requests for 100 mappings in a day", opens)
		}
		if len(r.seen) > 40 {
			t.Errorf("%d addresses seen in a day", len(r.seen))
		}
	})
}
