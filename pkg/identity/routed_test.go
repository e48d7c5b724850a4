package identity

import (
	"net/netip"
	"testing"

	"igdd/pkg/hosts"
	"igdd/pkg/netlab"
	"igdd/pkg/portmap"
)

// TestHiddenFromRoutedHosts hides from hosts behind another router by the rules for their
// own networks, over IPv6 too, and has the kernel look for none of them.
func TestHiddenFromRoutedHosts(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{Clients: 2, IPv6: true})
	r := newLabResolver(t, lab)
	four, six := netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("2001:db8:51::/64")
	lan0, onLAN := r.index("lan0"), r.lan
	r.finder.Routed = func(index int) []netip.Prefix { return []netip.Prefix{four, six} }
	r.at = func(index int) hosts.LAN { return hosts.LAN{Index: index, Networks: []netip.Prefix{lan4.Masked()}} }
	r.lan = func(a netip.Addr) (hosts.LAN, bool) {
		if four.Contains(a) || six.Contains(a) {
			return hosts.LAN{Index: lan0, Networks: []netip.Prefix{four}}, true
		}
		return onLAN(a)
	}
	for what, tt := range map[string]struct {
		allowed netip.Prefix
		may     bool
	}{"the LAN alone": {lan4.Masked(), false}, "the routed network": {four, true}} {
		policy := portmap.Policy{Secure: true, Rules: []portmap.Rule{
			{Allow: true, Network: tt.allowed.Addr(), Mask: 0xffffff00},
			{Network: netip.IPv4Unspecified()},
		}}
		r.policy = func() *portmap.Policy { return &policy }
		for _, a := range []string{"10.1.0.2", "2001:db8:51::2"} {
			lab.Router.Do(func() error {
				if got := r.MayHavePorts(lan0, netip.MustParseAddr(a)); got != tt.may {
					t.Errorf("%s, with %s allowed: %v", a, what, got)
				}
				return nil
			})
		}
	}
}
