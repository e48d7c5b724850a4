package identity

import (
	"log/slog"
	"net"
	"net/netip"
	"testing"

	"igdd/pkg/hosts"
	"igdd/pkg/netlab"
	"igdd/pkg/portmap"
)

// TestAnotherHostDoesNotProlong has a mapping's address change hands, between
// hosts of which the neighbour table knows the hardware addresses.
func TestAnotherHostDoesNotProlong(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{IPv6: true})
	var index int
	if err := lab.Router.Do(func() error {
		link, err := net.InterfaceByName("lan0")
		if err == nil {
			index = link.Index
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	d, in := newDesk(t), make(inbox, 10)
	d.policy().LenientNonce = true
	d.finder = &hosts.Finder{Log: slog.New(slog.DiscardHandler)}
	d.lan = func(netip.Addr) (hosts.LAN, bool) {
		return hosts.LAN{Index: index, Networks: []netip.Prefix{lan.Masked()}}, true
	}
	for _, client := range []netip.Addr{netip.MustParseAddr("192.168.50.10"), six(0)} {
		for nonce, step := range []struct {
			state []string // of the neighbour
			want  portmap.Refusal
		}{
			{[]string{"lladdr", "02:00:00:00:00:10", "nud", "stale"}, portmap.Granted},
			{[]string{"lladdr", "02:00:00:00:00:10", "nud", "permanent"}, portmap.Granted},
			{[]string{"nud", "failed"}, portmap.Granted},
			{[]string{"lladdr", "02:00:00:00:00:11", "nud", "permanent"}, portmap.NotAuthorized},
			{[]string{"lladdr", "02:00:00:00:00:10", "nud", "permanent"}, portmap.Granted},
		} {
			lab.Router.IP(t, append([]string{"neigh", "replace", client.String(), "dev", "lan0"}, step.state...)...)
			req := open(client, 2000)
			req.Nonce, req.KeepFilters = portmap.Nonce{byte(nonce)}, true
			if err := lab.Router.Do(func() error { in.submit(d, req); return nil }); err != nil {
				t.Fatal(err)
			}
			if got := in.next(t); got.Refusal != step.want {
				t.Errorf("%v with neighbour %v: %v, want %v", client, step.state, got.Refusal, step.want)
			}
		}
	}
}
