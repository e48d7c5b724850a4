package portmap_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"igdd/pkg/portmap"
	"igdd/pkg/portmap/portmaptest"
)

// client6 is the IPv6 address of a client.
func client6(n int) netip.Addr {
	return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0, 0x50, 15: byte(10 + n)})
}

// heldRig is a tableRig whose kernel is busy with a request of client 9.
type heldRig struct {
	*tableRig
	hold    chan struct{}
	blocked chan portmap.Answer
}

// newHeldRig grants client 0 port 40000, then keeps the kernel busy. It must
// run in a synctest bubble.
func newHeldRig(t *testing.T) *heldRig {
	h := &heldRig{hold: make(chan struct{}), blocked: make(chan portmap.Answer, 1)}
	f := &portmaptest.Firewall{}
	h.tableRig = newTableRig(t, f, &portmaptest.Store{})
	h.grant(t, open(client(0), 40000, time.Hour))
	f.Hold = h.hold
	h.Submit(open(client(9), 49000, time.Hour), func(a portmap.Answer) { h.blocked <- a })
	synctest.Wait()
	return h
}

func TestDecisionsWithoutKernelDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeldRig(t)
		h.grant(t, open(client(0), 40000, 2*time.Hour))
		if m, _ := h.Lookup(portmap.Key{Protocol: portmap.UDP, External: 40000}); m.Remaining(time.Now()) != 2*time.Hour {
			t.Errorf("the renewed lease lasts %v", m.Remaining(time.Now()))
		}
		other := open(client(1), 40000, time.Hour)
		other.Exact = true
		if a, err := h.Do(context.Background(), other); err != nil || a.Refusal != portmap.Conflict {
			t.Errorf("another host's port: %v, %v", a.Refusal, err)
		}
		gone := open(client(1), 41000, 0)
		gone.Op, gone.External = portmap.Close, 0
		if a, err := h.Do(context.Background(), gone); err != nil || a.Closed != 0 {
			t.Errorf("closing nothing: %+v, %v", a, err)
		}
		if e, err := h.Explain(context.Background(), open(client(2), 40001, time.Hour)); err != nil || e.Refusal != portmap.Granted {
			t.Errorf("explained %v, %v", e.Refusal, err)
		}
		close(h.hold)
		if a := <-h.blocked; a.Refusal != portmap.Granted {
			t.Error(a.Refusal)
		}
		h.checkAgreement(t, 2)
		h.stop()
	})
}

func TestWithdrawnRequestOpensNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeldRig(t)
		ctx, cancel := context.WithTimeout(context.Background(), 25*time.Second)
		defer cancel()
		if a, err := h.Do(ctx, open(client(1), 41000, 0)); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a request that waits for the kernel: %v, %v", a.Refusal, err)
		}
		close(h.hold)
		<-h.blocked
		synctest.Wait()
		h.checkAgreement(t, 2) // those of clients 0 and 9
		h.stop()
	})
}

func TestLateWithdrawalReturnsTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &portmaptest.Firewall{Hold: make(chan struct{})}
		r := newTableRig(t, f, &portmaptest.Store{})
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		time.AfterFunc(time.Minute, func() { close(f.Hold) })
		a, err := r.Do(ctx, open(client(0), 40000, time.Hour))
		if err != nil || a.Refusal != portmap.Granted || ctx.Err() == nil {
			t.Errorf("a request in the kernel's hands: %v, %v", a.Refusal, err)
		}
		r.checkAgreement(t, 1)
		r.stop()
	})
}

func TestRequestsOfOneClientKeepTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeldRig(t)
		gone := open(client(0), 40000, 0)
		gone.Op, gone.External = portmap.Close, 0
		var order []portmap.Op
		note := func(op portmap.Op) func(portmap.Answer) { return func(portmap.Answer) { order = append(order, op) } }
		h.Submit(gone, note(portmap.Close))
		h.Submit(open(client(0), 40000, time.Hour), note(portmap.Open)) // a renewal if decided first
		synctest.Wait()
		if len(order) != 0 {
			t.Fatalf("answered %v while the kernel is busy", order)
		}
		close(h.hold)
		<-h.blocked
		synctest.Wait()
		if !slices.Equal(order, []portmap.Op{portmap.Close, portmap.Open}) {
			t.Errorf("answered %v", order)
		}
		h.checkAgreement(t, 2)
		h.stop()
	})
}

func TestStopDoesNotWaitForTheKernel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeldRig(t)
		waiting := make(chan portmap.Answer, 1)
		h.Submit(open(client(1), 41000, time.Hour), func(a portmap.Answer) { waiting <- a })
		failed := make(chan error, 1)
		go func() {
			_, err := h.Withdraw(context.Background(), func(*portmap.Mapping) bool { return true })
			failed <- err
		}()
		synctest.Wait()
		h.stop() // returns although the kernel is still held
		if a := <-waiting; a.Refusal != portmap.Stopping {
			t.Errorf("a waiting request is answered %v", a.Refusal)
		}
		if a := <-h.blocked; a.Refusal == portmap.Granted {
			t.Error("granted, though the kernel has not carried it out")
		}
		if err := <-failed; err == nil {
			t.Error("Withdraw returns no error, though it was not carried out")
		}
		if _, err := h.Do(context.Background(), open(client(2), 42000, time.Hour)); err == nil {
			t.Error("a table that has stopped answers")
		}
		if stored := h.store.Saved(); len(stored) != 1 {
			t.Errorf("%d mappings are saved, want 1", len(stored))
		}
	})
}

func TestSettingsWaitForWhatIsUndecided(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeldRig(t)
		strict := portmap.Policy{Secure: true, Rules: []portmap.Rule{{External: portmap.Ports{{First: 49000, Last: 49000}}, Network: client(0), Internal: portmap.Ports{{Last: 65535}}}}}
		ended := make(chan error, 1)
		go func() { ended <- h.SetPolicy(context.Background(), &strict) }()
		synctest.Wait()
		h.grant(t, open(client(0), 40000, 2*time.Hour)) // is not delayed
		close(h.hold)
		if a := <-h.blocked; a.Refusal != portmap.Granted {
			t.Error(a.Refusal)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		h.checkAgreement(t, 1) // the new rules forbid the other mapping, which was granted before
		h.stop()
	})
}

// TestRenewalOfWhatIsAboutToChange renews a mapping whose nonce is being
// unbound while the kernel is busy with another change: neither change undoes
// the other.
func TestRenewalOfWhatIsAboutToChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &portmaptest.Firewall{}
		r := newTableRig(t, f, &portmaptest.Store{})
		bound := open(client(0), 40000, time.Hour)
		bound.Origin, bound.Nonce = portmap.PCP, portmap.Nonce{1}
		r.grant(t, bound)
		r.grant(t, open(client(9), 49000, time.Hour))
		f.Hold = make(chan struct{})
		go r.Withdraw(context.Background(), func(m *portmap.Mapping) bool { return m.Internal.Addr() == client(9) })
		synctest.Wait()
		go r.SetNetworkState(context.Background(), portmap.NetworkState{External: wan.Next(), LANs: []netip.Prefix{gateway}})
		synctest.Wait()
		bound.Lifetime = 2 * time.Hour
		renewed := make(chan portmap.Answer, 1)
		r.Submit(bound, func(a portmap.Answer) { renewed <- a })
		synctest.Wait()
		close(f.Hold)
		if a := <-renewed; a.Refusal != portmap.Granted || a.Lifetime != 2*time.Hour {
			t.Errorf("the renewal is answered %v, %v", a.Refusal, a.Lifetime)
		}
		synctest.Wait()
		if left := r.List()[0].Remaining(time.Now()); left != 2*time.Hour {
			t.Errorf("the renewed lease lasts %v", left)
		}
		r.checkAgreement(t, 1)
		r.stop()
	})
}

// openPinhole is a PCP request for a pinhole.
func openPinhole(n int, port uint16) portmap.Request {
	r := open(client6(n), port, time.Hour)
	r.Origin = portmap.PCP
	return r
}

func TestFailingFamilyDoesNotAffectTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := true
		f := &portmaptest.Firewall{Refuse: func(c portmap.Change) bool {
			return down && (c.After != nil && c.After.Family() == portmap.IPv6 || c.Before != nil && c.Before.Family() == portmap.IPv6)
		}}
		r := newTableRig(t, f, &portmaptest.Store{})
		for i := range 200 {
			if a, err := r.Do(context.Background(), openPinhole(i%5, 5000)); err != nil || a.Refusal != portmap.FirewallFailed {
				t.Fatalf("pinhole: %v, %v", a.Refusal, err)
			}
			r.grant(t, open(client(i%5), uint16(41000+i), time.Hour))
		}
		if n := r.firewall.Syncs(); n > 2 {
			t.Errorf("the IPv4 rules were resynced %d times", n)
		}
		if r.LastError(portmap.IPv4) != nil || r.LastError(portmap.IPv6) == nil {
			t.Errorf("last errors: %v, %v", r.LastError(portmap.IPv4), r.LastError(portmap.IPv6))
		}
		down = false
		time.Sleep(10 * time.Minute)
		r.grant(t, openPinhole(0, 5000))
		if r.LastError(portmap.IPv6) != nil {
			t.Error(r.LastError(portmap.IPv6))
		}
		r.checkAgreement(t, 201)
		r.stop()
	})
}

// TestRefusedDeletionOfSomeIsRefused has a client delete all its mappings, of which one is
// of another protocol, while the firewall refuses everything: it is told that nothing has
// been deleted, and not that this one remains.
func TestRefusedDeletionOfSomeIsRefused(t *testing.T) {
	f := new(portmaptest.Firewall)
	r := newTableRig(t, f, &portmaptest.Store{})
	own, other := open(client(0), 40000, time.Hour), open(client(0), 40001, time.Hour)
	own.Origin, other.Origin = portmap.NATPMP, portmap.UPnP
	r.grant(t, own)
	r.grant(t, other)
	all := portmap.Request{
		Op: portmap.Close, Origin: portmap.NATPMP, Client: client(0), Protocol: own.Protocol, Internal: netip.AddrPortFrom(client(0), 0),
	}
	for _, tt := range []struct {
		refuses bool
		want    portmap.Refusal
		left    int
	}{{true, portmap.FirewallFailed, 2}, {false, portmap.NotOwner, 1}} {
		f.Refuse = func(portmap.Change) bool { return tt.refuses }
		if a, err := r.Do(t.Context(), all); err != nil || a.Refusal != tt.want {
			t.Errorf("firewall refuses %v: %v, %v", tt.refuses, a.Refusal, err)
		}
		r.checkAgreement(t, tt.left)
	}
}

// TestLockedFirewallIsTriedOnce has a batch fail because another program has
// the firewall locked: its requests are not tried one by one.
func TestLockedFirewallIsTriedOnce(t *testing.T) {
	hold := make(chan struct{})
	f := &portmaptest.Firewall{Hold: hold}
	f.Locked.Store(true)
	r := newTableRig(t, f, &portmaptest.Store{})
	var answered sync.WaitGroup
	for i := range 100 {
		answered.Add(1)
		r.Submit(open(client(i), 40000, time.Hour), func(a portmap.Answer) {
			if a.Refusal != portmap.FirewallFailed {
				t.Error(a.Refusal)
			}
			answered.Done()
		})
	}
	close(hold)
	answered.Wait()
	if n, syncs := f.Batches(), f.Syncs(); n > 3 || syncs > 1 {
		t.Errorf("%d batches, %d resyncs", n, syncs)
	}
	r.checkAgreement(t, 0)
}

// TestRepetitionsAreRefusedTogether has a client repeat its request while the
// firewall is locked: after the first refusal no repetition opens the port.
func TestRepetitionsAreRefusedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &portmaptest.Firewall{Hold: make(chan struct{})}
		f.Locked.Store(true)
		r := newTableRig(t, f, &portmaptest.Store{})
		var got []portmap.Refusal
		answer := func(a portmap.Answer) { got = append(got, a.Refusal) }
		for range 5 {
			r.Submit(open(client(0), 40000, time.Hour), answer)
			time.Sleep(250 * time.Millisecond)
		}
		another := open(client(0), 41000, time.Hour)
		r.Submit(another, func(portmap.Answer) {})
		synctest.Wait()
		f.Hold <- struct{}{} // the first batch is refused, then the lock is free
		synctest.Wait()
		f.Locked.Store(false)
		close(f.Hold)
		synctest.Wait()
		if want := slices.Repeat([]portmap.Refusal{portmap.FirewallFailed}, 5); !slices.Equal(got, want) {
			t.Errorf("answered %v, want %v", got, want)
		}
		if m, ok := r.Lookup(portmap.Key{Protocol: portmap.UDP, External: 40000}); ok {
			t.Errorf("refused and open: %+v", m)
		}
		r.checkAgreement(t, 1) // the client's other request
		r.stop()
	})
}

// TestPinholesByIDKeepTheirOrder deletes a pinhole by its UniqueID and asks for
// it again while the kernel is busy.
func TestPinholesByIDKeepTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &portmaptest.Firewall{}
		r := newTableRig(t, f, &portmaptest.Store{})
		hole := open(client6(0), 5000, time.Hour)
		hole.Origin = portmap.UPnP
		a := r.grant(t, hole)
		f.Hold = make(chan struct{})
		r.Submit(openPinhole(1, 5000), func(portmap.Answer) {})
		synctest.Wait()
		gone := portmap.Request{Op: portmap.Close, Origin: portmap.UPnP, Client: client6(0), ID: a.ID}
		for _, req := range []portmap.Request{gone, hole} {
			r.Submit(req, func(portmap.Answer) {})
		}
		synctest.Wait()
		close(f.Hold)
		synctest.Wait()
		r.checkAgreement(t, 2)
		r.stop()
	})
}

func TestRenewalIsAcceptedDuringFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeldRig(t)
		for i := range 2000 {
			h.Submit(open(client(10+i%8), uint16(1024+i), time.Hour), func(portmap.Answer) {})
		}
		renewed := make(chan portmap.Answer, 1)
		if !h.Submit(open(client(0), 40000, 2*time.Hour), func(a portmap.Answer) { renewed <- a }) {
			t.Fatal("a renewal is rejected")
		}
		if a := <-renewed; a.Refusal != portmap.Granted {
			t.Error(a.Refusal)
		}
		h.stop()
	})
}

func TestRenewalsPassWhileTheKernelFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := false
		r := newTableRig(t, refusingFirewall(&down), &portmaptest.Store{})
		r.grant(t, open(client(0), 40000, time.Hour))
		off := open(client(1), 41000, time.Hour)
		off.Origin, off.Disabled = portmap.UPnP, true
		r.grant(t, off)
		down = true
		r.grant(t, open(client(0), 40000, 2*time.Hour))
		gone := off
		gone.Op = portmap.Close
		if a := r.grant(t, gone); a.Closed != 1 {
			t.Errorf("closed %d", a.Closed)
		}
		r.checkAgreement(t, 1)
		r.stop()
	})
}

func TestPinholesWithoutAFirewallWaitForOne(t *testing.T) {
	store := &portmaptest.Store{}
	r := newTableRig(t, &portmaptest.Firewall{}, store)
	r.grant(t, openPinhole(0, 5000))
	r.grant(t, open(client(0), 40000, time.Hour))
	r.stop()

	without := portmap.NetworkState{External: wan, LANs: []netip.Prefix{gateway, gateway6}, NoIPv6: true}
	f := &portmaptest.Firewall{Refuse: func(c portmap.Change) bool {
		return c.After != nil && c.After.Family() == portmap.IPv6 && !c.After.Dormant
	}}
	r = newTableRigIn(t, without, f, store)
	hole := portmap.Key{Protocol: portmap.UDP, Pinhole: netip.AddrPortFrom(client6(0), 5000)}
	if m, ok := r.Lookup(hole); !ok || !m.Dormant {
		t.Fatalf("the saved pinhole is %+v", m)
	}
	r.grant(t, open(client(1), 41000, time.Hour))
	r.grant(t, openPinhole(0, 5000)) // renews the dormant one
	if m, _ := r.Lookup(hole); !m.Dormant {
		t.Error("a renewal has opened it")
	}
	if a, err := r.Do(context.Background(), openPinhole(1, 5000)); err != nil || a.Refusal != portmap.NoFirewall {
		t.Errorf("a new pinhole: %v, %v", a.Refusal, err)
	}
	r.stop()

	r = newTableRig(t, &portmaptest.Firewall{}, store)
	if m, ok := r.Lookup(hole); !ok || m.Dormant {
		t.Errorf("with IPv6 again the pinhole is %+v", m)
	}
	r.checkAgreement(t, 3)
}

func TestAlters(t *testing.T) {
	to := netip.AddrPortFrom(client(0), 80)
	peer := netip.MustParseAddrPort("9.9.9.9:443")
	m := &portmap.Mapping{Key: portmap.Key{Protocol: portmap.TCP, External: 4000}, Internal: to, Claims: []portmap.Claim{{Origin: portmap.PCP}}}
	as := func(change func(*portmap.Mapping)) *portmap.Mapping {
		n := *m
		n.Claims = slices.Clone(m.Claims)
		change(&n)
		return &n
	}
	renewed := as(func(m *portmap.Mapping) { m.Claims[0].Expires = time.Now() })
	dormant := as(func(m *portmap.Mapping) { m.Dormant = true })
	disabled := as(func(m *portmap.Mapping) { m.Claims[0].Disabled = true })
	filtered := as(func(m *portmap.Mapping) {
		m.Claims[0].Filters = []portmap.Filter{{Prefix: netip.MustParsePrefix("9.9.9.9/32")}}
	})
	moved := as(func(m *portmap.Mapping) { m.Internal = netip.AddrPortFrom(client(1), 80) })
	joined := as(func(m *portmap.Mapping) { m.Claims = append(m.Claims, portmap.Claim{Origin: portmap.UPnP}) })
	flow := as(func(m *portmap.Mapping) { m.Claims[0].Remote = peer })
	for _, c := range []struct {
		name          string
		before, after *portmap.Mapping
		want          bool
	}{
		{"new", nil, m, true},
		{"gone", m, nil, true},
		{"renewed", m, renewed, false},
		{"claimed by another protocol", m, joined, false},
		{"becomes dormant", m, dormant, true},
		{"in force again", dormant, m, true},
		{"new and dormant", nil, dormant, false},
		{"dormant and gone", dormant, nil, false},
		{"disabled", m, disabled, true},
		{"disabled and gone", disabled, nil, false},
		{"filtered", m, filtered, true},
		{"moved", m, moved, true},
		{"outbound", nil, flow, true},
		{"outbound and gone", flow, nil, true},
		{"outbound becomes inbound", flow, m, true},
	} {
		if got := (portmap.Change{Before: c.before, After: c.after}).Alters(); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// TestHostWaitsForNoOthersQueue has one host ask for many ports while the kernel is
// busy, and another then for one: that is in the next transaction.
func TestHostWaitsForNoOthersQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeldRig(t)
		var order []string
		for port := uint16(41000); port < 41200; port++ {
			h.Submit(open(client(1), port, time.Hour), func(portmap.Answer) { order = append(order, "much") })
		}
		h.Submit(open(client(2), 42000, time.Hour), func(portmap.Answer) { order = append(order, "little") })
		synctest.Wait()
		close(h.hold)
		<-h.blocked
		synctest.Wait()
		if i := slices.Index(order, "little"); len(order) != 201 || i > 64 {
			t.Errorf("%d answers, the other host's after %d", len(order), i)
		}
		h.checkAgreement(t, 203)
		h.stop()
	})
}
