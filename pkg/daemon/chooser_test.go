package daemon

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"igdd/pkg/netif"
)

// someLinks returns the links of "name:index" or, without an address, "name:index:-";
// "name:index:down" has an address, but is down.
func someLinks(text string) map[string]netif.Link {
	links := make(map[string]netif.Link)
	for word := range strings.FieldsSeq(text) {
		parts := strings.Split(word, ":")
		l := netif.Link{Name: parts[0], Index: int(parts[1][0] - '0'), Up: true}
		if len(parts) < 3 || parts[2] != "-" {
			l.Addrs = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{11, 22, 33, byte(l.Index)}), 24)}
		}
		if len(parts) == 3 && parts[2] == "down" {
			l.Up = false
		}
		links[l.Name] = l
	}
	return links
}

func TestChooseUplink(t *testing.T) {
	for _, tt := range []struct {
		what, patterns, links string
		routed, chosen        int
		want                  string
	}{
		{"nothing is there", "wan0 wan1", "", 0, 0, ""},
		{"no address", "wan0 wan1", "wan0:1:- wan1:2:-", 2, 1, ""},
		{"no route", "wan0 wan1", "wan0:1 wan1:2", 0, 0, "wan0"},
		{"the route by the preferred", "wan0 wan1", "wan0:1 wan1:2", 1, 0, "wan0"},
		{"the route by the second at the start", "wan0 wan1", "wan0:1 wan1:2", 2, 0, "wan1"},
		{"failover", "wan0 wan1", "wan0:1 wan1:2", 2, 1, "wan1"},
		{"back again", "wan0 wan1", "wan0:1 wan1:2", 1, 2, "wan0"},
		{"no route after a failover", "wan0 wan1", "wan0:1 wan1:2", 0, 2, "wan1"},
		{"a VPN", "wan0 wan1", "wan0:1 wan1:2 tun0:3", 3, 1, "wan0"},
		{"a VPN after a failover", "wan0 wan1", "wan0:1 wan1:2 tun0:3", 3, 2, "wan1"},
		{"a VPN at the start", "wan0 wan1", "wan0:1 wan1:2 tun0:3", 3, 0, "wan0"},
		{"the chosen one loses its address", "wan0 wan1", "wan0:1:- wan1:2", 1, 1, "wan1"},
		{"the chosen one goes down", "wan0 wan1", "wan0:1:down wan1:2", 1, 1, "wan1"},
		{"the chosen one is deleted", "wan0 wan1", "wan1:2", 0, 1, "wan1"},
		{"the chosen one is made anew", "wan0 wan1", "wan0:3 wan1:2", 0, 1, "wan0"},
		{"the chosen one gets another name", "wan0 wan1", "other:1 wan1:2", 1, 1, "wan1"},
		{"the routed one has no address", "wan0 wan1", "wan0:1 wan1:2:-", 2, 1, "wan0"},
		{"one uplink, and a VPN", "wan0", "wan0:1 wan1:2 tun0:3", 3, 1, "wan0"},
		{"one uplink, and the route by another", "wan0", "wan0:1 wan1:2", 2, 1, "wan0"},
		{"a pattern, no route", "ppp+", "ppp0:5 ppp1:3", 0, 0, "ppp1"},
		{"a pattern, the route by one of them", "ppp+", "ppp0:5 ppp1:3", 5, 3, "ppp0"},
		{"a pattern and a name", "ppp+ wan1", "ppp0:5 wan1:2", 2, 5, "wan1"},
		{"a name and a pattern", "wan0 ppp+", "wan0:1 ppp7:5", 5, 1, "ppp7"},
	} {
		got := chooseUplink(usableUplinks(strings.Fields(tt.patterns), someLinks(tt.links)), tt.routed, tt.chosen)
		if got.Name != tt.want {
			t.Errorf("%s: %q, want %q", tt.what, got.Name, tt.want)
		}
	}
}

// TestUplinkChooser goes through the life of a router with two uplinks.
func TestUplinkChooser(t *testing.T) {
	routed := 2
	c := testChooser(func() int { return routed })
	demand := func(what, want string) {
		t.Helper()
		if got := c.link().Name; got != want {
			t.Errorf("%s: %q is chosen, want %q", what, got, want)
		}
	}
	move := func(to int, want bool) {
		t.Helper()
		routed = to
		if c.readRoute() != want {
			t.Errorf("route by link %d: moved %v, want %v", to, !want, want)
		}
	}
	both := someLinks("wan0:1 wan1:2")
	c.readRoute()
	demand("before the links are known", "")
	c.update(both)
	demand("at the start", "wan1")
	move(1, true)
	demand("before the links are looked at", "wan1")
	c.update(both)
	demand("after the move", "wan0")
	move(0, false)
	move(9, true)
	c.update(both)
	demand("with a VPN", "wan0")
	move(1, false)
	c.update(someLinks("wan0:1:- wan1:2"))
	demand("without the address", "wan1")
	c.update(both)
	demand("with the address again, before the route is read", "wan1")
	move(1, true)
	c.update(both)
	demand("when it has been read", "wan0")
	c.update(nil)
	demand("without links", "")
	if c.addr().IsValid() {
		t.Errorf("address %v without links", c.addr())
	}
	c.update(someLinks("wan1:2"))
	demand("with the second alone", "wan1")
}

// testChooser returns a chooser among two uplinks that has not chosen.
func testChooser(route func() int) *uplinkChooser {
	return &uplinkChooser{
		patterns: []string{"wan0", "wan1"}, route: route,
		settle: time.NewTimer(routeSettleTime), log: slog.New(slog.DiscardHandler),
	}
}

// TestChooserFollowsGateway has uplinks and their gateways change: that of the chosen
// uplink counts, at once with another uplink, else when the route is read.
func TestChooserFollowsGateway(t *testing.T) {
	at := func(text string) netip.Addr { a, _ := netip.ParseAddr(text); return a }
	gateways := map[string]string{"wan0": "11.22.33.254", "wan1": "22.33.44.254"}
	routed := 1
	c := testChooser(func() int { return routed })
	c.next = func(l netif.Link) netip.Addr { return at(gateways[l.Name]) }
	demand := func(what, uplink, gateway string) {
		t.Helper()
		if l, g := c.router(); l.Name != uplink || g != at(gateway) {
			t.Errorf("%s: %q and %v, want %q and %q", what, l.Name, g, uplink, gateway)
		}
	}
	demand("before the links are known", "", "")
	both := someLinks("wan0:1 wan1:2")
	c.update(both)
	demand("at the start", "wan0", "11.22.33.254")
	if c.readRoute() {
		t.Error("moved, though nothing has changed")
	}
	gateways["wan0"] = "11.22.33.253"
	c.update(both)
	demand("before the route is read", "wan0", "11.22.33.254")
	if !c.readRoute() {
		t.Error("another gateway of the uplink is no move")
	}
	demand("when it has been read", "wan0", "11.22.33.253")
	routed = 2
	c.readRoute()
	c.update(both)
	demand("by the second", "wan1", "22.33.44.254")
	delete(gateways, "wan1")
	if !c.readRoute() {
		t.Error("a lost gateway is no move")
	}
	demand("without a gateway", "wan1", "")
	c.update(nil)
	demand("without links", "", "")
}

// TestRouteIsReadSeldom has routes change without end, then rest: while they change
// the route is not read, and afterwards once.
func TestRouteIsReadSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reads, route atomic.Int32
		c := testChooser(func() int { reads.Add(1); return int(route.Load()) })
		route.Store(1)
		both := someLinks("wan0:1 wan1:2")
		c.update(both)
		ctx, cancel := context.WithCancel(t.Context())
		links, wake, routes := make(chan struct{}), make(chan struct{}, 1), make(chan struct{}, 1)
		awaited := make(chan bool)
		go func() {
			for again := true; again; {
				again = c.await(ctx, links, wake, routes)
				c.update(both)
				awaited <- again
			}
		}()
		demand := func(what string, wantReads int32, want string) {
			t.Helper()
			synctest.Wait()
			if reads.Load() != wantReads || c.link().Name != want {
				t.Errorf("%s: read %d times, %q is chosen, want %d and %q", what, reads.Load(), c.link().Name, wantReads, want)
			}
		}
		time.Sleep(time.Hour)
		demand("at the start", 1, "wan0")
		for i := range 1000 {
			route.Store(int32(1 + i%2))
			routes <- struct{}{}
			time.Sleep(routeSettleTime - time.Millisecond)
		}
		demand("while it flaps", 1, "wan0")
		time.Sleep(time.Millisecond)
		<-awaited
		demand("when it has settled", 2, "wan1")
		time.Sleep(24 * time.Hour)
		demand("while nothing happens", 2, "wan1")
		wake <- struct{}{}
		<-awaited
		links <- struct{}{}
		<-awaited
		time.Sleep(24 * time.Hour)
		demand("when other things have changed", 2, "wan1")
		both = someLinks("wan0:1")
		route.Store(0)
		links <- struct{}{}
		<-awaited
		demand("without the chosen one", 2, "wan0")
		time.Sleep(24 * time.Hour)
		demand("a day later", 3, "wan0")
		cancel()
		if <-awaited {
			t.Error("await goes on after the end")
		}
	})
}
