package upstream

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/portmap"
)

// await returns what comes, or fails.
func await[T any](t *testing.T, what string, from <-chan T) (value T) {
	t.Helper()
	select {
	case value = <-from:
	case <-time.After(30 * time.Second):
		t.Fatalf("no %s", what)
	}
	return value
}

// TestClientOfAServer asks a server on the loopback.
func TestClientOfAServer(t *testing.T) {
	t.Parallel()
	s := &natpmpServer{answer: vpn}
	r := natpmpRouterAt(t, s)
	reports, seen := make(chan portmap.Report, 9), make(chan netip.Addr, 9)
	c := New(Options{
		Methods: []Method{NATPMP},
		Report: func(_ context.Context, list []portmap.Report) error {
			for _, report := range list {
				reports <- report
			}
			return nil
		},
		Seen:     func(a netip.Addr) { seen <- a },
		IsOwn:    func(netip.Addr) bool { return false },
		IsServed: func(netip.Addr) bool { return false },
		Log:      slog.New(slog.DiscardHandler),
	})
	c.connect = func(context.Context, Method, Gateway) (router, error) { return r, nil }
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- c.Run(ctx) }()
	c.SetGateway(r.gateway)
	if a := await(t, "address", seen); a != outer {
		t.Errorf("seen %v", a)
	}
	c.Update([]portmap.Change{{After: mapping(3001)}})
	if got := await(t, "report", reports); got.Forwarding.External != netip.AddrPortFrom(outer, 50505) {
		t.Errorf("reported %+v", got)
	}
	cancel()
	if err := await(t, "end", ended); err != nil {
		t.Error(err)
	}
}

// TestHearAnnouncements has the gateway send something to the group.
func TestHearAnnouncements(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	heard, ended := make(chan struct{}, 1), make(chan error, 1)
	g := Gateway{Address: loopback, Local: loopback, Device: "lo"}
	go func() { ended <- hear(ctx, g, heard) }()
	conn, err := g.dialer(net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0))).Dial("udp4", netip.AddrPortFrom(allHosts, natpmp.AnnouncePort).String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	deadline := time.After(30 * time.Second)
	for again := time.NewTicker(10 * time.Millisecond); ; {
		conn.Write([]byte{0})
		select {
		case <-heard:
			cancel()
			if err := await(t, "end", ended); err != nil {
				t.Error(err)
			}
			return
		case err := <-ended:
			t.Fatal(err)
		case <-deadline:
			t.Fatal("nothing heard")
		case <-again.C:
		}
	}
}

// TestAnnouncementsAreToTheGroup has the socket bound to the group: one that is bound to the
// wildcard address makes the port look open on every address of the router.
func TestAnnouncementsAreToTheGroup(t *testing.T) {
	t.Parallel()
	conn, err := Gateway{Address: loopback, Local: loopback, Device: "lo"}.listen()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.LocalAddr().String(); got != netip.AddrPortFrom(allHosts, natpmp.AnnouncePort).String() {
		t.Errorf("bound to %s", got)
	}
}
