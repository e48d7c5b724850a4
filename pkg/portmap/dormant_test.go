package portmap_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"igdd/pkg/portmap"
	"igdd/pkg/portmap/portmaptest"
)

// The second LAN of the tests, and the network that is delegated to the first
// one beside its own (RFC 4193).
var (
	gateway2  = netip.MustParsePrefix("192.168.60.1/24")
	gatewayUL = netip.MustParsePrefix("fd00:db8:50::1/64")
)

// clientOf2 returns a client of the second LAN.
func clientOf2(n int) netip.Addr { return netip.AddrFrom4([4]byte{192, 168, 60, byte(10 + n)}) }

// having returns the state of a router with these LANs.
func having(lans ...netip.Prefix) portmap.NetworkState {
	return portmap.NetworkState{External: wan, LANs: lans}
}

// set gives the table a new network state.
func (r *tableRig) set(t testing.TB, s portmap.NetworkState) {
	t.Helper()
	if err := r.SetNetworkState(context.Background(), s); err != nil {
		t.Fatal(err)
	}
}

// demandState demands that the table has a mapping and why it is dormant;
// Granted: it is in force.
func (r *tableRig) demandState(t testing.TB, k portmap.Key, want portmap.Refusal) {
	t.Helper()
	m, ok := r.Lookup(k)
	if !ok {
		t.Fatalf("there is no mapping %v", k)
	}
	if m.Reason != want || m.Dormant != (want != portmap.Granted) {
		t.Fatalf("%v: dormant %v, %v, want %v", k, m.Dormant, m.Reason, want)
	}
}

// udp returns the key of a port mapping.
func udp(external uint16) portmap.Key {
	return portmap.Key{Protocol: portmap.UDP, External: external}
}

// pinhole6 returns the key of a pinhole.
func pinhole6(a netip.Addr, port uint16) portmap.Key {
	return portmap.Key{Protocol: portmap.UDP, Pinhole: netip.AddrPortFrom(a, port)}
}

// TestLANThatComesLate restarts while one of two LANs has no address yet.
func TestLANThatComesLate(t *testing.T) {
	store := &portmaptest.Store{}
	r := newTableRigIn(t, having(gateway, gateway2), &portmaptest.Firewall{}, store)
	r.grant(t, open(client(0), 40000, time.Hour))
	for i := range uint16(3) {
		r.grant(t, open(clientOf2(int(i)), 50000+i, time.Hour))
	}
	r.stop()

	r = newTableRigIn(t, having(gateway), &portmaptest.Firewall{}, store)
	r.demandState(t, udp(40000), portmap.Granted)
	r.demandState(t, udp(50000), portmap.NoNetwork)
	r.checkAgreement(t, 4)
	if n := len(r.firewall.Open()); n != 1 {
		t.Fatalf("the kernel has %d mappings without the LAN, want 1", n)
	}
	if a, err := r.Do(t.Context(), open(clientOf2(0), 50100, time.Hour)); err != nil || a.Refusal != portmap.BadTarget {
		t.Errorf("a new mapping without its LAN: %v, %v", a.Refusal, err)
	}
	resets, batches, epoch := r.resets, r.firewall.Batches(), r.Epoch()
	r.set(t, having(gateway, gateway2))
	for i := range uint16(3) {
		r.demandState(t, udp(50000+i), portmap.Granted)
	}
	r.checkAgreement(t, 4)
	if n := r.firewall.Batches() - batches; n != 1 || r.resets != resets || r.Epoch() < epoch {
		t.Errorf("the LAN came with %d transactions and %d new epochs, want 1 and 0", n, r.resets-resets)
	}
	if len(r.firewall.Open()) != 4 {
		t.Error("the kernel lacks mappings of the late LAN")
	}
}

// TestRestartLogsALinePerReason restarts with many mappings that are skipped
// and many that are dormant.
func TestRestartLogsALinePerReason(t *testing.T) {
	store := &portmaptest.Store{}
	r := newTableRigIn(t, having(gateway, gateway2), &portmaptest.Firewall{}, store)
	for i := range uint16(50) {
		r.grant(t, open(client(int(i)), 40000+i, time.Hour))
		r.grant(t, open(clientOf2(int(i)), 50000+i, time.Hour))
	}
	r.stop()
	s := having(gateway)
	s.Forwards = []portmap.Forward{{Protocol: portmap.UDP, External: portmap.PortRange{First: 40000, Last: 49999}}}
	r = newTableRigIn(t, s, &portmaptest.Firewall{}, store)
	r.checkAgreement(t, 50)
	if log := r.log.String(); log != "" {
		t.Errorf("the log says %q", log)
	}
	if n := len(r.skipped); n != 50 || r.skipped[0].Reason != portmap.Forwarded {
		t.Errorf("%d mappings are skipped: %+v", n, r.skipped)
	}
}

// TestDelegatedPrefixComesLate restarts with a local IPv6 network alone.
func TestDelegatedPrefixComesLate(t *testing.T) {
	store := &portmaptest.Store{}
	r := newTableRigIn(t, having(gateway, gatewayUL, gateway6), &portmaptest.Firewall{}, store)
	r.grant(t, openPinhole(0, 5000))
	r.stop()
	r = newTableRigIn(t, having(gateway, gatewayUL), &portmaptest.Firewall{}, store)
	r.demandState(t, pinhole6(client6(0), 5000), portmap.NoNetwork)
	r.set(t, having(gateway, gatewayUL, gateway6))
	r.demandState(t, pinhole6(client6(0), 5000), portmap.Granted)
	r.checkAgreement(t, 1)
	if len(r.firewall.Open()) != 1 {
		t.Error("the kernel lacks the pinhole")
	}
}

// TestLANThatGoesAndReturns takes a LAN's address away while its mappings are
// in force, as a DHCP client does when it renews.
func TestLANThatGoesAndReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTableRigIn(t, having(gateway, gateway2), &portmaptest.Firewall{}, &portmaptest.Store{})
		r.grant(t, open(client(0), 40000, time.Hour))
		bound := open(clientOf2(0), 50000, time.Hour)
		bound.Origin, bound.Nonce = portmap.PCP, portmap.Nonce{1}
		r.grant(t, bound)
		r.grant(t, open(clientOf2(1), 50001, time.Hour))
		time.Sleep(100 * time.Second)
		resets := r.resets
		for range 3 {
			before := r.firewall.Batches()
			r.set(t, having(gateway))
			r.demandState(t, udp(50000), portmap.NoNetwork)
			r.demandState(t, udp(50001), portmap.NoNetwork)
			r.checkAgreement(t, 3)
			if n := len(r.firewall.Open()); n != 1 {
				t.Fatalf("the kernel has %d mappings without the LAN, want 1", n)
			}
			r.set(t, having(gateway, gateway2))
			r.demandState(t, udp(50000), portmap.Granted)
			r.demandState(t, udp(50001), portmap.Granted)
			r.checkAgreement(t, 3)
			if n := r.firewall.Batches() - before; n != 2 {
				t.Errorf("going and returning took %d transactions, want 2", n)
			}
		}
		if e := r.Epoch(); e != 100 || r.resets != resets {
			t.Errorf("the epoch is %d, want 100", e)
		}
		bound.Nonce = portmap.Nonce{2}
		if a, err := r.Do(t.Context(), bound); err != nil || a.Refusal != portmap.NotOwner {
			t.Errorf("a renewal with another nonce: %v, %v", a.Refusal, err)
		}
		r.stop()
	})
}

// TestIPv6GoesAndReturns disables IPv6 while a pinhole is open.
func TestIPv6GoesAndReturns(t *testing.T) {
	r := newTableRig(t, &portmaptest.Firewall{}, &portmaptest.Store{})
	r.grant(t, openPinhole(0, 5000))
	r.grant(t, open(client(0), 40000, time.Hour))
	without := r.network
	without.NoIPv6 = true
	r.set(t, without)
	r.demandState(t, pinhole6(client6(0), 5000), portmap.NoFirewall)
	r.demandState(t, udp(40000), portmap.Granted)
	r.checkAgreement(t, 2)
	r.set(t, r.network)
	r.demandState(t, pinhole6(client6(0), 5000), portmap.Granted)
	r.checkAgreement(t, 2)
}

// TestForwardWinsOverDormantMapping has the administrator forward the port of a
// mapping whose LAN is not there.
func TestForwardWinsOverDormantMapping(t *testing.T) {
	forward := portmap.Forward{Protocol: portmap.UDP, External: portmap.PortRange{First: 50000, Last: 50000}}
	for _, together := range []bool{false, true} {
		store := &portmaptest.Store{}
		r := newTableRigIn(t, having(gateway, gateway2), &portmaptest.Firewall{}, store)
		r.grant(t, open(clientOf2(0), 50000, time.Hour))
		r.grant(t, open(clientOf2(1), 50001, time.Hour))
		r.set(t, having(gateway))
		if !together {
			s := having(gateway)
			s.Forwards = []portmap.Forward{forward}
			r.set(t, s)
		}
		s := having(gateway, gateway2)
		s.Forwards = []portmap.Forward{forward}
		r.set(t, s)
		if m, held := r.Lookup(udp(50000)); held {
			t.Errorf("the mapping of the forwarded port is %+v", m)
		}
		r.demandState(t, udp(50001), portmap.Granted)
		r.checkAgreement(t, 1)
		last := r.changes[len(r.changes)-1]
		for _, c := range r.changes {
			if c.After == nil {
				last = c
			}
		}
		if last.After != nil || last.Before.Key != udp(50000) || last.Cause != portmap.Rechecked || last.Reason != portmap.Forwarded {
			t.Errorf("the change does not say why it was closed: %+v", last)
		}
	}
}

// TestAddressOfTheRouterIsNoTarget gives the router the address of a mapping's
// host.
func TestAddressOfTheRouterIsNoTarget(t *testing.T) {
	r := newTableRig(t, &portmaptest.Firewall{}, &portmaptest.Store{})
	r.grant(t, open(client(0), 40000, time.Hour))
	s := r.network
	s.Own = []netip.Addr{client(0)}
	r.set(t, s)
	r.checkAgreement(t, 0)
}

// TestDormantMappingKeepsPortAndQuota asks for what a dormant mapping has.
func TestDormantMappingKeepsPortAndQuota(t *testing.T) {
	policy := portmap.Policy{Secure: true, MaxLifetime: time.Hour, MaxTotal: 2}
	r := startTableRig(t, policy, having(gateway, gateway2), &portmaptest.Firewall{}, &portmaptest.Store{})
	r.grant(t, open(clientOf2(0), 50000, time.Hour))
	r.set(t, having(gateway))
	r.demandState(t, udp(50000), portmap.NoNetwork)
	if a := r.grant(t, open(client(0), 50000, time.Hour)); a.Mapping.External == 50000 {
		t.Error("another client has the port of a dormant mapping")
	}
	if a, err := r.Do(t.Context(), open(client(0), 40000, time.Hour)); err != nil || a.Refusal != portmap.TableFull {
		t.Errorf("beyond the quota: %v, %v", a.Refusal, err)
	}
}

// TestDormantMappingNeedsNoKernel deletes a dormant mapping while the kernel is
// busy with another one of its family.
func TestDormantMappingNeedsNoKernel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{}, 2)
		r := newTableRigIn(t, having(gateway, gateway2), &portmaptest.Firewall{Hold: hold}, &portmaptest.Store{})
		hold <- struct{}{}
		r.grant(t, open(clientOf2(0), 50000, time.Hour))
		hold <- struct{}{}
		r.set(t, having(gateway))
		busy := make(chan portmap.Answer, 1)
		go func() { a, _ := r.Do(context.Background(), open(client(0), 40000, time.Hour)); busy <- a }()
		synctest.Wait()
		closing := open(clientOf2(0), 50000, 0)
		closing.Op, closing.External = portmap.Close, 0
		if a := r.grant(t, closing); a.Closed != 1 {
			t.Errorf("a delete closes %d", a.Closed)
		}
		select {
		case a := <-busy:
			t.Errorf("the kernel was not busy: %v", a.Refusal)
		default:
		}
		r.stop()
	})
}

// TestDormantMappingExpires lets the lease of a dormant mapping end.
func TestDormantMappingExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTableRigIn(t, having(gateway, gateway2), &portmaptest.Firewall{}, &portmaptest.Store{})
		r.grant(t, open(clientOf2(0), 50000, time.Minute))
		r.grant(t, open(clientOf2(1), 50001, time.Hour))
		r.set(t, having(gateway))
		batches := r.firewall.Batches()
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		if _, held := r.Lookup(udp(50000)); held {
			t.Error("a dormant mapping outlives its lease")
		}
		r.checkAgreement(t, 1)
		if n := r.firewall.Batches() - batches; n != 0 {
			t.Errorf("the end of a dormant mapping took %d transactions", n)
		}
		r.stop()
	})
}

// TestManyWakeInOneTransaction has more mappings wake than a batch has
// requests, and demands a line in the log for all of them.
func TestManyWakeInOneTransaction(t *testing.T) {
	const count = 700
	r := newTableRigIn(t, having(gateway, gateway2), &portmaptest.Firewall{}, &portmaptest.Store{})
	for i := range uint16(count) {
		r.grant(t, open(clientOf2(int(i%200)), 50000+i, time.Hour))
	}
	for _, s := range []portmap.NetworkState{having(gateway), having(gateway, gateway2)} {
		batches, syncs := r.firewall.Batches(), r.firewall.Syncs()
		r.set(t, s)
		if n := r.firewall.Batches() - batches; n != 1 || r.firewall.Syncs() != syncs {
			t.Errorf("LANs %v: %d transactions, %d resyncs, want 1 and 0", s.LANs, n, r.firewall.Syncs()-syncs)
		}
	}
	r.checkAgreement(t, count)
	if len(r.firewall.Open()) != count {
		t.Error("the kernel lacks mappings")
	}
	if n := strings.Count(r.log.String(), "\n"); n != 0 {
		t.Errorf("%d warnings:\n%v", n, r.log.String())
	}
}
