package daemon

import (
	"context"
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

// fakeNAT is table nat as looks at the firewall find it.
type fakeNAT struct {
	found   netfilter.Forwards
	err     error // of a look
	uplink  netfilter.Uplink
	looks   int
	changes int
}

func (n *fakeNAT) forwards(t *testing.T) *forwards {
	f := &forwards{
		uplink:  func() netfilter.Uplink { return n.uplink },
		changed: func() { n.changes++ },
		log:     slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	f.look = func(context.Context) {
		if n.looks++; n.err == nil {
			f.update(n.found, time.Now())
		}
	}
	return f
}

func TestForwardsOutlastErrors(t *testing.T) {
	n := &fakeNAT{err: errors.New("iptables-save: exit status 1")}
	f := n.forwards(t)
	if err := f.checkKnown(t.Context()); !errors.Is(err, errForwardsUnknown) {
		t.Errorf("ports may be given away before forwards are known: %v", err)
	}
	n.found.Certain, n.err = []portmap.Forward{tcpForward(80, 80)}, nil
	for range 2 {
		if err := f.checkKnown(t.Context()); !errors.Is(err, errForwardsUnknown) {
			t.Errorf("ports may be given away before the table knows the forwards: %v", err)
		}
	}
	list, known := f.list()
	f.noteDelivered(known)
	if err := f.checkKnown(t.Context()); err != nil || n.changes != 1 || n.looks != 2 || !slices.Equal(list, n.found.Certain) {
		t.Errorf("after %d looks: %v, %v, %d changes", n.looks, list, err, n.changes)
	}
	n.err = errors.New("iptables-save: exit status 1")
	f.look(t.Context())
	if list, _ := f.list(); !slices.Equal(list, []portmap.Forward{tcpForward(80, 80)}) || f.checkKnown(t.Context()) != nil || n.changes != 1 {
		t.Errorf("after a look that failed: %v, %d changes", list, n.changes)
	}
}

func TestForwardsFollowTheUplink(t *testing.T) {
	n := new(fakeNAT)
	f := n.forwards(t)
	f.look(t.Context())
	first, second := []netip.Addr{netip.MustParseAddr("11.22.33.44")}, []netip.Addr{netip.MustParseAddr("11.22.33.45")}
	for i, step := range []struct {
		uplink netfilter.Uplink
		looks  int
	}{
		{netfilter.Uplink{Device: "ppp0"}, 0},
		{netfilter.Uplink{Device: "ppp0", Addrs: first}, 1},
		{netfilter.Uplink{Device: "ppp0"}, 0}, // it bounces
		{netfilter.Uplink{Device: "ppp0", Addrs: first}, 0},
		{netfilter.Uplink{Device: "ppp0", Addrs: second}, 1},
		{netfilter.Uplink{Device: "ppp1", Addrs: second}, 1},
	} {
		n.uplink, n.looks = step.uplink, 0
		for range 2 {
			f.updateOnMove(t.Context())
		}
		if n.looks != step.looks {
			t.Errorf("step %d, %v: %d looks", i, step.uplink, n.looks)
		}
	}
}

// TestForwardsAreKnownDuringALook has the firewall not answer: what is known is
// told meanwhile, which every server waits for.
func TestForwardsAreKnownDuringALook(t *testing.T) {
	n := &fakeNAT{found: netfilter.Forwards{Certain: []portmap.Forward{tcpForward(80, 80)}}}
	f := n.forwards(t)
	f.look(t.Context())
	asked, answer := make(chan struct{}), make(chan struct{})
	f.look = func(context.Context) {
		close(asked)
		<-answer
	}
	looked := make(chan struct{})
	n.uplink = netfilter.Uplink{Device: "ppp0", Addrs: []netip.Addr{netip.MustParseAddr("11.22.33.44")}}
	go func() { f.updateOnMove(t.Context()); close(looked) }()
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
	<-looked
}
