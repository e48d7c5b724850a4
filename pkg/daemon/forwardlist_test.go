package daemon

import (
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"igdd/pkg/netfilter"
	"igdd/pkg/portmap"
)

func tcpForward(first, last uint16) portmap.Forward {
	return portmap.Forward{Protocol: portmap.TCP, External: portmap.PortRange{First: first, Last: last}}
}

// forwardLook is one look at the firewall and what has to be believed after it.
type forwardLook struct {
	at, touched time.Duration // since the start
	seen, want  []portmap.Forward
	again       time.Duration
}

func TestForwardList(t *testing.T) {
	a, b, c := tcpForward(80, 80), tcpForward(81, 81), tcpForward(82, 90)
	all := []portmap.Forward{a, b, c}
	list := func(f ...portmap.Forward) []portmap.Forward { return f }
	for name, looks := range map[string][]forwardLook{
		"more is believed at once": {{0, 0, list(a), list(a), 0}, {1, 1, all, all, 0}},
		"nothing, for good":        {{0, 0, nil, nil, 0}, {1, 1, nil, nil, 0}},
		"less, and no further change": {
			{0, 0, all, all, 0},
			{time.Second, time.Second, list(a), all, settleTime},
			{time.Second + settleTime, time.Second, list(a), list(a), 0},
		},
		"everything is gone, and no further change": {
			{0, 0, all, all, 0},
			{time.Second, time.Second, nil, all, settleTime},
			{time.Second + settleTime, time.Second, nil, nil, 0},
		},
		"an early look changes nothing": {
			{0, 0, all, all, 0},
			{time.Second, time.Second, nil, all, settleTime},
			{3 * time.Second, time.Second, nil, all, settleTime - 2*time.Second},
			{time.Second + settleTime, time.Second, nil, nil, 0},
		},
		"one by one": {
			{0, 0, all, all, 0},
			{time.Second, time.Second, nil, all, settleTime},
			{9 * time.Second, 9 * time.Second, list(b), list(b, a, c), settleTime},
			{18 * time.Second, 18 * time.Second, list(b, a), list(b, a, c), settleTime},
			{27 * time.Second, 27 * time.Second, all, all, 0},
			{60 * time.Second, 27 * time.Second, all, all, 0},
		},
		"touched meanwhile": {
			{0, 0, all, all, 0},
			{time.Second, time.Second, list(a), all, settleTime},
			{10 * time.Second, 10 * time.Second, list(a), all, settleTime},
			{20 * time.Second, 10 * time.Second, list(a), list(a), 0},
		},
		"touched for ever": {
			{0, 0, all, all, 0},
			{time.Second, time.Second, list(a), all, settleTime},
			{maxSettleTime, maxSettleTime, list(a), all, settleTime},
			{maxSettleTime + time.Second, maxSettleTime + time.Second, list(a), list(a), 0},
		},
		"a notice that was missed": {
			{0, 0, all, all, 0},
			{time.Hour, time.Second, nil, all, settleTime},
			{time.Hour + settleTime, time.Second, nil, nil, 0},
		},
		"another range with the same ports": {
			{0, 0, list(a, b, c), all, 0},
			{1, 1, list(tcpForward(80, 85), tcpForward(86, 90)), list(tcpForward(80, 85), tcpForward(86, 90)), 0},
		},
		"a shorter range": {
			{0, 0, list(c), list(c), 0},
			{1, 1, list(tcpForward(82, 89)), list(tcpForward(82, 89), c), settleTime},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var l forwardList
			start := time.Now()
			for _, look := range looks {
				again := l.update(look.seen, start.Add(look.at), start.Add(look.touched))
				if !slices.Equal(l.list, look.want) || again != look.again {
					t.Errorf("after %v: %v, again after %v; want %v, %v", look.at, l.list, again, look.want, look.again)
				}
			}
		})
	}
}

// fakeNAT is table nat as forwards read it.
type fakeNAT struct {
	found   netfilter.Forwards
	err     error
	uplink  netfilter.Uplink
	changes int
}

func (n *fakeNAT) forwards(t *testing.T) *forwards {
	return &forwards{
		read:    func(netfilter.Uplink) (netfilter.Forwards, error) { return n.found, n.err },
		uplink:  func() netfilter.Uplink { return n.uplink },
		changed: func() { n.changes++ },
		log:     slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

func TestForwardsOutlastErrors(t *testing.T) {
	n := &fakeNAT{err: errors.New("iptables-save: exit status 1")}
	f := n.forwards(t)
	want := func(when string, again, got time.Duration, list ...portmap.Forward) {
		t.Helper()
		if believed, _ := f.list(); again != got || !slices.Equal(believed, list) {
			t.Errorf("%s: %v, again after %v; want %v, %v", when, believed, got, list, again)
		}
	}
	want("never read", retryAfter, f.update(time.Now()))
	if err := f.checkKnown(); !errors.Is(err, errForwardsUnknown) {
		t.Errorf("ports may be given away before forwards are known: %v", err)
	}
	n.found.Certain, n.err = []portmap.Forward{tcpForward(80, 80)}, nil
	for range 2 {
		if err := f.checkKnown(); !errors.Is(err, errForwardsUnknown) {
			t.Errorf("ports may be given away before the table knows the forwards: %v", err)
		}
	}
	_, known := f.list()
	f.noteDelivered(known)
	if err := f.checkKnown(); err != nil || n.changes != 1 {
		t.Errorf("after a look: %v, %d changes", err, n.changes)
	}
	want("read", 0, f.update(time.Now()), tcpForward(80, 80))
	for _, err := range []error{errors.New("iptables-save: exit status 1"), netfilter.ErrStopped} {
		n.found.Certain, n.err = nil, err
		f.update(time.Now())
		if list, _ := f.list(); !slices.Equal(list, []portmap.Forward{tcpForward(80, 80)}) || f.checkKnown() != nil {
			t.Errorf("after %v: %v", err, list)
		}
	}
	if n.changes != 1 {
		t.Errorf("%d changes", n.changes)
	}
}

func TestForwardsFollowTheUplink(t *testing.T) {
	n := new(fakeNAT)
	f := n.forwards(t)
	f.update(time.Now())
	first, second := []netip.Addr{netip.MustParseAddr("11.22.33.44")}, []netip.Addr{netip.MustParseAddr("11.22.33.45")}
	for i, step := range []struct {
		uplink netfilter.Uplink
		reads  bool
	}{
		{netfilter.Uplink{Device: "ppp0"}, false},
		{netfilter.Uplink{Device: "ppp0", Addrs: first}, true},
		{netfilter.Uplink{Device: "ppp0"}, false}, // it bounces
		{netfilter.Uplink{Device: "ppp0", Addrs: first}, false},
		{netfilter.Uplink{Device: "ppp0", Addrs: second}, true},
		{netfilter.Uplink{Device: "ppp1", Addrs: second}, true},
	} {
		n.uplink = step.uplink
		if f.updateOnMove() != step.reads || f.updateOnMove() {
			t.Errorf("step %d, %v: read %v", i, step.uplink, !step.reads)
		}
	}
}

// TestForwardsAreKnownWhileTheyAreRead has the firewall not answer: what is
// believed is told meanwhile, which every server waits for.
func TestForwardsAreKnownWhileTheyAreRead(t *testing.T) {
	n := &fakeNAT{found: netfilter.Forwards{Certain: []portmap.Forward{tcpForward(80, 80)}}}
	f := n.forwards(t)
	f.update(time.Now())
	asked, answer := make(chan struct{}), make(chan struct{})
	f.read = func(netfilter.Uplink) (netfilter.Forwards, error) {
		close(asked)
		<-answer
		return n.found, nil
	}
	learned := make(chan struct{})
	go func() { f.update(time.Now()); close(learned) }()
	<-asked
	told := make(chan []portmap.Forward, 1)
	go func() {
		list, _ := f.list()
		told <- list
	}()
	select {
	case list := <-told:
		if !slices.Equal(list, n.found.Certain) {
			t.Errorf("told %v", list)
		}
	case <-time.After(15 * time.Second):
		t.Error("a caller that asks for the forwards waits for the firewall")
	}
	close(answer)
	<-learned
}
