package portmap_test

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"igdd/pkg/portmap"
	"igdd/pkg/portmap/portmaptest"
)

// refusingFirewall returns a firewall that refuses all changes while down is
// set.
func refusingFirewall(down *bool) *portmaptest.Firewall {
	return &portmaptest.Firewall{Refuse: func(portmap.Change) bool { return *down }}
}

func TestRefusedRequestDoesNotStopOthers(t *testing.T) {
	bad := client(9)
	r := newTableRig(t, &portmaptest.Firewall{Refuse: func(c portmap.Change) bool {
		return c.After != nil && c.After.Internal.Addr() == bad
	}}, &portmaptest.Store{})
	for i := range 100 {
		if a, _ := r.Do(context.Background(), open(bad, 40000, time.Hour)); a.Refusal != portmap.FirewallFailed {
			t.Fatal(a.Refusal)
		}
		r.grant(t, open(client(i%5), uint16(1024+i), time.Hour))
	}
	r.checkAgreement(t, 100)
}

func TestWithdrawAndBlock(t *testing.T) {
	r := newTableRig(t, &portmaptest.Firewall{}, &portmaptest.Store{})
	for i := range 4 {
		r.grant(t, open(client(i%2), uint16(40000+i), time.Hour))
	}
	resets := r.resets
	ctx := context.Background()
	if n, err := r.Withdraw(ctx, func(m *portmap.Mapping) bool { return m.Internal.Addr() == client(0) }); n != 2 || err != nil {
		t.Fatalf("withdrew %d, %v", n, err)
	}
	r.checkAgreement(t, 2)
	block := portmap.Block{Selector: portmap.Selector{External: portmap.PortRange{First: 40001, Last: 40001}}, Until: time.Now().Add(time.Hour)}
	set, err := r.Block(ctx, block)
	if set.Closed != 1 || set.Unsaved != nil || err != nil {
		t.Fatalf("the block closed %+v, %v", set, err)
	}
	r.checkAgreement(t, 1)
	again := open(client(1), 40001, time.Hour)
	if e, err := r.Explain(ctx, again); err != nil || e.Refusal != portmap.Granted || e.Mapping.External != 40002 || e.Rule != nil || e.Block != nil {
		t.Errorf("explained %+v, %v", e, err)
	}
	again.Exact = true
	if e, err := r.Explain(ctx, again); err != nil || e.Refusal != portmap.Blocked || e.Block != set.Block {
		t.Errorf("explained %+v, %v", e, err)
	}
	r.checkAgreement(t, 1)
	if a := r.grant(t, open(client(1), 40001, time.Hour)); a.Mapping.External != 40002 {
		t.Errorf("granted %v", a.Mapping.Key)
	}
	if r.resets != resets {
		t.Error("the epoch was restarted")
	}
}

func TestEveryDecisionIsReported(t *testing.T) {
	r := newTableRig(t, &portmaptest.Firewall{}, &portmaptest.Store{})
	r.grant(t, open(client(0), 40000, time.Hour))
	r.Do(context.Background(), open(client(0), 0, time.Hour))
	if want := []portmap.Refusal{portmap.Granted, portmap.BadTarget}; !slices.Equal(r.answers(), want) {
		t.Errorf("reported %v, want %v", r.answers(), want)
	}
}

func TestStaticForwardReplacesMappings(t *testing.T) {
	r := newTableRig(t, &portmaptest.Firewall{}, &portmaptest.Store{})
	r.grant(t, open(client(0), 40000, time.Hour))
	r.grant(t, open(client(0), 40001, time.Hour))
	resets := r.resets
	s := r.network
	for range 2 {
		s.Forwards = []portmap.Forward{{Protocol: portmap.UDP, External: portmap.PortRange{First: 40000, Last: 40000}}}
		if err := r.SetNetworkState(context.Background(), s); err != nil {
			t.Fatal(err)
		}
	}
	r.checkAgreement(t, 1)
	if r.resets != resets+1 {
		t.Errorf("the epoch was restarted %d times", r.resets-resets)
	}
}

// logged is an in-memory log.
type logged struct {
	mu sync.Mutex
	strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Builder.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Builder.String()
}

func newLog(l *logged) *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelWarn}))
}
