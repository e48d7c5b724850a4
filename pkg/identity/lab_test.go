package identity

import (
	"log/slog"
	"net"
	"net/netip"
	"testing"

	"igdd/pkg/hosts"
	"igdd/pkg/lan"
	"igdd/pkg/netlab"
	"igdd/pkg/portmap"
)

// newLabResolver returns a Resolver for the hosts of a lab's LAN.
func newLabResolver(t *testing.T, lab *netlab.Lab) *Resolver {
	t.Helper()
	indices := make(map[string]int)
	err := lab.Router.Do(func() error {
		links, err := net.Interfaces()
		for _, l := range links {
			indices[l.Name] = l.Index
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	r := newResolver(t)
	r.finder = &hosts.Finder{Log: slog.New(slog.DiscardHandler)}
	r.hosts = lan.NewHosts(r.finder, r.finder.Log)
	r.lan = func(a netip.Addr) (hosts.LAN, bool) {
		return hosts.LAN{Index: indices["lan0"], Networks: []netip.Prefix{lan4.Masked()}}, lan4.Contains(a) || lan6.Contains(a) || a.IsLinkLocalUnicast()
	}
	r.index = func(device string) int { return indices[device] }
	return r
}

// TestAnotherHostDoesNotRenew has a mapping's address change from one host to
// another and back; the neighbour table has their hardware addresses.
func TestAnotherHostDoesNotRenew(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{IPv6: true})
	r, in := newLabResolver(t, lab), make(answers, 10)
	r.policy().LenientNonce = true
	for _, client := range []netip.Addr{netip.MustParseAddr("192.168.50.10"), addr6(0)} {
		for nonce, step := range []struct {
			state []string // of the neighbour
			want  portmap.Refusal
		}{
			{[]string{"lladdr", "02:00:00:00:00:10", "nud", "stale"}, portmap.Granted},
			{[]string{"lladdr", "02:00:00:00:00:10", "nud", "permanent"}, portmap.Granted},
			{[]string{"nud", "failed"}, portmap.Granted},
			{[]string{"lladdr", "02:00:00:00:00:11", "nud", "permanent"}, portmap.NotOwner},
			{[]string{"lladdr", "02:00:00:00:00:10", "nud", "permanent"}, portmap.Granted},
		} {
			lab.Router.IP(t, append([]string{"neigh", "replace", client.String(), "dev", "lan0"}, step.state...)...)
			req := open(client, 2000)
			req.Nonce, req.KeepFilters = portmap.Nonce{byte(nonce)}, true
			if err := lab.Router.Do(func() error { in.submit(r, req); return nil }); err != nil {
				t.Fatal(err)
			}
			if got := in.next(t); got.Refusal != step.want {
				t.Errorf("%v with neighbour %v: %v, want %v", client, step.state, got.Refusal, step.want)
			}
		}
	}
}

// TestHostsByHardware has hosts whose hardware addresses are in the neighbour
// table ask for themselves and for each other, over both families.
func TestHostsByHardware(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{IPv6: true})
	r, in := newLabResolver(t, lab), make(answers, 10)
	rule := &r.policy().Rules[0]
	rule.Network, rule.Mask, rule.Hardware = netip.Addr{}, 0, "02:00:00:00:00:10"
	run(t, r.Run)
	four := [2]netip.Addr{netip.MustParseAddr("192.168.50.10"), netip.MustParseAddr("192.168.50.11")}
	for i, hardware := range []string{"02:00:00:00:00:10", "02:00:00:00:00:11"} {
		for _, a := range []netip.Addr{four[i], addr6(i)} {
			lab.Router.IP(t, "neigh", "replace", a.String(), "lladdr", hardware, "dev", "lan0", "nud", "permanent")
		}
	}
	for i, want := range []portmap.Refusal{portmap.Granted, portmap.NotAuthorized} {
		third, third6 := open(four[1-i], 5000), open(addr6(1-i), 5000)
		third.Internal, third6.Internal = netip.AddrPortFrom(four[i], 5000), netip.AddrPortFrom(addr6(i), 5000)
		for _, req := range []portmap.Request{open(four[i], 4000), open(addr6(i), 4000), third, third6} {
			if err := lab.Router.Do(func() error { in.submit(r, req); return nil }); err != nil {
				t.Fatal(err)
			}
			if got := in.next(t); got.Refusal != want {
				t.Errorf("%v for %v: %v, want %v", req.Client, req.Internal, got.Refusal, want)
			}
		}
	}
	for _, m := range r.List() {
		if m.Host.Hardware != rule.Hardware {
			t.Errorf("%v is of %+v", m.Key, m.Host)
		}
	}
}

// TestNewRulesForHardware loads rules for a hardware address while there are
// mappings whose hosts did not matter before: the neighbour table has them at
// once.
func TestNewRulesForHardware(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{IPv6: true})
	r, in := newLabResolver(t, lab), make(answers, 10)
	first, second, third := netip.MustParseAddr("192.168.50.10"), netip.MustParseAddr("192.168.50.11"), netip.MustParseAddr("192.168.50.12")
	for i, a := range []netip.Addr{first, second, third} {
		in.submit(r, open(a, uint16(80+i)))
		if got := in.next(t); got.Refusal != portmap.Granted {
			t.Fatalf("%v: %v", a, got.Refusal)
		}
	}
	lab.Router.IP(t, "neigh", "replace", first.String(), "lladdr", "02:00:00:00:00:10", "dev", "lan0", "nud", "permanent")
	lab.Router.IP(t, "neigh", "replace", second.String(), "lladdr", "02:00:00:00:00:11", "dev", "lan0", "nud", "permanent")
	all := portmap.Ports{{Last: 65535}}
	rules := &portmap.Policy{Rules: []portmap.Rule{{External: all, Hardware: "02:00:00:00:00:11", Internal: all}}}
	if err := lab.Router.Do(func() error { return r.SetPolicy(t.Context(), rules) }); err != nil {
		t.Fatal(err)
	}
	list := r.List()
	if len(list) != 2 || list[0].Host.Hardware != "02:00:00:00:00:10" || list[0].Dormant || list[1].Internal.Addr() != third || !list[1].Dormant {
		t.Errorf("left are %+v", list)
	}
}

// TestSameHost asks for a host's other addresses, and for addresses that are
// not its own.
func TestSameHost(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{IPv6: true})
	r := newLabResolver(t, lab)
	local, own, other := netip.MustParseAddr("fe80::10"), addr6(0), addr6(1)
	for a, hardware := range map[netip.Addr]string{local: "02:00:00:00:00:10", own: "02:00:00:00:00:10", other: "02:00:00:00:00:11"} {
		lab.Router.IP(t, "neigh", "replace", a.String(), "lladdr", hardware, "dev", "lan0", "nud", "permanent")
	}
	for _, tt := range []struct {
		what          string
		device        string
		client, other netip.Addr
		want          bool
	}{
		{"its own", "lan0", local, own, true},
		{"another host's", "lan0", local, other, false},
		{"on another interface", "wan0", local, own, false},
		{"on an interface that is none", "lan7", local, own, false},
		{"its link-local address", "lan0", own, local, false},
		{"an address that is not on a LAN", "lan0", local, netip.MustParseAddr("2001:db8:60::1"), false},
		{"from IPv4", "lan0", netip.MustParseAddr("192.168.50.10"), own, false},
		{"of IPv4", "lan0", local, netip.MustParseAddr("192.168.50.10"), false},
	} {
		err := lab.Router.Do(func() error {
			if got := r.SameHost(t.Context(), tt.device, tt.client, tt.other); got != tt.want {
				t.Errorf("%s: %v", tt.what, got)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestFloodOfOtherAddresses has as many lookups of one host wait as the limit
// allows: the router does no more for addresses that the host makes up, serves
// another host meanwhile, and the host itself again when one lookup ends.
func TestFloodOfOtherAddresses(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{IPv6: true})
	r := newLabResolver(t, lab)
	for a, hardware := range map[string]string{"2001:db8:50::10": "02:00:00:00:00:10", "fe80::10": "02:00:00:00:00:10", "2001:db8:50::11": "02:00:00:00:00:11", "fe80::11": "02:00:00:00:00:11"} {
		lab.Router.IP(t, "neigh", "replace", a, "lladdr", hardware, "dev", "lan0", "nud", "permanent")
	}
	err := lab.Router.Do(func() error {
		same := func(client string, own int) bool {
			return r.SameHost(t.Context(), "lan0", netip.MustParseAddr(client), addr6(own))
		}
		for range maxPerClientDirect {
			if !r.directLimiter.Acquire("02:00:00:00:00:10") {
				t.Error("the first lookups are rejected")
			}
		}
		req := open(addr6(99), 4000)
		req.Client = addr6(0)
		if a, err := r.Do(t.Context(), req); err != nil || a.Refusal != portmap.UnknownHost || same("fe80::10", 0) {
			t.Errorf("%v, %v, or one lookup more than the limit was done", a.Refusal, err)
		}
		known, err := hosts.Read("")
		if _, asked := known[addr6(99)]; asked || err != nil {
			t.Errorf("a made up address was probed, or %v", err)
		}
		if !same("fe80::11", 1) {
			t.Error("another host is not served")
		}
		r.directLimiter.Release("02:00:00:00:00:10")
		for range 2 * maxLookups {
			if !same("fe80::10", 0) {
				t.Error("the host is not served again")
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := underWay(r.directLimiter); n != maxPerClientDirect-1 {
		t.Errorf("%d lookups are counted", n)
	}
}

// TestDeleteFromAnotherHost deletes a mapping after a reset, when its own host
// may use another nonce, from another host that has its address.
func TestDeleteFromAnotherHost(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{})
	r, in := newLabResolver(t, lab), make(answers, 10)
	client := netip.MustParseAddr("192.168.50.10")
	ask := func(op portmap.Op, hardware string, nonce byte) portmap.Refusal {
		lab.Router.IP(t, "neigh", "replace", client.String(), "dev", "lan0", "lladdr", hardware, "nud", "permanent")
		req := open(client, 2000)
		if req.Op, req.Nonce = op, (portmap.Nonce{nonce}); op == portmap.Close {
			req.External = 0
		}
		if err := lab.Router.Do(func() error { in.submit(r, req); return nil }); err != nil {
			t.Fatal(err)
		}
		return in.next(t).Refusal
	}
	if got := ask(portmap.Open, "02:00:00:00:00:10", 1); got != portmap.Granted {
		t.Fatal(got)
	}
	moved := portmap.NetworkState{External: netip.MustParseAddr("11.22.33.45"), LANs: []netip.Prefix{lan4, lan6}}
	if err := r.SetNetworkState(t.Context(), moved); err != nil {
		t.Fatal(err)
	}
	if got := ask(portmap.Close, "02:00:00:00:00:11", 2); got != portmap.NotOwner {
		t.Errorf("from another host: %v", got)
	}
	if got := ask(portmap.Close, "02:00:00:00:00:10", 2); got != portmap.Granted {
		t.Errorf("from its own host: %v", got)
	}
}
