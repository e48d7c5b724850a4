package upstream

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"igdd/pkg/portmap"
)

// uplink is the gateway of the tests, which no packet goes to.
var uplink = Gateway{Address: netip.MustParseAddr("10.0.0.1"), Local: netip.MustParseAddr("10.0.0.2"), Device: "wan"}

// fakeRouter is a router in front in memory. It gives the suggested port for as long as
// it is asked to, unless its fields say otherwise.
type fakeRouter struct {
	mu       sync.Mutex
	external netip.Addr
	reset    time.Time     // when it lost everything
	delay    time.Duration // before an answer
	gone     bool          // it does not answer
	deaf     bool          // it does not answer what gives a forwarding back
	fatal    uint16        // a request for this port makes it hang; 0: none
	secret   bool          // its checks do not tell its address
	grant    func(ask, *grant) error
	opens    []ask
	closes   []ask
	checks   int
	asking   int // requests at the same time
	most     int // of them
}

// wait waits for the answer.
func (r *fakeRouter) wait(ctx context.Context) error {
	r.mu.Lock()
	delay, gone := r.delay, r.gone
	r.asking++
	r.most = max(r.most, r.asking)
	r.mu.Unlock()
	defer r.with(func() { r.asking-- })
	if gone {
		delay = 6 * time.Second
	}
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if gone {
		return &routerError{cause: silent, reason: "no answer"}
	}
	return nil
}

func (r *fakeRouter) open(ctx context.Context, a ask) (grant, error) {
	r.with(func() {
		r.opens = append(r.opens, a)
		r.gone = r.gone || r.fatal != 0 && a.port == r.fatal
	})
	if err := r.wait(ctx); err != nil {
		return grant{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	g := grant{netip.AddrPortFrom(r.external, a.suggested), a.lifetime, r.epoch()}
	if r.grant == nil {
		return g, nil
	}
	err := r.grant(a, &g)
	return g, err
}

func (r *fakeRouter) hurry() {}

func (r *fakeRouter) close(ctx context.Context, a ask) error {
	deaf := false
	r.with(func() { r.closes, deaf = append(r.closes, a), r.deaf })
	if err := r.wait(ctx); err != nil || !deaf {
		return err
	}
	return &routerError{cause: silent, reason: "no answer"}
}

func (r *fakeRouter) check(ctx context.Context) (state, error) {
	r.with(func() { r.checks++ })
	if err := r.wait(ctx); err != nil {
		return state{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.secret {
		return state{epoch: r.epoch()}, nil
	}
	return state{external: r.external, epoch: r.epoch()}, nil
}

func (r *fakeRouter) epoch() epoch {
	return epoch{uint32(time.Since(r.reset) / time.Second), time.Now(), time.Now()}
}

// searching returns how many requests wait for an answer.
func (r *fakeRouter) searching() (n int) {
	r.with(func() { n = r.asking })
	return n
}

// with calls f while nobody else uses r.
func (r *fakeRouter) with(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// counts returns how many requests there were of each kind, and forgets them.
func (r *fakeRouter) counts() (opens, closes, checks int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	opens, closes, checks = len(r.opens), len(r.closes), r.checks
	r.opens, r.closes, r.checks = nil, nil, 0
	return opens, closes, checks
}

// last returns the last request to open a forwarding.
func (r *fakeRouter) last() ask {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.opens[len(r.opens)-1]
}

// rig is a Client with a fakeRouter in front of it.
type rig struct {
	*Client
	router *fakeRouter
	said   chan chan<- struct{} // what announcements are signalled by, once they are heard
	stop   context.CancelFunc
	ended  chan struct{}

	mu      sync.Mutex
	reports map[portmap.Key]portmap.Report
	told    int // reports in total
	early   int // of mappings that are not forwarded, while the status does not say why
	seen    []netip.Addr
	own     []netip.Addr
	served  netip.Prefix
}

// inRig runs a test in a bubble with a Client that has asked uplink already.
func inRig(t *testing.T, test func(*testing.T, *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.SetGateway(uplink)
		synctest.Wait()
		test(t, r)
	})
}

// newRig returns a running Client.
func newRig(t *testing.T) *rig {
	r := &rig{router: &fakeRouter{external: outer, reset: time.Now().Add(-time.Hour)}, reports: make(map[portmap.Key]portmap.Report), said: make(chan chan<- struct{}, 1), ended: make(chan struct{})}
	r.Client = New(Options{
		Methods: []Method{PCP}, Secret: []byte("secret"), Report: r.report,
		Seen:     func(a netip.Addr) { r.mu.Lock(); defer r.mu.Unlock(); r.seen = append(r.seen, a) },
		IsOwn:    func(a netip.Addr) bool { r.mu.Lock(); defer r.mu.Unlock(); return slices.Contains(r.own, a) },
		IsServed: func(a netip.Addr) bool { r.mu.Lock(); defer r.mu.Unlock(); return r.served.Contains(a) },
		Log:      slog.New(slog.DiscardHandler),
	})
	r.connect = func(context.Context, Method, Gateway) (router, error) { return r.router, nil }
	r.hear = func(_ context.Context, _ Gateway, heard chan<- struct{}) error {
		select {
		case r.said <- heard:
		default:
		}
		return errors.New("nothing more to hear")
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = func() { cancel(); <-r.ended }
	t.Cleanup(r.stop)
	go func() { defer close(r.ended); r.Run(ctx) }()
	return r
}

// setOwn sets the addresses that are the router's own.
func (r *rig) setOwn(own ...netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.own = own
}

// report is Options.Report.
func (r *rig) report(_ context.Context, list []portmap.Report) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, report := range list {
		if report.State == portmap.Unreachable && r.Status().Err == nil {
			r.early++
		}
		r.reports[report.Key] = report
	}
	r.told += len(list)
	return nil
}

// of returns the last report on a mapping.
func (r *rig) of(m *portmap.Mapping) portmap.Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reports[m.Key]
}

// change makes the table tell of a change, and waits for what follows at once.
func (r *rig) change(before, after *portmap.Mapping) {
	r.Update([]portmap.Change{{Before: before, After: after}})
	synctest.Wait()
}

// wait lets time go by.
func (r *rig) wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// mapping returns a UPnP mapping of a port.
func mapping(port uint16) *portmap.Mapping {
	return &portmap.Mapping{
		Key:        portmap.Key{Protocol: portmap.TCP, External: port},
		Serial:     uint64(port),
		Claims:     []portmap.Claim{{Origin: portmap.UPnP, Description: "test"}},
		Forwarding: portmap.Forwarding{State: portmap.Asking},
	}
}

// refuse returns a fakeRouter's grant that fails.
func refuse(c cause) func(ask, *grant) error {
	return func(ask, *grant) error { return &routerError{cause: c, reason: "refused"} }
}
