package upstream

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"igdd/pkg/pcp"
	"igdd/pkg/portmap"
)

// TestRestartedRouter has a router that loses what it forwards.
func TestRestartedRouter(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		a, b := mapping(3001), mapping(3002)
		r.change(nil, a)
		r.change(nil, b)
		r.router.counts()
		r.router.with(func() {
			r.router.reset = time.Now()
			r.router.grant = func(a ask, g *grant) error {
				if a.port == 3002 {
					return &routerError{cause: denied, reason: "no more"}
				}
				return nil
			}
		})
		r.wait(checkInterval)
		if opens, _, _ := r.router.counts(); opens != 2 {
			t.Errorf("%d requests, want both", opens)
		}
		r.expect(t, a, portmap.Reachable, "203.0.113.7:3001")
		r.expect(t, b, portmap.Unreachable, "")
	})
}

// TestRenewalByAClient has a client renew every second: the router is checked as often as
// that is allowed, and a restart is noticed sooner.
func TestRenewalByAClient(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		m := mapping(3001)
		r.change(nil, m)
		r.wait(renewalPause)
		r.router.counts()
		r.router.with(func() { r.router.reset = time.Now() })
		r.change(m, mapping(3001))
		if opens, _, checks := r.router.counts(); opens != 1 || checks != 1 {
			t.Errorf("%d opens, %d checks", opens, checks)
		}
		for range 10 * time.Minute / time.Second {
			r.change(m, mapping(3001))
			r.wait(time.Second)
		}
		if opens, _, checks := r.router.counts(); opens != 0 || checks < 39 || checks > 41 {
			t.Errorf("%d opens, %d checks in ten minutes", opens, checks)
		}
		r.wait(renewalPause)
		r.router.counts()
		r.Update([]portmap.Change{{Before: m, After: m, Cause: portmap.Rechecked}})
		r.wait(checkInterval - renewalPause - time.Second)
		if _, _, checks := r.router.counts(); checks != 0 {
			t.Errorf("%d checks without a client", checks)
		}
	})
}

// TestAnnouncement has a router that says something.
func TestAnnouncement(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		heard := <-r.said
		r.wait(time.Hour)
		r.router.counts()
		for range 1000 {
			signal(heard)
			r.wait(time.Millisecond)
		}
		r.wait(checkPause)
		if _, _, checks := r.router.counts(); checks < 1 || checks > 2 {
			t.Errorf("%d checks for a thousand announcements in a second", checks)
		}
	})
}

func TestRenumberedRouter(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		m := mapping(3001)
		r.change(nil, m)
		other := netip.MustParseAddr("198.51.100.9")
		r.router.with(func() { r.router.external = other })
		r.wait(checkInterval)
		r.expect(t, m, portmap.Reachable, "198.51.100.9:3001")
		if !slices.Equal(r.seen, []netip.Addr{outer, other}) {
			t.Errorf("seen %v", r.seen)
		}
	})
}

// TestAddressByGrants has a PCP server that tells its address with forwardings alone, some
// of them at another one (a pool), and that is renumbered.
func TestAddressByGrants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.router.secret = true
		r.router.grant = func(a ask, g *grant) error {
			if a.port == 3002 {
				g.external = netip.MustParseAddrPort("203.0.113.8:3002")
			}
			return nil
		}
		r.SetGateway(uplink)
		a, b := mapping(3001), mapping(3002)
		r.change(nil, a)
		r.change(nil, b)
		r.expect(t, b, portmap.Reachable, "203.0.113.8:3002")
		other := netip.MustParseAddr("198.51.100.9")
		r.router.with(func() { r.router.external = other })
		r.wait(time.Hour)
		r.expect(t, a, portmap.Reachable, "198.51.100.9:3001")
		if !slices.Equal(r.seen, []netip.Addr{outer, other}) {
			t.Errorf("seen %v", r.seen)
		}
	})
}

// TestAddressByGrantsLater has a PCP server that tells its address by NAT-PMP at first, then
// with forwardings alone, and that is renumbered.
func TestAddressByGrantsLater(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		m := mapping(3001)
		r.change(nil, m)
		other := netip.MustParseAddr("198.51.100.9")
		r.router.with(func() { r.router.secret, r.router.external = true, other })
		r.wait(time.Hour)
		r.expect(t, m, portmap.Reachable, "198.51.100.9:3001")
		if !slices.Equal(r.seen, []netip.Addr{outer, other}) {
			t.Errorf("seen %v", r.seen)
		}
	})
}

// TestRouterWithoutAddress has one that cannot tell its address, and then can.
func TestRouterWithoutAddress(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		r.router.with(func() {
			r.router.external = netip.Addr{}
			r.router.grant = func(_ ask, g *grant) error {
				g.external = netip.AddrPortFrom(netip.Addr{}, g.external.Port())
				return nil
			}
		})
		r.SetGateway(Gateway{})
		synctest.Wait()
		r.SetGateway(uplink)
		m := mapping(3001)
		r.change(nil, m)
		r.expect(t, m, portmap.Unreachable, "")
		r.router.with(func() { r.router.external = outer })
		r.wait(checkInterval)
		r.expect(t, m, portmap.Reachable, "203.0.113.7:3001")
	})
}

// TestRouterGoesAndComesBack for five minutes.
func TestRouterGoesAndComesBack(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		m, n := mapping(3001), mapping(3002)
		r.change(nil, m)
		r.router.with(func() { r.router.gone = true })
		r.wait(2 * time.Minute)
		r.expect(t, m, portmap.Unreachable, "")
		if st := r.Status(); st.Err == nil || st.Method != 0 {
			t.Errorf("status %+v", st)
		}
		r.change(nil, n)
		r.expect(t, n, portmap.Unreachable, "")
		r.router.counts()
		r.wait(3 * time.Minute)
		if opens, _, checks := r.router.counts(); opens != 0 || checks < 2 || checks > 6 {
			t.Errorf("%d requests, %d checks", opens, checks)
		}
		r.router.with(func() { r.router.gone = false })
		r.wait(maxBackoff + maxBackoff/10)
		r.expect(t, m, portmap.Reachable, "203.0.113.7:3001")
		r.expect(t, n, portmap.Reachable, "203.0.113.7:3002")
		if st := r.Status(); st.Err != nil || st.Method != PCP {
			t.Errorf("status %+v", st)
		}
	})
}

// TestClosedWhileGone has a mapping end while the router does not answer: it is given back
// when the router answers again, unless its lease has ended by then.
func TestClosedWhileGone(t *testing.T) {
	for gone, want := range map[time.Duration]int{5 * time.Minute: 1, 2 * time.Hour: 0} {
		inRig(t, func(t *testing.T, r *rig) {
			m, n := mapping(3001), mapping(3002)
			r.change(nil, m)
			r.router.with(func() { r.router.gone = true })
			r.wait(2 * time.Minute)
			r.change(m, nil)
			r.change(nil, n)
			r.change(n, nil)
			r.wait(gone)
			r.router.counts()
			r.router.with(func() { r.router.gone = false })
			r.wait(maxBackoff + maxBackoff/10)
			if opens, closes, checks := r.router.counts(); opens != 0 || closes != want || checks > want {
				t.Errorf("gone for %v: %d opens, %d closes, %d checks", gone, opens, closes, checks)
			}
		})
	}
}

// TestClosedInAnOutage has mappings end while the router does not answer, one of them with
// its first request not answered either: both are given back, however short the outage.
func TestClosedInAnOutage(t *testing.T) {
	for _, gone := range []time.Duration{20 * time.Second, 75 * time.Second, 10 * time.Minute} {
		t.Run(gone.String(), func(t *testing.T) {
			inRig(t, func(t *testing.T, r *rig) {
				m, n := mapping(3001), mapping(3002)
				r.change(nil, m)
				r.change(nil, mapping(3003))
				r.router.with(func() { r.router.gone = true })
				r.change(nil, n)
				r.change(m, nil)
				r.change(n, nil)
				r.wait(gone)
				r.router.counts()
				r.router.with(func() { r.router.gone = false })
				r.wait(maxBackoff + maxBackoff/10)
				ports := make(map[uint16]bool)
				r.router.with(func() {
					for _, a := range r.router.closes {
						ports[a.port] = true
					}
				})
				if len(ports) != 2 || !ports[3001] || !ports[3002] {
					t.Errorf("given back: %v", ports)
				}
				r.router.counts()
				r.wait(24 * time.Hour)
				if _, closes, _ := r.router.counts(); closes != 0 {
					t.Errorf("%d more closes", closes)
				}
			})
		})
	}
}

// TestClosesAreIgnored has a router that does not answer what gives a forwarding back: it
// is asked now and then until the lease has ended.
func TestClosesAreIgnored(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		m := mapping(3001)
		r.change(nil, m)
		r.change(nil, mapping(3002))
		r.router.with(func() { r.router.deaf = true })
		r.change(m, nil)
		r.wait(3 * time.Hour)
		if _, closes, _ := r.router.counts(); closes < 3 || closes > 20 {
			t.Errorf("%d closes", closes)
		}
		r.wait(24 * time.Hour)
		if _, closes, _ := r.router.counts(); closes != 0 {
			t.Errorf("%d more closes", closes)
		}
	})
}

// TestRefusesWhatItHas has a router that refuses for a while to renew what it has: that is
// renewed later, and given back if the mapping ends meanwhile.
func TestRefusesWhatItHas(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		m, ending := mapping(3001), mapping(3002)
		m.Claims = []portmap.Claim{{Origin: portmap.PCP, Nonce: portmap.Nonce{1}}}
		r.change(nil, m)
		r.change(nil, ending)
		r.router.with(func() {
			r.router.reset = time.Now()
			r.router.grant = refusePCP(pcp.NotAuthorized, func(ask) bool { return true })
		})
		r.wait(checkInterval)
		r.expect(t, m, portmap.Unreachable, "")
		r.router.counts()
		r.change(ending, nil)
		r.router.with(func() {
			if len(r.router.closes) != 1 || r.router.closes[0].port != 3002 {
				t.Errorf("closed %+v", r.router.closes)
			}
			r.router.grant = refusePCP(pcp.NotAuthorized, func(a ask) bool { return a.nonce != portmap.Nonce{1} })
		})
		r.wait(10 * time.Minute)
		r.expect(t, m, portmap.Reachable, "203.0.113.7:3001")
	})
}

// fatal is the port that makes the router hang in the tests of that.
const fatal = 3000

// inHanging runs a test with a router that hangs when it is asked for one of 40 ports, and
// that is restarted whenever it does.
func inHanging(t *testing.T, test func(*testing.T, *rig)) {
	inRig(t, func(t *testing.T, r *rig) {
		r.router.delay = 50 * time.Millisecond
		r.router.fatal = fatal
		var changes []portmap.Change
		for port := range uint16(40) {
			changes = append(changes, portmap.Change{After: mapping(fatal - 3 + port)})
		}
		r.Update(changes)
		for range 20 {
			r.wait(3 * time.Minute)
			r.restart()
		}
		test(t, r)
	})
}

// restart makes the router answer again, as a new one does.
func (r *rig) restart() {
	r.router.with(func() {
		if r.router.gone {
			r.router.gone, r.router.reset = false, time.Now()
		}
	})
}

// timesAsked returns how often the router was asked for a port since the last counts.
func (r *fakeRouter) timesAsked(port uint16) (n int) {
	r.with(func() {
		for _, a := range r.opens {
			if a.port == port {
				n++
			}
		}
	})
	return n
}

// TestFatalPort is asked for twice, and then not before a day has passed, even if a client
// asks again. All others are forwarded.
func TestFatalPort(t *testing.T) {
	inHanging(t, func(t *testing.T, r *rig) {
		if n := r.router.timesAsked(fatal); n != 2 {
			t.Errorf("asked %d times", n)
		}
		for port := range uint16(40) {
			if m := mapping(fatal - 3 + port); m.External != fatal {
				r.expect(t, m, portmap.Reachable, "")
			}
		}
		r.expectFatal(t)
		r.change(mapping(fatal), nil)
		again := mapping(fatal)
		again.Serial++
		r.change(nil, again)
		r.wait(time.Hour)
		r.expectFatal(t)
		if n := r.router.timesAsked(fatal); n != 2 {
			t.Errorf("asked %d times", n)
		}
		r.router.with(func() { r.router.fatal = 0 })
		r.wait(24 * time.Hour)
		r.expect(t, again, portmap.Reachable, "203.0.113.7:3000")
	})
}

// expectFatal fails unless the last report on the fatal port says what is the matter.
func (r *rig) expectFatal(t *testing.T) {
	t.Helper()
	if got := r.of(mapping(fatal)); got.State != portmap.Unreachable || !strings.Contains(got.Reason, "falls silent when asked for this port") {
		t.Errorf("%v", got.Forwarding)
	}
}

// TestFatalPortOfAnotherGateway is asked for again.
func TestFatalPortOfAnotherGateway(t *testing.T) {
	inHanging(t, func(t *testing.T, r *rig) {
		r.router.with(func() { r.router.fatal = 0 })
		r.SetGateway(Gateway{Address: netip.MustParseAddr("10.1.0.1"), Local: netip.MustParseAddr("10.1.0.2"), Device: "wan2"})
		r.wait(time.Minute)
		r.expect(t, mapping(fatal), portmap.Reachable, "203.0.113.7:3000")
	})
}

// TestOutagesWhileAsked has a router go whenever it is asked, for other reasons: no port is
// set aside if it has been granted between.
func TestOutagesWhileAsked(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		m := mapping(3001)
		for range 5 {
			r.router.with(func() { r.router.gone = true })
			r.change(nil, m)
			r.wait(2 * time.Minute)
			r.restart()
			r.wait(2 * time.Minute)
			r.expect(t, m, portmap.Reachable, "")
			r.change(m, nil)
			r.wait(time.Minute)
		}
	})
}

// TestStatusComesFirst has a router with many forwardings go: when the table hears of the
// first, the status says already that nothing is forwarded.
func TestStatusComesFirst(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		const count = 2000
		for port := range uint16(count) {
			r.Update([]portmap.Change{{After: mapping(3001 + port)}})
		}
		r.wait(10 * time.Minute)
		r.expect(t, mapping(3000+count), portmap.Reachable, "")
		r.router.with(func() { r.router.gone = true })
		r.wait(2 * time.Minute)
		r.expect(t, mapping(3001), portmap.Unreachable, "")
		r.expect(t, mapping(3000+count), portmap.Unreachable, "")
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.early != 0 {
			t.Errorf("%d reports come before the status", r.early)
		}
	})
}

// TestRouterThatIgnoresMappings answers when it is checked, and nothing else: it is not
// looked for anew all the time.
func TestRouterThatIgnoresMappings(t *testing.T) {
	for _, c := range []cause{silent, foreign} {
		inRig(t, func(t *testing.T, r *rig) {
			r.router.grant = refuse(c)
			for port := range uint16(100) {
				r.change(nil, mapping(3000+port))
			}
			r.wait(time.Hour)
			r.expect(t, mapping(3001), portmap.Unreachable, "")
			if opens, _, checks := r.router.counts(); opens > 15*100 || checks > 1000 {
				t.Errorf("%d requests and %d checks in an hour", opens, checks)
			}
			if st := r.Status(); st.Method != PCP {
				t.Errorf("status %+v", st)
			}
		})
	}
}

// TestGatewayBecomesAClient of this router.
func TestGatewayBecomesAClient(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		m := mapping(3001)
		r.change(nil, m)
		r.setOwn(uplink.Address)
		r.wait(checkInterval)
		r.expect(t, m, portmap.Unreachable, "")
		r.router.counts()
		r.wait(time.Hour)
		if opens, _, checks := r.router.counts(); opens+checks != 0 {
			t.Errorf("%d requests, %d checks", opens, checks)
		}
	})
}

// TestAnnouncementOfARestart has a router that was gone, and announces itself between two
// searches for it, or during one that it does not answer any more.
func TestAnnouncementOfARestart(t *testing.T) {
	for name, searches := range map[string]int{"between searches": 0, "during a search": 1} {
		t.Run(name, func(t *testing.T) { announceRestart(t, searches) })
	}
}

// announceRestart has the router announce itself while there are so many searches.
func announceRestart(t *testing.T, searches int) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.router.gone = true
		r.SetGateway(uplink)
		heard := <-r.said
		m := mapping(3001)
		r.change(nil, m)
		r.wait(time.Hour)
		for r.router.searching() != searches {
			r.wait(time.Second)
		}
		r.expect(t, m, portmap.Unreachable, "")
		r.router.with(func() { r.router.gone = false })
		signal(heard)
		r.wait(checkPause + 6*time.Second)
		r.expect(t, m, portmap.Reachable, "203.0.113.7:3001")
	})
}

// TestShortSilence has a router that is restarted while it is asked.
func TestShortSilence(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		r.router.with(func() { r.router.gone = true })
		m := mapping(3001)
		r.change(nil, m)
		r.router.with(func() { r.router.gone = false })
		r.wait(6 * time.Second)
		r.expect(t, m, portmap.Reachable, "203.0.113.7:3001")
	})
}

// TestDeadRouter has none that ever answers.
func TestDeadRouter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.router.gone = true
		r.SetGateway(uplink)
		r.wait(time.Minute)
		if _, _, checks := r.router.counts(); checks != 1 {
			t.Errorf("%d checks without a mapping", checks)
		}
		m := mapping(3001)
		r.change(nil, m)
		r.wait(6 * time.Second)
		r.expect(t, m, portmap.Unreachable, "")
		r.wait(time.Hour)
		if _, _, checks := r.router.counts(); checks < 50 || checks > 70 {
			t.Errorf("%d checks in an hour", checks)
		}
	})
}

// TestReasonOfDiscovery is the same in whatever order the answers come.
func TestReasonOfDiscovery(t *testing.T) {
	pcp := discovery{method: PCP, err: &routerError{reason: "no answer"}}
	natpmp := discovery{method: NATPMP, err: &routerError{reason: "no answer"}}
	igd := discovery{method: IGD, err: &routerError{reason: "no device"}}
	for _, order := range [][]discovery{{pcp, natpmp, igd}, {igd, natpmp, pcp}} {
		found := make(chan discovery, 3)
		for _, d := range order {
			found <- d
		}
		if d := choose([]Method{PCP, NATPMP, IGD}, found); d.err == nil || d.err.Error() != "no answer; no device" {
			t.Error(d.err)
		}
	}
}

// TestOtherGateway has the uplink move to another router, and go.
func TestOtherGateway(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		m := mapping(3001)
		r.change(nil, m)
		r.router.counts()
		r.SetGateway(uplink)
		synctest.Wait()
		if opens, _, checks := r.router.counts(); opens+checks != 0 {
			t.Errorf("the same gateway: %d opens, %d checks", opens, checks)
		}
		r.router.with(func() { r.router.external = netip.MustParseAddr("198.51.100.9") })
		r.SetGateway(Gateway{Address: netip.MustParseAddr("10.1.0.1"), Local: netip.MustParseAddr("10.1.0.2"), Device: "wan2"})
		synctest.Wait()
		r.expect(t, m, portmap.Reachable, "198.51.100.9:3001")
		told := r.told
		r.SetGateway(Gateway{})
		r.wait(24 * time.Hour)
		if opens, _, _ := r.router.counts(); opens != 1 || r.told != told || r.Status() != (Status{}) {
			t.Errorf("%d opens, %d more reports, status %+v", opens, r.told-told, r.Status())
		}
		if want := []netip.Addr{outer, {}, netip.MustParseAddr("198.51.100.9"), {}}; !slices.Equal(r.seen, want) {
			t.Errorf("seen %v, want %v", r.seen, want)
		}
	})
}

// TestDiscovery has routers that speak some of the protocols.
func TestDiscovery(t *testing.T) {
	all := []Method{PCP, NATPMP, IGD}
	const never = -1
	for name, c := range map[string]struct {
		after [4]time.Duration // of an answer, by method
		want  Method
		took  time.Duration
	}{
		"the preferred":           {[4]time.Duration{PCP: 0, NATPMP: 0, IGD: 0}, PCP, 0},
		"the preferred is slower": {[4]time.Duration{PCP: 500 * time.Millisecond, NATPMP: 0, IGD: 0}, PCP, 500 * time.Millisecond},
		"too slow":                {[4]time.Duration{PCP: 3 * time.Second, NATPMP: 2 * time.Second, IGD: 0}, IGD, time.Second},
		"the second":              {[4]time.Duration{PCP: never, NATPMP: 0, IGD: 500 * time.Millisecond}, NATPMP, 0},
		"none":                    {[4]time.Duration{PCP: never, NATPMP: never, IGD: never}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				connect := connector(func(_ context.Context, m Method, _ Gateway) (router, error) {
					if c.after[m] == never {
						return nil, &routerError{cause: foreign, reason: "not spoken"}
					}
					return &fakeRouter{delay: c.after[m]}, nil
				})
				began := time.Now()
				d := connect.discover(t.Context(), all, uplink)
				if d.method != c.want || (d.err == nil) != (c.want != 0) || time.Since(began) != c.took {
					t.Errorf("%v, %v after %v", d.method, d.err, time.Since(began))
				}
			})
		})
	}
}
