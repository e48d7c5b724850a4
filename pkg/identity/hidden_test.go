package identity

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"igdd/pkg/hosts"
	"igdd/pkg/netlab"
	"igdd/pkg/portmap"
)

// newHiddenRig returns a Resolver for the hosts of a lab's two LANs, and what it
// answers about an address on one of them.
func newHiddenRig(t *testing.T, rules ...portmap.Rule) (*netlab.Lab, func(device, a string) bool) {
	t.Helper()
	lab := netlab.NewLab(t, netlab.Layout{Clients: 2, IPv6: true, SecondLAN: true})
	r := newLabResolver(t, lab)
	r.at = func(index int) hosts.LAN {
		if index == r.index("lan1") {
			return hosts.LAN{Index: index, Networks: []netip.Prefix{netlab.RouterLAN2.Masked()}}
		}
		return hosts.LAN{Index: index, Networks: []netip.Prefix{lan4.Masked()}}
	}
	all := portmap.Ports{{Last: 65535}}
	r.policy().Rules = append(rules, portmap.Rule{External: all, Network: netip.IPv4Unspecified(), Internal: all})
	return lab, func(device, a string) (may bool) {
		lab.Router.Do(func() error { may = r.MayHavePorts(r.index(device), netip.MustParseAddr(a)); return nil })
		return may
	}
}

// allowed returns a rule that allows a single IPv4 address all ports.
func allowed(a string) portmap.Rule {
	all := portmap.Ports{{Last: 65535}}
	return portmap.Rule{Allow: true, External: all, Network: netip.MustParseAddr(a), Mask: ^uint32(0), Internal: all}
}

// TestSameAddressOnTwoLANs has hosts on two LANs that have the same link-local
// address, one of which may have ports.
func TestSameAddressOnTwoLANs(t *testing.T) {
	lab, may := newHiddenRig(t, allowed("192.168.50.10"))
	const shared = "fe80::10"
	for _, neighbour := range []string{
		shared + " lladdr 02:00:00:00:00:10 dev lan0", "192.168.50.10 lladdr 02:00:00:00:00:10 dev lan0", shared + " lladdr 02:00:00:00:00:60 dev lan1",
	} {
		lab.Router.IP(t, append(strings.Fields("neigh replace "+neighbour), "nud", "permanent")...)
	}
	for range 2 {
		if !may("lan0", shared) {
			t.Error("the host that may have ports is hidden from")
		}
		if may("lan1", shared) {
			t.Error("the host that may have none is not")
		}
	}
}

// TestNamedHostBecomesKnown asks about the IPv6 addresses of two hosts, of which
// nothing is known but their hardware addresses: the one that a rule names by its
// IPv4 address is found by what the first question started.
func TestNamedHostBecomesKnown(t *testing.T) {
	lab, may := newHiddenRig(t, allowed("192.168.50.10"))
	for i, c := range lab.Clients {
		lab.Router.IP(t, "neigh", "replace", addr6(i).String(), "lladdr", hardwareAddr(t, c), "dev", "lan0", "nud", "permanent")
	}
	lab.Router.IP(t, "-4", "neigh", "flush", "dev", "lan0")
	if may("lan0", addr6(0).String()) {
		t.Error("a host counts as one that may have ports before it is known")
	}
	for end := time.Now().Add(15 * time.Second); !may("lan0", addr6(0).String()); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the host is not known after 15 seconds")
		}
	}
	if may("lan0", addr6(1).String()) {
		t.Error("the other host may have ports")
	}
}

// hardwareAddr returns the hardware address of a host.
func hardwareAddr(t *testing.T, host *netlab.Namespace) (a string) {
	t.Helper()
	err := host.Do(func() error {
		link, err := net.InterfaceByName("eth0")
		if err == nil {
			a = link.HardwareAddr.String()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}
