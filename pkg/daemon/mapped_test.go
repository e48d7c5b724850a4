package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"

	"igdd/pkg/clock"
	"igdd/pkg/config"
	"igdd/pkg/netif"
	"igdd/pkg/portmap"
	"igdd/pkg/portmap/portmaptest"
)

// TestRoutedHostsDoNotLeave has mappings of a host on the LAN and of one behind another
// router: only of the first it can be found out whether it has left.
func TestRoutedHostsDoNotLeave(t *testing.T) {
	watch, err := netif.Watch()
	if err != nil {
		t.Fatal(err)
	}
	routed, near := netip.MustParsePrefix("203.0.113.0/24"), netip.MustParseAddr("198.51.100.10")
	table := portmap.NewTable(portmap.Options{
		Policy: new(portmap.Policy), Firewall: new(portmaptest.Firewall), Store: new(portmaptest.Store), Uptime: clock.Uptime,
		Network: portmap.NetworkState{
			External: netip.MustParseAddr("11.22.33.44"), LANs: []netip.Prefix{netip.MustParsePrefix("198.51.100.1/24")}, Routed: []portmap.RoutedNetwork{{Prefix: routed}},
		},
		Listening: func(portmap.Protocol, uint16) bool { return false },
		Committed: func([]portmap.Change, bool) {},
		Log:       slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go table.Run(ctx)
	for i, host := range []netip.Addr{routed.Addr().Next(), near} {
		a, err := table.Do(ctx, portmap.Request{
			Op: portmap.Open, Origin: portmap.UPnP, Client: host, Protocol: portmap.TCP, Internal: netip.AddrPortFrom(host, 4000), External: uint16(40001 + i),
		})
		if err != nil || a.Refusal != portmap.Granted {
			t.Fatalf("%v: %v, %v", host, a.Refusal, err)
		}
	}
	d := &Daemon{table: table, watch: watch, config: &config.Config{
		LANs: []config.LAN{{Interface: "lo"}}, Routes: []config.Route{{Network: routed, Interface: "lo"}},
	}}
	if got := fmt.Sprint(d.mappedHosts()); got != "[198.51.100.10]" {
		t.Errorf("hosts that may leave: %s", got)
	}
	cancel()
	watch.Run(ctx) // which closes it
}
