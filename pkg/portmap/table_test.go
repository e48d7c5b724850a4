package portmap_test

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"igdd/pkg/portmap"
	"igdd/pkg/portmap/portmaptest"
)

var (
	gateway  = netip.MustParsePrefix("192.168.50.1/24")
	gateway6 = netip.MustParsePrefix("2001:db8:50::1/64")
	wan      = netip.MustParseAddr("11.22.33.44")
)

// tableRig is a running table with an in-memory firewall, store and log.
type tableRig struct {
	*portmap.Table
	network  portmap.NetworkState // at first
	firewall *portmaptest.Firewall
	store    *portmaptest.Store
	log      logged // warnings and errors
	resets   int
	lost     []portmap.Loss
	decided  []portmap.Refusal
	waited   []time.Duration
	stop     func()
	changes  []portmap.Change
	skipped  []portmap.Loss
}

// answers returns the answers that the table has reported so far.
func (r *tableRig) answers() []portmap.Refusal {
	var answers []portmap.Refusal
	r.await()
	answers = append(answers, r.decided...)
	return answers
}

// await waits for what the table's goroutine is doing.
func (r *tableRig) await() {
	r.Withdraw(context.Background(), func(*portmap.Mapping) bool { return false })
}

// newTableRig starts a table and stops it when the test ends.
func newTableRig(t testing.TB, firewall *portmaptest.Firewall, store *portmaptest.Store) *tableRig {
	return newTableRigWith(t, portmap.Policy{Secure: true, MaxLifetime: 24 * time.Hour}, firewall, store)
}

// newTableRigWith is newTableRig with a policy.
func newTableRigWith(t testing.TB, policy portmap.Policy, firewall *portmaptest.Firewall, store *portmaptest.Store) *tableRig {
	return startTableRig(t, policy, portmap.NetworkState{External: wan, LANs: []netip.Prefix{gateway, gateway6}}, firewall, store)
}

// newTableRigIn is newTableRig with a network state.
func newTableRigIn(t testing.TB, network portmap.NetworkState, firewall *portmaptest.Firewall, store *portmaptest.Store) *tableRig {
	return startTableRig(t, portmap.Policy{Secure: true, MaxLifetime: 24 * time.Hour}, network, firewall, store)
}

func startTableRig(t testing.TB, policy portmap.Policy, network portmap.NetworkState, firewall *portmaptest.Firewall, store *portmaptest.Store) *tableRig {
	return startTableRigBehind(t, nil, policy, network, firewall, store)
}

// startTableRigBehind is startTableRig with a router in front.
func startTableRigBehind(t testing.TB, upstream portmap.Upstream, policy portmap.Policy, network portmap.NetworkState, firewall *portmaptest.Firewall, store *portmaptest.Store) *tableRig {
	r := &tableRig{firewall: firewall, store: store, network: network}
	r.Table = portmap.NewTable(portmap.Options{
		Policy:    &policy,
		Firewall:  firewall,
		Store:     store,
		Upstream:  upstream,
		Network:   network,
		Uptime:    uptime,
		Listening: func(portmap.Protocol, uint16) bool { return false },
		Committed: func(changes []portmap.Change, reset bool) {
			if reset {
				r.resets++
			}
			r.changes = append(r.changes, changes...)
		},
		Skipped: func(list []portmap.Loss) { r.skipped = append(r.skipped, list...) },
		Lost:    func(list []portmap.Loss) { r.lost = append(r.lost, list...) },
		Decided: func(_ portmap.Request, a portmap.Answer) { r.decided = append(r.decided, a.Refusal) },
		Waited:  func(d time.Duration) { r.waited = append(r.waited, d) },
		Log:     newLog(&r.log),
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	r.stop = func() { cancel(); <-done }
	t.Cleanup(r.stop)
	<-r.Started()
	return r
}

// uptime is the uptime of the tests' router.
func uptime() time.Duration { return time.Since(time.Unix(0, 0)) }

func client(n int) netip.Addr { return netip.AddrFrom4([4]byte{192, 168, 50, byte(10 + n)}) }

func open(c netip.Addr, port uint16, lifetime time.Duration) portmap.Request {
	return portmap.Request{
		Origin: portmap.NATPMP, Client: c, Protocol: portmap.UDP,
		Internal: netip.AddrPortFrom(c, port), External: port, Lifetime: lifetime,
	}
}

// grant sends a request that must be granted.
func (r *tableRig) grant(t testing.TB, req portmap.Request) portmap.Answer {
	t.Helper()
	a, err := r.Do(context.Background(), req)
	if err != nil || a.Refusal != portmap.Granted {
		t.Fatalf("request %+v: %v, %v", req, a.Refusal, err)
	}
	return a
}

// checkAgreement checks that table and store have the same mappings, as many as
// wanted, and the kernel those of them that have rules.
func (r *tableRig) checkAgreement(t testing.TB, want int) {
	t.Helper()
	table := r.List()
	stored := r.store.Saved()
	alike := func(a, b *portmap.Mapping) bool {
		return a.Key == b.Key && !portmap.Change{Before: a, After: b}.Alters()
	}
	without := func(m *portmap.Mapping) bool { return !portmap.Change{After: m}.Alters() }
	ruled := slices.DeleteFunc(slices.Clone(table), without)
	if kernel := r.firewall.Open(); len(table) != want || !slices.EqualFunc(ruled, kernel, alike) || !slices.Equal(table, stored) {
		t.Fatalf("table has %d, kernel %d, store %d mappings, want %d and all the same", len(table), len(kernel), len(stored), want)
	}
}

func TestKernelTableAndFileAgree(t *testing.T) {
	r := newTableRig(t, &portmaptest.Firewall{}, &portmaptest.Store{})
	for i := range 20 {
		r.grant(t, open(client(i), 40000, time.Hour))
	}
	r.checkAgreement(t, 20)
	gone := open(client(3), 40000, 0)
	gone.Op, gone.External = portmap.Close, 0
	if a := r.grant(t, gone); a.Closed != 1 {
		t.Fatalf("closed %d, want 1", a.Closed)
	}
	r.checkAgreement(t, 19)
}

func TestRequestsShareABatchWhileTheKernelWorks(t *testing.T) {
	hold := make(chan struct{})
	r := newTableRig(t, &portmaptest.Firewall{Hold: hold}, &portmaptest.Store{})
	var answered sync.WaitGroup
	for i := range 100 {
		answered.Add(1)
		if !r.Submit(open(client(i), 40000, time.Hour), func(a portmap.Answer) {
			if a.Refusal != portmap.Granted {
				t.Error(a.Refusal)
			}
			answered.Done()
		}) {
			t.Fatal("the queue is full")
		}
	}
	close(hold)
	answered.Wait()
	if n := r.firewall.Batches(); n > 2 {
		t.Errorf("100 requests made %d batches, want at most 2", n)
	}
	r.checkAgreement(t, 100)
}

func TestFloodDelaysItsOwnClientOnly(t *testing.T) {
	hold := make(chan struct{})
	r := newTableRig(t, &portmaptest.Firewall{Hold: hold}, &portmaptest.Store{})
	var answered sync.WaitGroup
	submit := func(c netip.Addr, port uint16) bool {
		answered.Add(1)
		if !r.Submit(open(c, port, time.Hour), func(portmap.Answer) { answered.Done() }) {
			answered.Done()
			return false
		}
		return true
	}
	taken := 0
	for i := range 5000 {
		if submit(client(0), uint16(1024+i)) {
			taken++
		}
	}
	if taken == 0 || taken > 300 {
		t.Errorf("%d requests of one client wait", taken)
	}
	if !submit(client(1), 1024) {
		t.Error("another client is rejected")
	}
	close(hold)
	answered.Wait()
	if !submit(client(0), 40000) {
		t.Error("the first client is still rejected")
	}
	answered.Wait()
	r.checkAgreement(t, taken+2)
}

func TestBadRequestIsRefusedAlone(t *testing.T) {
	hold := make(chan struct{})
	bad := client(5)
	r := newTableRig(t, &portmaptest.Firewall{Hold: hold, Refuse: func(c portmap.Change) bool {
		return c.After != nil && c.After.Internal.Addr() == bad
	}}, &portmaptest.Store{})
	refused := make(chan netip.Addr, 10)
	var answered sync.WaitGroup
	for i := range 10 {
		answered.Add(1)
		r.Submit(open(client(i), 40000, time.Hour), func(a portmap.Answer) {
			if a.Refusal == portmap.FirewallFailed {
				refused <- client(i)
			}
			answered.Done()
		})
	}
	close(hold)
	answered.Wait()
	if len(refused) != 1 || <-refused != bad {
		t.Errorf("refused %d clients, want the bad one alone", len(refused)+1)
	}
	r.checkAgreement(t, 9)
}

func TestFlushedRulesAreRestored(t *testing.T) {
	r := newTableRig(t, &portmaptest.Firewall{}, &portmaptest.Store{})
	r.grant(t, open(client(0), 40000, time.Hour))
	r.firewall.Flush()
	r.grant(t, open(client(1), 40001, time.Hour))
	r.checkAgreement(t, 2)
	r.firewall.Flush()
	r.firewall.Restore()
	r.checkAgreement(t, 2)
}

func TestFullDiskDoesNotStopTheTable(t *testing.T) {
	r := newTableRig(t, &portmaptest.Firewall{}, &portmaptest.Store{Full: true})
	for i := range 10 {
		r.grant(t, open(client(i), 40000, time.Hour))
	}
	if len(r.firewall.Open()) != 10 {
		t.Error("rules are missing")
	}
	if n := strings.Count(r.log.String(), "cannot save mappings"); n != 1 {
		t.Errorf("%d log lines of one failure", n)
	}
}

func TestLeasesEndOnTimeWithOneTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTableRig(t, &portmaptest.Firewall{}, &portmaptest.Store{})
		for i := range 60 {
			r.grant(t, open(client(i), 40000, time.Duration(i+1)*time.Minute))
		}
		r.grant(t, open(client(0), 40000, time.Hour)) // renewed in time
		for minute := 1; minute < 60; minute++ {
			time.Sleep(time.Minute)
			synctest.Wait()
			r.checkAgreement(t, min(60, 61-minute))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		r.checkAgreement(t, 0)
		r.stop()
	})
}

func TestExpiryThatTheKernelRefusesIsInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		f := &portmaptest.Firewall{Refuse: func(portmap.Change) bool { return down.Load() }}
		r := newTableRig(t, f, &portmaptest.Store{})
		r.grant(t, open(client(0), 40000, time.Minute))
		r.grant(t, open(client(1), 40000, time.Hour))
		down.Store(true)
		time.Sleep(61 * time.Second)
		synctest.Wait()
		if n := len(r.List()); n != 1 {
			t.Fatalf("table has %d mappings, want 1", n)
		}
		down.Store(false)
		r.firewall.Restore()
		r.checkAgreement(t, 1)
		r.stop()
	})
}

func TestRestartRestoresWhatIsStillAllowed(t *testing.T) {
	store := &portmaptest.Store{}
	r := newTableRig(t, &portmaptest.Firewall{}, store)
	for i := range 3 {
		r.grant(t, open(client(i), uint16(40000+i), time.Hour))
	}
	pcp := open(client(4), 41000, time.Hour)
	pcp.Origin, pcp.Nonce = portmap.PCP, portmap.Nonce{1}
	r.grant(t, pcp)
	pinhole := open(netip.MustParseAddr("2001:db8:50::10"), 41000, time.Hour)
	pinhole.Origin = portmap.PCP
	r.grant(t, pinhole)
	r.stop()

	store.Reboot()
	again := newTableRig(t, &portmaptest.Firewall{}, store)
	if n := len(again.List()); n != 5 {
		t.Fatalf("restored %d mappings, want 5", n)
	}
	if n := len(again.firewall.Open()); n != 5 {
		t.Fatalf("the kernel has %d mappings, want 5", n)
	}
	pcp.Nonce = portmap.Nonce{2}
	again.grant(t, pcp) // after a new epoch any nonce
	again.stop()

	strict := portmap.NewTable(portmap.Options{
		Policy: &portmap.Policy{Rules: []portmap.Rule{
			{Allow: true, External: portmap.Ports{{First: 40001, Last: 40001}}, Network: gateway.Addr(), Mask: 0xffffff00, Internal: portmap.Ports{{Last: 65535}}},
			{External: portmap.Ports{{Last: 65535}}, Network: gateway.Addr(), Internal: portmap.Ports{{Last: 65535}}},
		}},
		Firewall: &portmaptest.Firewall{}, Store: store,
		Listening: func(portmap.Protocol, uint16) bool { return false },
		Committed: func([]portmap.Change, bool) {}, Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go strict.Run(ctx)
	<-strict.Started()
	if list := strict.List(); len(list) != 1 || list[0].External != 40001 {
		t.Fatalf("the new policy keeps %d, want port 40001 alone", len(list))
	}
}

func TestNewPolicyClosesWhatItForbids(t *testing.T) {
	r := newTableRig(t, &portmaptest.Firewall{}, &portmaptest.Store{})
	r.grant(t, open(client(0), 40000, time.Hour))
	r.grant(t, open(client(1), 50000, time.Hour))
	before := r.resets
	policy := &portmap.Policy{Rules: []portmap.Rule{{
		External: portmap.Ports{{First: 50000, Last: 50000}}, Network: gateway.Addr(), Internal: portmap.Ports{{Last: 65535}},
	}}}
	if err := r.SetPolicy(context.Background(), policy); err != nil {
		t.Fatal(err)
	}
	r.checkAgreement(t, 1)
	if r.resets != before+1 {
		t.Error("the epoch was not restarted")
	}
	if err := r.SetPolicy(context.Background(), policy); err != nil {
		t.Fatal(err)
	}
	if r.resets != before+1 {
		t.Error("a policy that closes nothing restarts the epoch")
	}
}

func TestEpochRestartsWithTheAddressOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTableRig(t, &portmaptest.Firewall{}, &portmaptest.Store{})
		set := func(external netip.Addr) {
			s := portmap.NetworkState{External: external, LANs: []netip.Prefix{gateway}}
			if err := r.SetNetworkState(context.Background(), s); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(100 * time.Second)
		set(netip.Addr{})
		set(wan)
		if e := r.Epoch(); e != 100 {
			t.Errorf("epoch after the same address came back = %d, want 100", e)
		}
		set(wan.Next())
		if e := r.Epoch(); e != 0 {
			t.Errorf("epoch after another address came = %d, want 0", e)
		}
		if r.External() != wan.Next() {
			t.Errorf("external address = %v", r.External())
		}
		r.stop()
	})
}

func TestEpochRestartsTogetherWithTheAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{}, 1)
		r := newTableRig(t, &portmaptest.Firewall{Hold: hold}, &portmaptest.Store{})
		hold <- struct{}{}
		bound := open(client(0), 40000, time.Hour)
		bound.Origin, bound.Nonce = portmap.PCP, portmap.Nonce{1}
		r.grant(t, bound)
		resets := r.resets
		time.Sleep(100 * time.Second)
		go r.SetNetworkState(context.Background(), portmap.NetworkState{External: wan.Next(), LANs: []netip.Prefix{gateway}})
		synctest.Wait() // until only the kernel holds up the changes
		if a, e := r.External(), r.Epoch(); a != wan.Next() || e != 0 {
			t.Errorf("address %v and epoch %d, want %v and 0", a, e, wan.Next())
		}
		close(hold)
		r.stop()
		if n := r.resets - resets; n != 1 {
			t.Errorf("the epoch restarted %d times, want once", n)
		}
	})
}

func TestFlowsAreNotUPnPEntries(t *testing.T) {
	r := newTableRig(t, &portmaptest.Firewall{}, &portmaptest.Store{})
	flow := open(client(0), 40000, time.Hour)
	flow.Origin, flow.Remote = portmap.PCP, netip.MustParseAddrPort("9.9.9.9:443")
	let := open(client(0), 40000, time.Hour)
	gone := let
	gone.Op, gone.External = portmap.Close, 0
	r.grant(t, open(client(1), 40001, time.Hour))
	for _, step := range []struct {
		request portmap.Request
		entries int
		updates uint32
	}{{flow, 1, 1}, {let, 2, 2}, {gone, 1, 3}, {flow, 1, 3}} {
		r.grant(t, step.request)
		if n, updates := r.Count(); n != step.entries || updates != step.updates {
			t.Errorf("%d entries, %d updates, want %d, %d", n, updates, step.entries, step.updates)
		}
		r.checkAgreement(t, 2)
	}
	if m, ok := r.At(0); !ok || m.External != 40001 {
		t.Errorf("the first entry is %v", m)
	}
}

func TestReadersDoNotWaitForTheKernel(t *testing.T) {
	hold := make(chan struct{})
	r := newTableRig(t, &portmaptest.Firewall{Hold: hold}, &portmaptest.Store{})
	answered := make(chan struct{})
	r.Submit(open(client(0), 40000, time.Hour), func(portmap.Answer) { close(answered) })
	for range 100 { // whether the batch has begun or not, nothing is in force
		if n, _ := r.Count(); n != 0 {
			t.Fatal("a mapping is listed before its rules are in the kernel")
		}
		if _, ok := r.Lookup(portmap.Key{Protocol: portmap.UDP, External: 40000}); ok {
			t.Fatal("a mapping is found before its rules are in the kernel")
		}
	}
	close(hold)
	<-answered
	if n, updates := r.Count(); n != 1 || updates != 1 {
		t.Errorf("count = %d, updates = %d, want 1 and 1", n, updates)
	}
}

// TestHoldDownOutlivesAnotherProtocol has a host delete a mapping by PCP, and then
// map the same port and delete it by NAT-PMP: it is still held down for others.
func TestHoldDownOutlivesAnotherProtocol(t *testing.T) {
	r := newTableRig(t, &portmaptest.Firewall{}, &portmaptest.Store{})
	for _, origin := range []portmap.Origin{portmap.PCP, portmap.NATPMP} {
		req := open(client(0), 40000, time.Hour)
		req.Origin = origin
		r.grant(t, req)
		req.Op, req.External = portmap.Close, 0
		r.grant(t, req)
	}
	if a := r.grant(t, open(client(1), 40000, time.Hour)); a.Mapping.External == 40000 {
		t.Error("another host has the port")
	}
}
