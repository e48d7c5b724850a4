package portmap

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// byOrigin returns a rule for the clients of some protocols, for all hosts.
func byOrigin(allow bool, origins ...Origin) Rule {
	return Rule{Allow: allow, Network: any4, Origins: origins}
}

// behind returns a rule for the hosts behind some interfaces.
func behind(allow bool, devices ...string) Rule {
	return Rule{Allow: allow, Network: any4, Interfaces: devices}
}

// TestRulesByOrigin asks for the same by each protocol.
func TestRulesByOrigin(t *testing.T) {
	low := byOrigin(false, NATPMP)
	low.External = Ports{{1, 4999}}
	for _, tt := range []struct {
		what                            string
		rules                           []Rule
		natpmp, pcp, peer, upnp, byIPv6 Refusal
	}{
		{"no rules", nil, Granted, Granted, Granted, Granted, Granted},
		{"one may not", []Rule{byOrigin(false, UPnP)}, Granted, Granted, Granted, NotAuthorized, Granted},
		{"two may not", []Rule{byOrigin(false, NATPMP, PCP)}, NotAuthorized, NotAuthorized, NotAuthorized, Granted, NotAuthorized},
		{"one may", []Rule{byOrigin(true, PCP), byOrigin(false)}, NotAuthorized, Granted, Granted, NotAuthorized, Granted},
		{"one may not have low ports", []Rule{low}, Granted, Granted, Granted, Granted, Granted},
	} {
		al := testAllocator()
		al.policy = &Policy{Rules: tt.rules, Secure: true}
		for i, row := range []struct {
			req  Request
			want Refusal
		}{
			{ask(NATPMP, host, TCP, 4000, 4000), tt.natpmp}, {ask(PCP, host, TCP, 4001, 4001), tt.pcp}, {ask(PCP, host, TCP, 4002, 4002, toward("198.51.100.1:443")), tt.peer},
			{ask(UPnP, host, TCP, 4003, 4003), tt.upnp}, {ask(PCP, inside, TCP, 4004, 0), tt.byIPv6},
		} {
			req := row.req
			e, a := al.explain(&req), al.do(row.req)
			if a.Refusal != row.want || e.Refusal != row.want || (a.Rule != nil) != (row.want == NotAuthorized) {
				t.Errorf("%s: request %d: %v by rule %+v, explained as %v; want %v", tt.what, i, a.Refusal, a.Rule, e.Refusal, row.want)
			}
		}
		al.check(t)
	}
	al := testAllocator()
	al.policy = &Policy{Rules: []Rule{low}}
	if a := al.do(ask(NATPMP, host, TCP, 4000, 4000)); a.Refusal != Granted || a.Mapping.External < 5000 {
		t.Errorf("a port of those that the rules leave to the protocol: %+v", a)
	}
}

// TestJoinByOrigin has a protocol join, or renew, the mapping of another one.
func TestJoinByOrigin(t *testing.T) {
	al := testAllocator()
	al.policy = &Policy{Rules: []Rule{byOrigin(false, NATPMP)}, Secure: true}
	for i, tt := range []struct {
		req  Request
		want Refusal
	}{
		{ask(PCP, host, TCP, 4000, 4000), Granted}, {ask(NATPMP, host, TCP, 4000, 4000), NotAuthorized}, {ask(UPnP, host, TCP, 4000, 4000), Granted},
		{ask(PCP, host, TCP, 4000, 4000), Granted}, {ask(NATPMP, host, TCP, 4000, 4000), NotAuthorized},
	} {
		if a := al.do(tt.req); a.Refusal != tt.want {
			t.Errorf("request %d: %v, want %v", i, a.Refusal, tt.want)
		}
	}
	if m := al.index.byKey[Key{Protocol: TCP, External: 4000}]; !slices.Equal(m.Origins(), []string{"PCP", "UPnP"}) {
		t.Errorf("held by %v", m.Origins())
	}
	al.check(t)
}

// TestRulesByInterface asks from two LANs, and from one whose interface is not certain.
func TestRulesByInterface(t *testing.T) {
	second, shared := netip.MustParsePrefix("192.168.51.1/24"), netip.MustParsePrefix("192.168.52.1/24")
	client2, client3, six := netip.MustParseAddr("192.168.51.10"), netip.MustParseAddr("192.168.52.10"), netip.MustParsePrefix("2001:db8:50::1/64")
	for _, tt := range []struct {
		what                         string
		rules                        []Rule
		first, second, third, third6 Refusal
	}{
		{"denied", []Rule{behind(false, "lan0")}, NotAuthorized, Granted, NotAuthorized, NotAuthorized},
		{"allowed", []Rule{behind(true, "lan1"), byOrigin(false)}, NotAuthorized, Granted, NotAuthorized, NotAuthorized},
		{"several denied", []Rule{behind(false, "lan7", "lan1")}, Granted, NotAuthorized, NotAuthorized, Granted},
		{"of nobody", []Rule{behind(false, "lan7")}, Granted, Granted, NotAuthorized, Granted},
	} {
		al := testAllocator()
		al.policy = &Policy{Rules: tt.rules, Secure: true}
		al.setNetwork(NetworkState{
			External: wan4, LANs: []netip.Prefix{lan, six, second, shared},
			Interfaces: [][]netip.Prefix{{lan, six, shared}, {second, shared}}, Devices: []string{"lan0", "lan1"},
		})
		for i, row := range []struct {
			client netip.Addr
			want   Refusal
		}{{host, tt.first}, {client2, tt.second}, {client3, tt.third}, {inside, tt.third6}} {
			req := ask(PCP, row.client, TCP, 4000, 0)
			e, a := al.explain(&req), al.decide(&req)
			if e.Refusal != row.want || a.Refusal != row.want || e.Ambiguous != (row.client == client3) || e.HostUnknown {
				t.Errorf("%s: client %d: %v, explained as %+v; want %v", tt.what, i, a.Refusal, e, row.want)
			}
			if row.client.Is6() {
				continue
			}
			other := ask(PCP, host, TCP, 4000, 0, to(row.client, 4000), func(r *Request) { r.ThirdParty = true })
			if e := al.explain(&other); e.Refusal != row.want {
				t.Errorf("%s: for client %d: %v, want %v", tt.what, i, e.Refusal, row.want)
			}
		}
	}
}

// held describes the claims of each mapping.
func (al *allocator) held() (list []string) {
	for _, m := range al.index.order {
		text := fmt.Sprint(m.Key)
		for _, c := range m.Claims {
			text += fmt.Sprintf(" %v", c.Origin)
			if c.Outbound() {
				text += " PEER"
			}
		}
		list = append(list, text)
	}
	return list
}

// TestDeniedClaims puts rules in force that deny mappings to some of the protocols that
// hold them, while the table runs and at a start: those claims end, and the others stay.
func TestDeniedClaims(t *testing.T) {
	begin := func() *allocator {
		al := testAllocator()
		al.policy = &Policy{Secure: true}
		for _, req := range []Request{
			ask(NATPMP, host, TCP, 4000, 4000), ask(PCP, host, TCP, 4000, 4000, from("198.51.100.0/24")),
			ask(PCP, host, TCP, 4001, 4001), ask(PCP, host, TCP, 4001, 4001, toward("198.51.100.1:443")), ask(UPnP, host, TCP, 4001, 4001, lasting(0)),
			ask(UPnP, host, TCP, 4002, 4002), ask(PCP, inside, TCP, 4003, 0), ask(UPnP, inside, TCP, 4003, 0, anyPort),
		} {
			if a := al.do(req); a.Refusal != Granted {
				t.Fatalf("%+v: %v", req, a.Refusal)
			}
		}
		return al
	}
	four, one, six := "4000/TCP NAT-PMP PCP", "4001/TCP PCP PCP PEER UPnP", "[2001:db8:50::10]:4003/TCP PCP UPnP"
	some := byOrigin(false, PCP)
	some.Internal = Ports{{4000, 4000}, {4003, 4003}}
	for _, tt := range []struct {
		what string
		rule Rule
		held []string
		lost int
	}{
		{"nothing", byOrigin(true), []string{four, one, "4002/TCP UPnP", six}, 0},
		{"NAT-PMP", byOrigin(false, NATPMP), []string{"4000/TCP PCP", one, "4002/TCP UPnP", six}, 1},
		{"PCP", byOrigin(false, PCP), []string{"4000/TCP NAT-PMP", "4001/TCP UPnP", "4002/TCP UPnP", "[2001:db8:50::10]:4003/TCP UPnP"}, 3},
		{"UPnP", byOrigin(false, UPnP), []string{four, "4001/TCP PCP PCP PEER", "[2001:db8:50::10]:4003/TCP PCP"}, 3},
		{"some of PCP", some, []string{"4000/TCP NAT-PMP", one, "4002/TCP UPnP", "[2001:db8:50::10]:4003/TCP UPnP"}, 2},
		{"NAT-PMP and UPnP", byOrigin(false, NATPMP, UPnP), []string{"4000/TCP PCP", "4001/TCP PCP PCP PEER", "[2001:db8:50::10]:4003/TCP PCP"}, 4},
		{"all", byOrigin(false), nil, 4},
	} {
		al, before := begin(), begin()
		saved := slices.Clone(before.index.order)
		al.policy = &Policy{Rules: []Rule{tt.rule}, Secure: true}
		al.begin()
		d := al.recheck(noHost)
		if held := al.held(); !slices.Equal(held, tt.held) || len(d.lost) != tt.lost {
			t.Errorf("%s is denied: %v are held, want %v; lost %+v", tt.what, held, tt.held, d.lost)
		}
		for _, l := range d.lost {
			if slices.ContainsFunc(l.Mapping.Claims, func(c Claim) bool {
				return al.policy.Permits(l.Mapping.ExternalPort(), Destination{AddrPort: l.Mapping.Internal, Origin: c.Origin}, "")
			}) {
				t.Errorf("%s is denied: lost %v", tt.what, l.Mapping)
			}
		}
		al.check(t)
		al.begin()
		if d := al.recheck(noHost); len(al.changes) > 0 || len(d.lost) > 0 {
			t.Errorf("%s is denied: a second look changes %+v", tt.what, al.changes)
		}

		next := testAllocator()
		next.policy = al.policy
		d = next.restore(saved, true)
		if held := next.held(); !slices.Equal(held, tt.held) || len(d.lost) != tt.lost {
			t.Errorf("%s is denied at the start: %v are held, want %v; lost %+v", tt.what, held, tt.held, d.lost)
		}
		next.check(t)
	}
}

// TestDeniedClaimNarrows demands that the kernel's rules change with a claim that ends:
// the one that stays is for some remote hosts only.
func TestDeniedClaimNarrows(t *testing.T) {
	al := testAllocator()
	al.policy = &Policy{Secure: true}
	al.do(ask(NATPMP, host, TCP, 4000, 4000))
	al.do(ask(PCP, host, TCP, 4000, 4000, from("198.51.100.0/24")))
	al.policy = &Policy{Rules: []Rule{byOrigin(false, NATPMP)}, Secure: true}
	al.begin()
	al.recheck(noHost)
	if len(al.changes) != 1 || !al.changes[0].Alters() || len(al.changes[0].After.Filters()) != 1 {
		t.Errorf("the changes are %+v", al.changes)
	}
}

// TestClaimOfFormerHost has another host get the address of a mapping that the rules
// allow it by NAT-PMP only: the claim of UPnP, which was another host's, ends.
func TestClaimOfFormerHost(t *testing.T) {
	al := testAllocator()
	byNamed := byHardware(true, named)
	byNamed.Origins = []Origin{UPnP}
	al.policy = &Policy{Rules: []Rule{byNamed, byOrigin(true, NATPMP), byOrigin(false)}, Secure: true}
	al.do(ask(UPnP, host, TCP, 4000, 4000, of(named), lasting(0)))
	if a := al.do(ask(NATPMP, host, TCP, 4000, 4000, of(named))); a.Refusal != Granted || len(a.Mapping.Claims) != 2 {
		t.Fatalf("by both protocols: %+v", a)
	}
	if a := al.do(ask(UPnP, host, TCP, 4000, 4000, of(otherHardware))); a.Refusal != NotAuthorized {
		t.Errorf("another host by UPnP: %v", a.Refusal)
	}
	if a := al.do(ask(NATPMP, host, TCP, 4000, 4000, of(otherHardware))); a.Refusal != Granted || !slices.Equal(a.Mapping.Origins(), []string{"NAT-PMP"}) {
		t.Errorf("another host by NAT-PMP: %+v", a)
	}
	al.check(t)
}

// TestUncertainClaims restores a mapping that the rules allow for certain by one of its
// protocols only: it is dormant until its host is known.
func TestUncertainClaims(t *testing.T) {
	byNamed := byHardware(true, named)
	byNamed.Origins = []Origin{UPnP}
	rules := []Rule{byNamed, byOrigin(true, NATPMP), byOrigin(false)}
	for hardware, want := range map[string]string{named: "4000/TCP NAT-PMP UPnP", otherHardware: "4000/TCP NAT-PMP"} {
		al := testAllocator()
		al.policy = &Policy{Rules: rules, Secure: true}
		al.restore([]*Mapping{{
			Key: Key{Protocol: TCP, External: 4000}, Internal: netip.AddrPortFrom(host, 4000),
			Claims: []Claim{{Origin: NATPMP, Expires: time.Now().Add(time.Hour)}, {Origin: UPnP}},
		}}, true)
		if m := al.index.order[0]; m.Reason != UnknownHost || len(m.Claims) != 2 {
			t.Errorf("while the host is not known: %+v", m)
		}
		al.recheck(func(netip.Addr) (Host, bool) { return Host{Hardware: hardware}, true })
		if m := al.index.order[0]; m.Dormant || al.held()[0] != want {
			t.Errorf("once the host is known: %v, dormant %v, want %v", al.held(), m.Dormant, want)
		}
		al.check(t)
	}
}
