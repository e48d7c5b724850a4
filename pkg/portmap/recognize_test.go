package portmap_test

import (
	"net/netip"
	"testing"
	"time"

	"igdd/pkg/portmap"
	"igdd/pkg/portmap/portmaptest"
)

// host6 is the IPv6 address of the host that rules know as client(0).
var host6 = netip.MustParseAddr("2001:db8:50::10")

// namesOne is a policy that allows one host only.
func namesOne(host netip.Addr) portmap.Policy {
	all := portmap.Ports{{Last: 65535}}
	return portmap.Policy{Secure: true, Rules: []portmap.Rule{
		{Allow: true, External: all, Network: host, Mask: ^uint32(0), Internal: all},
		{External: all, Network: netip.IPv4Unspecified(), Internal: all},
	}}
}

// storedPinhole returns a store with a pinhole of host6.
func storedPinhole(t *testing.T) *portmaptest.Store {
	t.Helper()
	store, to := new(portmaptest.Store), netip.AddrPortFrom(host6, 4000)
	m := &portmap.Mapping{
		Key: portmap.Key{Protocol: portmap.TCP, Pinhole: to}, Internal: to, Host: portmap.Host{Hardware: "02:00:00:00:00:10"}, Serial: 1,
		Claims: []portmap.Claim{{Origin: portmap.PCP, Expires: time.Now().Add(time.Hour)}},
	}
	if err := store.Save([]portmap.Change{{After: m}}); err != nil {
		t.Fatal(err)
	}
	return store
}

// onlyMapping returns the table's only mapping.
func (r *tableRig) onlyMapping(t *testing.T) *portmap.Mapping {
	t.Helper()
	list := r.List()
	if len(list) != 1 {
		t.Fatalf("the table has %d mappings", len(list))
	}
	return list[0]
}

// recognize sets the IPv4 addresses of host6 in the table.
func (r *tableRig) recognize(t *testing.T, ipv4 ...netip.Addr) {
	t.Helper()
	h := portmap.Host{Hardware: "02:00:00:00:00:10", IPv4: ipv4}
	if err := r.Recognize(t.Context(), func(a netip.Addr) (portmap.Host, bool) { return h, a == host6 }); err != nil {
		t.Fatal(err)
	}
}

func TestRecognizeWakes(t *testing.T) {
	firewall := new(portmaptest.Firewall)
	r := newTableRigWith(t, namesOne(client(0)), firewall, storedPinhole(t))
	if !r.onlyMapping(t).Dormant {
		t.Fatal("in force before its host is known")
	}
	r.recognize(t)
	if batches := firewall.Batches(); !r.onlyMapping(t).Dormant || batches != 0 {
		t.Fatalf("a host without known addresses: %d transactions", batches)
	}
	resets := r.resets
	r.recognize(t, client(0))
	if batches := firewall.Batches(); r.onlyMapping(t).Dormant || batches != 1 || r.resets != resets {
		t.Errorf("when its host is known: %d transactions, %d epochs", batches, r.resets-resets)
	}
	r.checkAgreement(t, 1)
}

func TestRecognizeCloses(t *testing.T) {
	r := newTableRigWith(t, namesOne(client(0)), new(portmaptest.Firewall), storedPinhole(t))
	r.recognize(t, client(1))
	r.checkAgreement(t, 0)
}

// TestNewRulesMakeDormant changes the rules under a pinhole whose host did not
// matter when it was made.
func TestNewRulesMakeDormant(t *testing.T) {
	r := newTableRig(t, new(portmaptest.Firewall), new(portmaptest.Store))
	r.grant(t, open(host6, 4000, time.Hour))
	resets, policy := r.resets, namesOne(client(0))
	if err := r.SetPolicy(t.Context(), &policy); err != nil {
		t.Fatal(err)
	}
	if !r.onlyMapping(t).Dormant || r.resets != resets+1 {
		t.Errorf("%+v, %d epochs", r.onlyMapping(t), r.resets-resets)
	}
	resets = r.resets
	r.recognize(t, client(0))
	if r.onlyMapping(t).Dormant || r.resets != resets {
		t.Errorf("when its host is known: %+v, %d epochs", r.onlyMapping(t), r.resets-resets)
	}
}

// TestNetworkThatComesLate has the LAN get its IPv4 network after the start.
func TestNetworkThatComesLate(t *testing.T) {
	policy := namesOne(gateway.Addr())
	policy.Rules[0].Mask = 0xffffff00
	r := newTableRigWith(t, policy, new(portmaptest.Firewall), storedPinhole(t))
	if r.onlyMapping(t).Dormant {
		t.Fatal("rules for the whole LAN wait for a host")
	}
	r = newTableRigWith(t, namesOne(client(0)), new(portmaptest.Firewall), storedPinhole(t))
	late := portmap.NetworkState{External: wan, LANs: []netip.Prefix{gateway6}}
	if err := r.SetNetworkState(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	if err := r.SetPolicy(t.Context(), &policy); err != nil {
		t.Fatal(err)
	}
	if !r.onlyMapping(t).Dormant {
		t.Fatal("in force though it is not known which network the LAN has")
	}
	late.LANs = append(late.LANs, gateway)
	if err := r.SetNetworkState(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	if r.onlyMapping(t).Dormant {
		t.Error("dormant though the rules are for the whole LAN")
	}
}
