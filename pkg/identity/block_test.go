package identity

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"igdd/pkg/hosts"
	"igdd/pkg/netlab"
	"igdd/pkg/portmap"
)

// The hardware addresses of the tests' hosts.
const (
	first  = "02:00:00:00:00:10"
	second = "02:00:00:00:00:11"
	third  = "02:00:00:00:00:12"
)

// blockRig is a Resolver without rules for hosts of a lab, with a file of leases.
type blockRig struct {
	*Resolver
	lab    *netlab.Lab
	leases string
	in     answers
}

// newBlockRig returns a rig in which three hosts are neighbours.
func newBlockRig(t *testing.T) *blockRig {
	lab := netlab.NewLab(t, netlab.Layout{IPv6: true})
	r := &blockRig{newLabResolver(t, lab), lab, filepath.Join(t.TempDir(), "leases"), make(answers, 10)}
	r.policy().Rules = nil
	r.finder = &hosts.Finder{Leases: r.leases, Log: slog.New(slog.DiscardHandler)}
	r.lease(t, "10 192.168.50.10 Laptop.lan", "11 192.168.50.11 phone", "19 192.168.50.19 absent")
	for i, hardware := range []string{first, second, third} {
		r.neighbour(t, hardware, fmt.Sprintf("192.168.50.%d", 10+i), addr6(i).String())
	}
	return r
}

// lease writes the leases, each with the end of a hardware address, an address and a
// name.
func (r *blockRig) lease(t *testing.T, list ...string) {
	t.Helper()
	var text strings.Builder
	for _, l := range list {
		text.WriteString("0 02:00:00:00:00:" + l + " *\n")
	}
	if err := os.WriteFile(r.leases, []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// neighbour enters addresses into the router's neighbour table.
func (r *blockRig) neighbour(t *testing.T, hardware string, addrs ...string) {
	t.Helper()
	for _, a := range addrs {
		r.lab.Router.IP(t, "neigh", "replace", a, "lladdr", hardware, "dev", "lan0", "nud", "permanent")
	}
}

// block blocks a host.
func (r *blockRig) block(t *testing.T, h portmap.HostSelector) portmap.BlockResult {
	t.Helper()
	var set portmap.BlockResult
	err := r.lab.Router.Do(func() (err error) {
		set, err = r.Block(t.Context(), portmap.Block{Selector: portmap.Selector{Host: h}})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// ask submits a request and returns the answer. The same request by Do must get the
// same one.
func (r *blockRig) ask(t *testing.T, req portmap.Request) (got portmap.Refusal) {
	t.Helper()
	if err := r.lab.Router.Do(func() error { r.in.submit(r.Resolver, req); return nil }); err != nil {
		t.Fatal(err)
	}
	got = r.in.next(t).Refusal
	err := r.lab.Router.Do(func() error {
		a, err := r.Do(t.Context(), req)
		if a.Refusal != got {
			t.Errorf("%v by Do, %v by Submit", a.Refusal, got)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// want demands an answer to hosts that ask for themselves.
func (r *blockRig) want(t *testing.T, what string, want portmap.Refusal, clients ...string) {
	t.Helper()
	for _, a := range clients {
		if got := r.ask(t, open(netip.MustParseAddr(a), 4000)); got != want {
			t.Errorf("%s, %s asks: %v, want %v", what, a, got, want)
		}
	}
}

// TestBlocksAreBound blocks hosts by what the router knows of them.
func TestBlocksAreBound(t *testing.T) {
	addr := netip.MustParseAddr
	for _, tt := range []struct {
		what string
		host portmap.HostSelector
		want []string
	}{
		{"a neighbour", portmap.HostSelector{Addr: addr("192.168.50.10")}, []string{first}},
		{"a neighbour over IPv6", portmap.HostSelector{Addr: addr6(1)}, []string{second}},
		{"a host with a lease", portmap.HostSelector{Addr: addr("192.168.50.19")}, []string{"02:00:00:00:00:19"}},
		{"a host with a mapping", portmap.HostSelector{Addr: addr("192.168.50.13")}, []string{"02:00:00:00:00:13"}},
		{"a host of which nothing is known", portmap.HostSelector{Addr: addr("192.168.50.99")}, nil},
		{"an address on no LAN", portmap.HostSelector{Addr: addr("192.168.99.1")}, nil},
		{"a name", portmap.HostSelector{Name: "laptop"}, []string{first}},
		{"a name with a domain", portmap.HostSelector{Name: "Phone.home"}, []string{second}},
		{"a name of an absent host", portmap.HostSelector{Name: "absent"}, []string{"02:00:00:00:00:19"}},
		{"a hardware address", portmap.HostSelector{Hardware: first}, nil},
		{"every host", portmap.HostSelector{}, nil},
	} {
		r := newBlockRig(t)
		r.neighbour(t, "02:00:00:00:00:13", "192.168.50.13")
		r.want(t, "before", portmap.Granted, "192.168.50.13")
		r.lab.Router.IP(t, "neigh", "del", "192.168.50.13", "dev", "lan0")
		if got := r.block(t, tt.host).Block.Host; !slices.Equal(got.Bound, tt.want) {
			t.Errorf("%s: %+v, want %v", tt.what, got, tt.want)
		}
	}
	r := newBlockRig(t)
	for _, name := range []string{"udpp", "*"} {
		if _, err := r.Block(t.Context(), portmap.Block{Selector: portmap.Selector{Host: portmap.HostSelector{Name: name}}}); err == nil {
			t.Errorf("the name %q is of no host, and blocked", name)
		}
		if _, err := r.Delete(t.Context(), portmap.Selector{Host: portmap.HostSelector{Name: name}}); err == nil {
			t.Errorf("the name %q is of no host, and its mappings are deleted", name)
		}
	}
}

// TestBlockHoldsForTheHost blocks a host in different words, and has it ask from all
// its addresses, from new ones, and after a change of name.
func TestBlockHoldsForTheHost(t *testing.T) {
	for what, h := range map[string]portmap.HostSelector{
		"by address":          {Addr: netip.MustParseAddr("192.168.50.10")},
		"by IPv6 address":     {Addr: addr6(0)},
		"by hardware address": {Hardware: first},
		"by name":             {Name: "laptop"},
	} {
		r := newBlockRig(t)
		r.want(t, what+", before", portmap.Granted, "192.168.50.10", "2001:db8:50::10")
		if set := r.block(t, h); set.Closed != 2 {
			t.Errorf("%s: %d are closed", what, set.Closed)
		}
		const temporary = "2001:db8:50::abcd"
		r.neighbour(t, first, temporary)
		r.want(t, what, portmap.Blocked, "192.168.50.10", "2001:db8:50::10", temporary)
		r.want(t, what, portmap.Granted, "192.168.50.11", "2001:db8:50::11", "192.168.50.12", "2001:db8:50::12")
		r.neighbour(t, first, "192.168.50.60")
		r.neighbour(t, third, "192.168.50.10")
		r.lease(t, "10 192.168.50.60 other", "11 192.168.50.11 phone", "12 192.168.50.10 *")
		r.want(t, what+", after a move", portmap.Blocked, "192.168.50.60", temporary)
		old := portmap.Granted
		if h.Addr.Is4() {
			old = portmap.Blocked
		}
		r.want(t, what+", another host has the old address", old, "192.168.50.10")
		r.lease(t, "10 192.168.50.60 other", "11 192.168.50.11 laptop")
		taken := portmap.Granted
		if h.Name != "" {
			taken = portmap.Blocked
		}
		r.want(t, what+", with the name", taken, "192.168.50.11", "2001:db8:50::11")
	}
}

// TestBlockOfAHostWithAnotherHardwareAddress blocks a host that then changes its
// hardware address and keeps its IPv4 address.
func TestBlockOfAHostWithAnotherHardwareAddress(t *testing.T) {
	for what, h := range map[string]portmap.HostSelector{
		"by address": {Addr: netip.MustParseAddr("192.168.50.10")},
		"by name":    {Name: "laptop"},
	} {
		r := newBlockRig(t)
		r.block(t, h)
		const made = "02:00:00:00:00:77"
		r.neighbour(t, made, "192.168.50.10", "2001:db8:50::10", "2001:db8:50::77")
		r.want(t, what, portmap.Blocked, "192.168.50.10", "2001:db8:50::10", "2001:db8:50::77")
		r.neighbour(t, first, "192.168.50.60")
		r.want(t, what+", as before", portmap.Blocked, "192.168.50.60")
		r.want(t, what+", others", portmap.Granted, "192.168.50.11", "2001:db8:50::11", "192.168.50.12", "2001:db8:50::12")
	}
}

// TestBlockClosesWhatIsLeased blocks an absent host, of whose mapping the router knows
// nothing but the lease of its address.
func TestBlockClosesWhatIsLeased(t *testing.T) {
	for what, h := range map[string]portmap.HostSelector{
		"by name": {Name: "absent"}, "by hardware address": {Hardware: "02:00:00:00:00:19"}, "by address": {Addr: netip.MustParseAddr("192.168.50.19")},
	} {
		r := newBlockRig(t)
		for _, a := range []string{"192.168.50.19", "192.168.50.18"} {
			if got, err := r.Table.Do(t.Context(), open(netip.MustParseAddr(a), 4000)); err != nil || got.Refusal != portmap.Granted {
				t.Fatal(got, err)
			}
		}
		if set := r.block(t, h); set.Closed != 1 || len(r.List()) != 1 {
			t.Errorf("%s: %d are closed of %d", what, set.Closed, len(r.List()))
		}
	}
}

// TestBlockOfAnAddressAlone blocks an address of whose host nothing is known. When a
// host with a hardware address is refused, the block is bound to that.
func TestBlockOfAnAddressAlone(t *testing.T) {
	for what, blocked := range map[string]string{"IPv4": "192.168.50.70", "IPv6": "2001:db8:50::70"} {
		r := newBlockRig(t)
		r.block(t, portmap.HostSelector{Addr: netip.MustParseAddr(blocked)})
		r.want(t, what+", others", portmap.Granted, "192.168.50.10", "2001:db8:50::10", "192.168.50.11", "192.168.50.12")
		r.neighbour(t, third, blocked)
		if list := r.Blocks(); len(list[0].Host.Bound) > 0 {
			t.Errorf("%s: bound before it refuses: %+v", what, list[0].Host)
		}
		r.want(t, what+", the host", portmap.Blocked, blocked)
		if bound := r.bindLate(t); !slices.Equal(bound, []string{third}) {
			t.Errorf("%s: the block is bound to %v", what, bound)
		}
		r.want(t, what+", the host", portmap.Blocked, blocked, "192.168.50.12", "2001:db8:50::12")
		r.neighbour(t, third, "192.168.50.61")
		r.want(t, what+", its new address", portmap.Blocked, "192.168.50.61")
		r.want(t, what+", others", portmap.Granted, "192.168.50.10", "2001:db8:50::10")
		if n := len(r.List()); n != 3 {
			t.Errorf("%s: %d mappings are left, want those of the other hosts", what, n)
		}
	}
}

// TestBlockOfASharedHardwareAddress has hosts behind a repeater ask: a block of the
// address of one is not bound to the hardware address of all.
func TestBlockOfASharedHardwareAddress(t *testing.T) {
	r := newBlockRig(t)
	r.block(t, portmap.HostSelector{Addr: netip.MustParseAddr("192.168.50.70")})
	r.neighbour(t, third, "192.168.50.70", "192.168.50.71")
	r.lease(t, "20 192.168.50.70 one", "21 192.168.50.71 two", "12 192.168.50.12 repeater")
	r.want(t, "the host", portmap.Blocked, "192.168.50.70")
	if bound := r.bindLate(t); len(bound) > 0 {
		t.Errorf("bound to %v", bound)
	}
	r.want(t, "another one", portmap.Granted, "192.168.50.71")
}

// bindLate does what Run does after a refusal, and returns what the only block is bound
// to.
func (r *blockRig) bindLate(t *testing.T) []string {
	t.Helper()
	err := r.lab.Router.Do(func() error { r.Resolver.bindLate(t.Context(), <-r.unbound); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return r.Blocks()[0].Host.Bound
}

// TestBlockedHostAsksForAnother asks for other hosts' mappings.
func TestBlockedHostAsksForAnother(t *testing.T) {
	r := newBlockRig(t)
	r.block(t, portmap.HostSelector{Name: "laptop"})
	r.neighbour(t, first, "fe80::10")
	for _, tt := range []struct {
		client, host, to string
		want             portmap.Refusal
	}{
		{"192.168.50.10", first, "192.168.50.11", portmap.Blocked},
		{"192.168.50.11", second, "192.168.50.10", portmap.Blocked},
		{"192.168.50.11", second, "192.168.50.12", portmap.Granted},
		{"2001:db8:50::10", first, "2001:db8:50::11", portmap.Blocked},
		{"2001:db8:50::11", second, "2001:db8:50::10", portmap.Blocked},
		{"2001:db8:50::11", second, "2001:db8:50::12", portmap.Granted},
		{"fe80::10", first, "2001:db8:50::11", portmap.Blocked},
		{"fe80::11", second, "2001:db8:50::12", portmap.Granted},
		{"fe80::12", "", "2001:db8:50::12", portmap.UnknownHost},
	} {
		req := open(netip.MustParseAddr(tt.client), 4000)
		req.Internal = netip.AddrPortFrom(netip.MustParseAddr(tt.to), 4000)
		req.ClientHost, req.ThirdParty = tt.host, true
		if got := r.ask(t, req); got != tt.want {
			t.Errorf("%s asks for %s: %v, want %v", tt.client, tt.to, got, tt.want)
		}
	}
}

// TestBlockOnALinkWithoutHardwareAddresses has hosts ask on such a link under a block
// of a host on another one.
func TestBlockOnALinkWithoutHardwareAddresses(t *testing.T) {
	r := newBlockRig(t)
	lo := 0
	err := r.lab.Router.Do(func() error {
		link, err := net.InterfaceByName("lo")
		lo = link.Index
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	lan := r.lan
	r.lan = func(a netip.Addr) (hosts.LAN, bool) {
		l, ours := lan(a)
		if a == netip.MustParseAddr("192.168.50.80") || a == addr6(0x80) {
			l.Index = lo
		}
		return l, ours
	}
	r.want(t, "before", portmap.Granted, "192.168.50.80", addr6(0x80).String())
	if set := r.block(t, portmap.HostSelector{Hardware: first}); set.Closed != 0 {
		t.Errorf("%d are closed", set.Closed)
	}
	r.want(t, "a host without hardware address", portmap.Granted, "192.168.50.80", addr6(0x80).String())
	for _, m := range r.List() {
		if m.Dormant {
			t.Errorf("%v is dormant", m.Key)
		}
	}
}

// TestBlockedPinholeIsNotRenewed renews a pinhole by its UniqueID: that closes it.
func TestBlockedPinholeIsNotRenewed(t *testing.T) {
	r := newBlockRig(t)
	req := open(addr6(0), 4000)
	req.Origin, req.External = portmap.UPnP, 0
	r.lab.Router.Do(func() error { r.in.submit(r.Resolver, req); return nil })
	if got := r.in.next(t); got.Refusal != portmap.Granted {
		t.Fatal(got)
	}
	id := r.List()[0].Claims[0].ID
	set, err := r.Table.Block(t.Context(), portmap.Block{Selector: portmap.Selector{Host: portmap.HostSelector{Hardware: third}}})
	if err != nil || set.Closed != 0 {
		t.Fatal(set, err)
	}
	r.neighbour(t, third, addr6(0).String()) // now the blocked host has the address
	renewal := portmap.Request{Origin: portmap.UPnP, Client: addr6(0), ID: id, Lifetime: 1}
	r.lab.Router.Do(func() error { r.in.submit(r.Resolver, renewal); return nil })
	if got := r.in.next(t); got.Refusal != portmap.Blocked || len(r.List()) > 0 {
		t.Errorf("renewed: %v, %d pinholes are left", got.Refusal, len(r.List()))
	}
}
