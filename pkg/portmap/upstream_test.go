package portmap_test

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"igdd/pkg/portmap"
	"igdd/pkg/portmap/portmaptest"
)

var (
	uplink = netip.MustParseAddr("10.0.0.2")
	outer  = netip.MustParseAddr("64.1.2.3")
)

// upstreamRig is a table behind a router in front.
type upstreamRig struct {
	*tableRig
	upstream *portmaptest.Upstream
}

// newUpstreamRig starts a table behind a router that answers as answer says; nil: not at
// all.
func newUpstreamRig(t testing.TB, answer func(*portmap.Mapping) (portmap.Report, bool)) *upstreamRig {
	return newUpstreamRigWith(t, answer, &portmaptest.Firewall{}, &portmaptest.Store{})
}

func newUpstreamRigWith(t testing.TB, answer func(*portmap.Mapping) (portmap.Report, bool), firewall *portmaptest.Firewall, store *portmaptest.Store) *upstreamRig {
	network := portmap.NetworkState{External: outer, LANs: []netip.Prefix{gateway, gateway6}, Upstream: true, Uplink: uplink}
	u := &upstreamRig{upstream: &portmaptest.Upstream{Answer: answer}}
	u.upstream.Report = func(ctx context.Context, reports []portmap.Report) error { return u.Report(ctx, reports) }
	u.tableRig = startTableRigBehind(t, u.upstream, portmap.Policy{Secure: true, MaxLifetime: 24 * time.Hour}, network, firewall, store)
	return u
}

// forwards returns an answer of a router that forwards a port for a lease; 0: for ever.
func forwards(m *portmap.Mapping, port uint16, lease time.Duration) portmap.Report {
	r := portmap.Report{Key: m.Key, Forwarding: portmap.Forwarding{State: portmap.Reachable, External: netip.AddrPortFrom(outer, port)}}
	if lease > 0 {
		r.Expires = time.Now().Add(lease)
	}
	return r
}

// samePort is a router in front that forwards the same ports for an hour.
func samePort(m *portmap.Mapping) (portmap.Report, bool) {
	return forwards(m, m.External, time.Hour), true
}

// nextPort is one that forwards the next port instead, for a minute.
func nextPort(m *portmap.Mapping) (portmap.Report, bool) {
	return forwards(m, m.External+1, time.Minute), true
}

// denies is one that denies everything.
func denies(m *portmap.Mapping) (portmap.Report, bool) {
	return portmap.Report{Key: m.Key, Forwarding: portmap.Forwarding{State: portmap.Unreachable, Reason: "denied"}}, true
}

// byUPnP returns an AddPortMapping for a port.
func byUPnP(c netip.Addr, port uint16) portmap.Request {
	r := open(c, port, 0)
	r.Origin, r.Exact = portmap.UPnP, true
	return r
}

// closing returns a DeletePortMapping for a port.
func closing(c netip.Addr, port uint16) portmap.Request {
	return portmap.Request{Op: portmap.Close, Origin: portmap.UPnP, Client: c, Protocol: portmap.UDP, External: port}
}

// checkTold checks the endpoint and lease that a client was told.
func (u *upstreamRig) checkTold(t *testing.T, a portmap.Answer, endpoint string, lease time.Duration) {
	t.Helper()
	if got := u.OuterEndpoint(a.Mapping); got != netip.MustParseAddrPort(endpoint) || a.Lifetime != lease {
		t.Errorf("told %v for %v, want %v for %v", got, a.Lifetime, endpoint, lease)
	}
}

func TestClientsAreToldTheOutermostPort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstreamRig(t, nextPort)
		began := time.Now()
		a := u.grant(t, open(client(0), 40000, time.Hour))
		u.checkTold(t, a, "64.1.2.3:40001", time.Minute)
		if time.Since(began) != 0 {
			t.Errorf("waited for %v", time.Since(began))
		}
		if a.Mapping.External != 40000 || a.Mapping.Remaining(time.Now()) != time.Hour {
			t.Errorf("the mapping is %v for %v", a.Mapping, a.Mapping.Remaining(time.Now()))
		}
		u.checkAgreement(t, 1)

		time.Sleep(20 * time.Second) // the router in front has not renewed yet
		u.checkTold(t, u.grant(t, open(client(0), 40000, time.Hour)), "64.1.2.3:40001", 40*time.Second)
		u.Report(context.Background(), []portmap.Report{forwards(a.Mapping, 40001, time.Minute)})
		u.checkTold(t, u.grant(t, open(client(0), 40000, time.Hour)), "64.1.2.3:40001", time.Minute)
		if u.resets != 1 {
			t.Errorf("%d resets, want that of the start", u.resets)
		}
	})
}

func TestAnswerDoesNotWaitForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstreamRig(t, nil)
		began := time.Now()
		a := u.grant(t, open(client(0), 40000, time.Hour))
		if waited := time.Since(began); waited != 250*time.Millisecond {
			t.Errorf("waited for %v", waited)
		}
		u.checkTold(t, a, "10.0.0.2:40000", 2*time.Minute)
		u.checkTold(t, u.grant(t, open(client(0), 40000, time.Hour)), "10.0.0.2:40000", 2*time.Minute)
		if waited := time.Since(began); waited != 250*time.Millisecond {
			t.Errorf("the first renewal ended after %v", waited)
		}

		u.Report(context.Background(), []portmap.Report{forwards(a.Mapping, 40007, time.Hour)})
		if u.resets != 2 {
			t.Errorf("%d resets, want that of the start and one for the NAT-PMP client, which must ask again", u.resets)
		}
		began = time.Now()
		u.checkTold(t, u.grant(t, open(client(0), 40000, time.Hour)), "64.1.2.3:40007", time.Hour)
		if time.Since(began) != 0 {
			t.Errorf("the renewal waited for %v", time.Since(began))
		}
	})
}

func TestDeniedPortStandsLocally(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstreamRig(t, denies)
		for _, req := range []portmap.Request{open(client(0), 40000, time.Hour), open(client(0), 40000, time.Hour)} {
			a := u.grant(t, req)
			u.checkTold(t, a, "10.0.0.2:40000", 2*time.Minute)
			if want := (portmap.Forwarding{State: portmap.Unreachable, Reason: "denied"}); a.Mapping.Forwarding != want {
				t.Errorf("the forwarding is %v", a.Mapping.Forwarding)
			}
		}
		a := u.grant(t, byUPnP(client(1), 50000))
		u.checkTold(t, a, "10.0.0.2:50000", 0)
		u.checkAgreement(t, 2)
		u.network.Uplink = netip.Addr{}
		if err := u.SetNetworkState(t.Context(), u.network); err != nil {
			t.Fatal(err)
		}
		u.checkTold(t, a, "64.1.2.3:50000", 0) // the only address that clients are told
	})
}

// TestExactPort asks for ports of which the router in front forwards another one: who is
// told no has nothing.
func TestExactPort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstreamRig(t, nextPort)
		exact := byUPnP(client(0), 40000)
		if a, _ := u.Do(context.Background(), exact); a.Refusal != portmap.NotForwarded {
			t.Errorf("another port: %v", a.Refusal)
		}
		u.checkAgreement(t, 0)
		if n, _ := u.upstream.Wanted(portmap.Key{}); n != 0 {
			t.Errorf("the router in front is asked for %d ports", n)
		}
		any := exact
		any.Exact = false
		u.checkTold(t, u.grant(t, any), "64.1.2.3:40001", 0)
		exact.External = 40001
		u.checkTold(t, u.grant(t, exact), "64.1.2.3:40001", 0)
		exact.External = 40000
		if a, _ := u.Do(context.Background(), exact); a.Refusal != portmap.NotForwarded {
			t.Errorf("the local port: %v", a.Refusal)
		}
		u.checkAgreement(t, 1)
		for _, refused := range []portmap.Request{byUPnP(client(1), 40001), byUPnP(client(1), 40000)} {
			if a, _ := u.Do(context.Background(), refused); a.Refusal != portmap.Conflict {
				t.Errorf("port %d of another host: %v", refused.External, a.Refusal)
			}
		}
		if a, _ := u.Do(context.Background(), closing(client(0), 40000)); a.Refusal != portmap.NotFound {
			t.Errorf("delete of the local port: %v", a.Refusal)
		}
		if a, _ := u.Do(context.Background(), closing(client(0), 40001)); a.Closed != 1 {
			t.Errorf("delete of the outer port: %v", a.Refusal)
		}
		u.checkAgreement(t, 0)
	})
}

// TestExactPortHeardLate learns of another port after the client was told its own: the
// renewal is refused, and with it the mapping ends.
func TestExactPortHeardLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstreamRig(t, nil)
		a := u.grant(t, byUPnP(client(0), 40000))
		u.Report(context.Background(), []portmap.Report{forwards(a.Mapping, 40001, 0)})
		if a, _ := u.Do(context.Background(), byUPnP(client(0), 40000)); a.Refusal != portmap.NotForwarded {
			t.Errorf("renewal: %v", a.Refusal)
		}
		u.checkAgreement(t, 0)
	})
}

// TestExactPortMoves has the router in front forward another port than the client insists
// on, which it was told before: the client can still delete its mapping, and to renew it
// is refused. When the port is there again all is well.
func TestExactPortMoves(t *testing.T) {
	for what, end := range map[string]portmap.Request{"renewal": byUPnP(client(0), 40000), "deletion": closing(client(0), 40000)} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := newUpstreamRig(t, samePort)
				m := u.grant(t, byUPnP(client(0), 40000)).Mapping
				for _, port := range []uint16{40001, 40000, 40001} {
					u.Report(context.Background(), []portmap.Report{forwards(m, port, time.Hour)})
					now, found := u.LookupOuter(portmap.UDP, 40000)
					if !found || (now.Forwarding.State == portmap.Reachable) != (port == 40000) {
						t.Fatalf("with port %d: %v, %v", port, now, now.Forwarding)
					}
				}
				want := map[portmap.Op]portmap.Refusal{portmap.Open: portmap.NotForwarded, portmap.Close: portmap.Granted}[end.Op]
				if a, _ := u.Do(context.Background(), end); a.Refusal != want {
					t.Errorf("%v, want %v", a.Refusal, want)
				}
				u.checkAgreement(t, 0)
			})
		})
	}
}

// TestRangeOfOuterPorts deletes mappings by the ports that their client was told.
func TestRangeOfOuterPorts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstreamRig(t, func(m *portmap.Mapping) (portmap.Report, bool) { return forwards(m, m.External+1000, 0), true })
		for _, port := range []uint16{40000, 40500, 43000} {
			r := byUPnP(client(0), port)
			r.Exact = false
			u.grant(t, r)
		}
		if m, ok := u.LookupOuter(portmap.UDP, 41000); !ok || m.External != 40000 {
			t.Errorf("port 41000 is %v", m)
		}
		if m, ok := u.LookupOuter(portmap.UDP, 40000); ok {
			t.Errorf("port 40000 is %v", m)
		}
		r := closing(client(0), 41000)
		r.Last = 41600
		if a := u.grant(t, r); a.Closed != 2 {
			t.Errorf("closed %d", a.Closed)
		}
		if list := u.List(); len(list) != 1 || list[0].OuterPort() != 44000 {
			t.Errorf("left: %v", list)
		}
	})
}

// TestWantedUpstream compares what the router in front is asked for with what exists.
func TestWantedUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstreamRig(t, samePort)
		u.grant(t, open(client(0), 40000, time.Hour))
		disabled := byUPnP(client(0), 40001)
		disabled.Disabled = true
		u.grant(t, disabled)
		peer := open(client(0), 40002, time.Hour)
		peer.Origin, peer.Remote = portmap.PCP, netip.MustParseAddrPort("64.9.9.9:1000")
		u.grant(t, peer)
		pinhole := open(netip.MustParseAddr("2001:db8:50::10"), 40003, time.Hour)
		pinhole.Origin = portmap.PCP
		u.checkTold(t, u.grant(t, pinhole), "[2001:db8:50::10]:40003", time.Hour)

		if n, m := u.upstream.Wanted(portmap.Key{Protocol: portmap.UDP, External: 40000}); n != 1 || m == nil {
			t.Fatalf("%d ports are asked for", n)
		}
		enabled := byUPnP(client(0), 40001)
		u.grant(t, enabled)
		if n, _ := u.upstream.Wanted(portmap.Key{}); n != 2 {
			t.Errorf("%d ports are asked for after one was enabled", n)
		}
		time.Sleep(61 * time.Minute)
		u.await()
		if n, _ := u.upstream.Wanted(portmap.Key{}); n != 1 {
			t.Errorf("%d ports are asked for after a lease has ended", n)
		}
	})
}

// TestUpstreamComesAndGoes switches the router in front on and off.
func TestUpstreamComesAndGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstreamRig(t, nextPort)
		u.grant(t, open(client(0), 40000, time.Hour))
		own := netip.MustParseAddr("64.7.7.7")
		for _, step := range []struct {
			network portmap.NetworkState
			state   portmap.ForwardingState
			want    netip.AddrPort
		}{
			{portmap.NetworkState{External: own}, portmap.NotAsked, netip.AddrPortFrom(own, 40000)},
			{portmap.NetworkState{External: own, Upstream: true, Uplink: uplink}, portmap.Asking, netip.AddrPortFrom(uplink, 40000)},
		} {
			step.network.LANs = []netip.Prefix{gateway}
			if err := u.SetNetworkState(context.Background(), step.network); err != nil {
				t.Fatal(err)
			}
			if m := u.List()[0]; m.Forwarding.State != step.state || u.OuterEndpoint(m) != step.want {
				t.Errorf("%v, clients are told %v, want %v", m.Forwarding, u.OuterEndpoint(m), step.want)
			}
		}
	})
}

// TestReportsOfOtherMappings are ignored, and those for a port that changed hands count
// for its new mapping: the router in front forwards it to this router all the same.
func TestReportsOfOtherMappings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstreamRig(t, nil)
		unknown := &portmap.Mapping{Key: portmap.Key{Protocol: portmap.TCP, External: 40000}}
		if err := u.Report(context.Background(), []portmap.Report{forwards(unknown, 40000, 0)}); err != nil {
			t.Fatal(err)
		}
		a := u.grant(t, open(client(0), 40000, time.Hour))
		u.checkTold(t, a, "10.0.0.2:40000", 2*time.Minute)
	})
}

// TestParkedAnswersAreGiven stops a table while answers wait for the router in front, and
// ends the mapping of one.
func TestParkedAnswersAreGiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstreamRig(t, nil)
		var answers []portmap.Refusal
		take := func(a portmap.Answer) { answers = append(answers, a.Refusal) }
		u.Submit(open(client(0), 40000, time.Hour), take)
		u.Submit(open(client(1), 40001, time.Hour), take)
		gone := open(client(0), 40000, 0)
		gone.Op, gone.External = portmap.Close, 0
		u.Submit(gone, take)
		synctest.Wait()
		u.stop()
		if !slices.Equal(answers, []portmap.Refusal{portmap.Granted, portmap.Granted, portmap.Granted}) {
			t.Errorf("answers: %v", answers)
		}
		u.checkAgreement(t, 1)
	})
}

// TestOthersDoNotWait asks as another client while an answer waits for the router in front.
func TestOthersDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstreamRig(t, func(m *portmap.Mapping) (portmap.Report, bool) {
			return forwards(m, m.External, 0), m.External != 40000
		})
		began := time.Now()
		var slow time.Duration
		u.Submit(open(client(0), 40000, time.Hour), func(portmap.Answer) { slow = time.Since(began) })
		u.checkTold(t, u.grant(t, open(client(1), 40001, time.Hour)), "64.1.2.3:40001", time.Hour)
		if waited := time.Since(began); waited != 0 {
			t.Errorf("another client waited for %v", waited)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if slow != 250*time.Millisecond {
			t.Errorf("the first client waited for %v", slow)
		}
	})
}

// TestMovedHostKeepsItsOutermostPort has a host ask from another address for the port that
// it was told.
func TestMovedHostKeepsItsOutermostPort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstreamRig(t, func(m *portmap.Mapping) (portmap.Report, bool) { return forwards(m, 41000, time.Hour), true })
		first, again := open(client(0), 40000, time.Hour), open(client(1), 40000, time.Hour)
		first.Host.Hardware, again.Host.Hardware, again.External = "02:00:00:00:00:10", "02:00:00:00:00:10", 41000
		u.grant(t, first)
		former, found := u.Former(&again)
		if !found || former != client(0) {
			t.Errorf("the former address is %v", former)
		}
		again.Former = former
		u.checkTold(t, u.grant(t, again), "64.1.2.3:41000", time.Hour)
		u.checkAgreement(t, 1)
	})
}

// TestLapsedForwarding has a client join a mapping whose forwarding the router in front has
// not renewed in time: it is not forwarded any more.
func TestLapsedForwarding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstreamRig(t, func(m *portmap.Mapping) (portmap.Report, bool) { return forwards(m, m.External, time.Minute), true })
		u.grant(t, byUPnP(client(0), 40000))
		time.Sleep(time.Minute)
		u.checkTold(t, u.grant(t, open(client(0), 40000, time.Hour)), "64.1.2.3:40000", 2*time.Minute)
	})
}

// submit queues requests whose answers wait for the router in front, and returns where
// these will be.
func (u *upstreamRig) submit(requests ...portmap.Request) []*portmap.Answer {
	var answers []*portmap.Answer
	for _, req := range requests {
		a := &portmap.Answer{Refusal: portmap.Stopping}
		u.Submit(req, func(got portmap.Answer) { *a = got })
		answers = append(answers, a)
	}
	synctest.Wait()
	return answers
}

// TestWhoeverHasNothingIsToldNo has requests wait for a router in front that forwards
// another port, for a mapping that ends with the answer to the first of them, or before.
func TestWhoeverHasNothingIsToldNo(t *testing.T) {
	exact, moved := byUPnP(client(0), 40000), byUPnP(client(0), 40000)
	moved.Internal = netip.AddrPortFrom(client(0), 50000)
	any, movedAny := exact, moved
	any.Exact, movedAny.Exact = false, false
	for name, tt := range map[string]struct {
		requests []portmap.Request
		want     []portmap.Refusal
		left     int
	}{
		"repeated":           {[]portmap.Request{exact, exact}, []portmap.Refusal{portmap.NotForwarded, portmap.NotForwarded}, 0},
		"then for any port":  {[]portmap.Request{exact, any}, []portmap.Refusal{portmap.NotForwarded, portmap.NotForwarded}, 0},
		"for another target": {[]portmap.Request{exact, closing(client(0), 40000), moved}, []portmap.Refusal{portmap.NotForwarded, portmap.Granted, portmap.NotForwarded}, 0},
		"for any port then":  {[]portmap.Request{exact, closing(client(0), 40000), movedAny}, []portmap.Refusal{portmap.NotForwarded, portmap.Granted, portmap.Granted}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := newUpstreamRig(t, nil)
				answers := u.submit(tt.requests...)
				if err := u.Report(t.Context(), []portmap.Report{forwards(u.List()[0], 40001, 0)}); err != nil {
					t.Fatal(err)
				}
				for i, want := range tt.want {
					if answers[i].Refusal != want {
						t.Errorf("the answer to request %d is %v, want %v", i, answers[i].Refusal, want)
					}
				}
				u.checkAgreement(t, tt.left)
			})
		})
	}
}

// TestEpochRestartsForWhoWasTold has a PCP client join the mapping of a NAT-PMP client that
// was told its port already.
func TestEpochRestartsForWhoWasTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstreamRig(t, nil)
		a := u.grant(t, open(client(0), 40000, time.Hour))
		join := open(client(0), 40000, time.Hour)
		join.Origin = portmap.PCP
		u.submit(join)
		u.Report(t.Context(), []portmap.Report{forwards(a.Mapping, 40001, 0)})
		if u.resets != 2 {
			t.Errorf("%d resets, want that of the start and another one", u.resets)
		}
	})
}

// TestReachableWithItsLease demands one change of a mapping whose client waits for the
// router in front: nobody sees it reachable for less than its lease.
func TestReachableWithItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstreamRig(t, samePort)
		u.grant(t, open(client(0), 40000, time.Hour))
		if n := len(u.changes); n != 2 {
			t.Fatalf("%d changes, want the mapping and its forwarding", n)
		}
		if m := u.changes[1].After; m.Forwarding.State != portmap.Reachable || m.Remaining(time.Now()) != time.Hour {
			t.Errorf("%v for %v", m.Forwarding, m.Remaining(time.Now()))
		}
	})
}

// TestEpochRestartsSeldom has a router in front that forwards another port all the time.
func TestEpochRestartsSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstreamRig(t, samePort)
		a := u.grant(t, open(client(0), 40000, time.Hour))
		for i := range uint16(290) {
			u.Report(t.Context(), []portmap.Report{forwards(a.Mapping, 40001+i, time.Hour)})
			time.Sleep(time.Second)
		}
		if u.resets != 1+5 {
			t.Errorf("%d resets in less than five minutes, want that of the start and one a minute", u.resets)
		}
		u.await()
		time.Sleep(time.Hour)
		u.await()
		if u.resets != 1+6 {
			t.Errorf("%d resets, want one more for the last port", u.resets)
		}
	})
}

// TestRestoredExactPort has a UPnP client renew, after two restarts, a port in place of
// which the router in front forwards another one by then.
func TestRestoredExactPort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(portmaptest.Store)
		without := newTableRig(t, new(portmaptest.Firewall), store)
		without.grant(t, byUPnP(client(0), 40000))
		without.stop()
		before := newUpstreamRigWith(t, nil, new(portmaptest.Firewall), store)
		before.Report(t.Context(), []portmap.Report{forwards(before.List()[0], 40000, 0)})
		before.stop()
		u := newUpstreamRigWith(t, nil, new(portmaptest.Firewall), store)
		m := u.List()[0]
		if want := (portmap.Forwarding{State: portmap.Asking, Exact: true}); m.Forwarding != want {
			t.Errorf("after a restart: %+v", m.Forwarding)
		}
		u.Report(t.Context(), []portmap.Report{forwards(m, 40001, 0)})
		if a, _ := u.Do(t.Context(), byUPnP(client(0), 40000)); a.Refusal != portmap.NotForwarded {
			t.Errorf("renewal: %v", a.Refusal)
		}
		u.checkAgreement(t, 0)
	})
}
