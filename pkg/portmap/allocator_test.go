package portmap

import (
	"cmp"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"testing"
	"time"
)

var (
	lan  = netip.MustParsePrefix("192.168.50.1/24")
	host = netip.MustParseAddr("192.168.50.10")
	peer = netip.MustParseAddr("192.168.50.11")
	any4 = netip.IPv4Unspecified()
	wan4 = netip.MustParseAddr("11.22.33.44")

	inside = netip.MustParseAddr("2001:db8:50::10")
)

// testPolicy is the rule set of the protocol vectors.
func testPolicy() *Policy {
	high := Ports{{1024, 65535}}
	return &Policy{
		Rules: []Rule{
			{Allow: true, External: high, Network: lan.Addr(), Mask: 0xffffff00, Internal: Ports{{9, 9}}},
			{Allow: true, External: high, Network: lan.Addr(), Mask: 0xffffff00, Internal: high},
			{External: Ports{{0, 65535}}, Network: any4, Internal: Ports{{0, 65535}}},
		},
		Secure:      true,
		MinLifetime: 120 * time.Second,
		MaxLifetime: 86400 * time.Second,
	}
}

func testAllocator() *allocator {
	al := newAllocator(testOptions())
	al.lastID = 0 // the first pinhole has UniqueID 1
	al.begin()
	return &al
}

func testOptions() Options {
	return Options{
		Policy:    testPolicy(),
		Network:   NetworkState{External: wan4, LANs: []netip.Prefix{lan, netip.MustParsePrefix("2001:db8:50::1/64")}},
		Listening: func(_ Protocol, port uint16) bool { return port == 8443 },
		Listeners: func(Protocol) *PortSet { return portsOf(PortRange{8443, 8443}) },
	}
}

// portsOf returns the set of the ports of ranges.
func portsOf(list ...PortRange) *PortSet {
	s := new(PortSet)
	for _, r := range list {
		s.AddRange(r)
	}
	return s
}

func (al *allocator) do(req Request) Answer { return al.decide(&req) }

// ask returns a request as a protocol's server makes it, with changes.
func ask(o Origin, client netip.Addr, p Protocol, internal, external uint16, change ...func(*Request)) Request {
	req := Request{
		Origin: o, Client: client, ClientHost: client.String(), Protocol: p, Internal: netip.AddrPortFrom(client, internal),
		External: external, Lifetime: time.Hour, Exact: o == UPnP,
	}
	for _, c := range change {
		c(&req)
	}
	return req
}

func closing(r *Request) { r.Op = Close }
func keeping(r *Request) { r.KeepFilters = true }
func called(text string) func(*Request) {
	return func(r *Request) { r.Description = text }
}
func anyPort(r *Request) { r.Exact = false }
func exactly(r *Request) { r.Exact = true }
func nonce(b byte) func(*Request) {
	return func(r *Request) { r.Nonce = Nonce{b} }
}
func lasting(d time.Duration) func(*Request) { return func(r *Request) { r.Lifetime = d } }
func to(a netip.Addr, port uint16) func(*Request) {
	return func(r *Request) { r.Internal = netip.AddrPortFrom(a, port) }
}
func from(prefixes ...string) func(*Request) {
	return func(r *Request) {
		for _, p := range prefixes {
			r.Filters = append(r.Filters, Filter{Prefix: netip.MustParsePrefix(p)})
		}
	}
}
func toward(peer string) func(*Request) {
	return func(r *Request) { r.Remote = netip.MustParseAddrPort(peer) }
}
func at(a string) func(*Request)       { return func(r *Request) { r.ExternalAddr = netip.MustParseAddr(a) } }
func until(last uint16) func(*Request) { return func(r *Request) { r.Last = last } }

// outcome is the result of a request; External 0 and Lifetime 0 are not
// compared.
type outcome struct {
	Refusal  Refusal
	External uint16
	Lifetime time.Duration
	Closed   int
}

func TestAllocator(t *testing.T) {
	type step struct {
		Request
		outcome
	}
	ok := func(external uint16) outcome { return outcome{External: external} }
	no := func(r Refusal) outcome { return outcome{Refusal: r} }
	closed := func(n int) outcome { return outcome{Closed: n} }
	tests := []struct {
		name  string
		set   func(*allocator)
		steps []step
	}{
		{name: "a free suggestion is granted", steps: []step{
			{ask(NATPMP, host, UDP, 40000, 41000), ok(41000)},
		}},
		{name: "no suggestion gives the internal port", steps: []step{
			{ask(NATPMP, host, UDP, 40000, 0), ok(40000)},
			{ask(NATPMP, peer, UDP, 40000, 0), ok(40001)},
		}},
		{name: "no suggestion and a low internal port gives a high port", steps: []step{
			{ask(NATPMP, host, UDP, 9, 0), ok(1024)},
		}},
		{name: "a taken suggestion gives the next free port", steps: []step{
			{ask(PCP, host, TCP, 40000, 40000), ok(40000)},
			{ask(PCP, peer, TCP, 50000, 40000), ok(50000)},
		}},
		{name: "one target has one port in all protocols", steps: []step{
			{ask(PCP, host, UDP, 40000, 40000), ok(40000)},
			{ask(NATPMP, host, UDP, 40000, 45000), ok(40000)},
			{ask(UPnP, host, UDP, 40000, 45000, anyPort), ok(40000)},
			{ask(NATPMP, host, UDP, 40000, 0, closing), closed(1)},
			{ask(PCP, host, UDP, 40000, 0), ok(40000)},
		}},
		{name: "UPnP may open a second port to one target", steps: []step{
			{ask(UPnP, host, TCP, 8000, 8000), ok(8000)},
			{ask(UPnP, host, TCP, 8000, 8001), ok(8001)},
		}},
		{name: "the same port of the other protocol is reserved for its host", steps: []step{
			{ask(NATPMP, host, TCP, 40000, 40000), ok(40000)},
			{ask(NATPMP, peer, UDP, 40000, 40000), ok(40001)},
			{ask(NATPMP, host, UDP, 40000, 40000), ok(40000)},
		}},
		{name: "NAT-PMP gets no port whose companion another host has", steps: []step{
			{ask(UPnP, host, UDP, 40000, 40000), ok(40000)},
			{ask(PCP, host, UDP, 40001, 40001), ok(40001)},
			{ask(PCP, host, UDP, 40002, 40002, toward("9.9.9.9:443")), ok(40002)},
			{ask(NATPMP, host, UDP, 40003, 40003), ok(40003)},
			{ask(NATPMP, peer, TCP, 40000, 40000), ok(40004)},
			{ask(NATPMP, peer, UDP, 40004, 0), ok(40004)},
			{ask(NATPMP, host, TCP, 40000, 40000), ok(40000)},
		}},
		{name: "no protocol gets the companion of a NAT-PMP port", steps: []step{
			{ask(NATPMP, host, TCP, 40000, 40000), ok(40000)},
			{ask(UPnP, peer, UDP, 40000, 40000), no(Conflict)},
			{ask(UPnP, peer, UDP, 40000, 40000, anyPort), ok(40001)},
			{ask(PCP, peer, UDP, 40002, 40000, exactly), no(Conflict)},
			{ask(PCP, peer, UDP, 40002, 40000), ok(40002)},
			{ask(PCP, peer, UDP, 40003, 40000, toward("9.9.9.9:443")), no(Conflict)},
			{ask(NATPMP, host, TCP, 40000, 0, closing), closed(1)},
			{ask(UPnP, peer, UDP, 40000, 40000), ok(40000)},
		}},
		{name: "a search leaves the companions of its own ports to the host's other requests", set: func(al *allocator) {
			for i := range al.policy.Rules[:2] {
				al.policy.Rules[i].External = Ports{{2000, 2001}}
			}
		}, steps: []step{
			{ask(NATPMP, host, TCP, 5000, 2000), ok(2000)},
			{ask(NATPMP, peer, TCP, 5000, 2001), ok(2001)},
			{ask(NATPMP, host, UDP, 5001, 2001), no(NoPorts)},
			{ask(UPnP, host, UDP, 5001, 2001, anyPort), no(NoPorts)},
			{ask(NATPMP, host, UDP, 5000, 2000), ok(2000)},
		}},
		{name: "a companion in hold-down is kept from NAT-PMP", steps: []step{
			{ask(PCP, host, UDP, 40000, 40000), ok(40000)},
			{ask(PCP, host, UDP, 40000, 0, closing), closed(1)},
			{ask(NATPMP, peer, TCP, 40000, 40000), ok(40001)},
			{ask(UPnP, peer, TCP, 40000, 40000), ok(40000)},
			{ask(PCP, host, UDP, 40000, 40000), ok(40000)},
		}},
		{name: "UPnP keeps protocols apart", steps: []step{
			{ask(UPnP, host, TCP, 3074, 3074), ok(3074)},
			{ask(UPnP, peer, UDP, 3074, 3074), ok(3074)},
		}},
		{name: "exact requests do not move", steps: []step{
			{ask(UPnP, host, TCP, 80, 80), no(NotAuthorized)},
			{ask(UPnP, host, TCP, 8080, 8080), ok(8080)},
			{ask(UPnP, peer, TCP, 8080, 8080), no(Conflict)},
			{ask(PCP, peer, TCP, 8080, 8080, exactly), no(Conflict)},
			{ask(UPnP, peer, TCP, 8443, 8443), no(PortInUse)},
			{ask(UPnP, peer, UDP, 5351, 5351), no(PortInUse)},
		}},
		{name: "the same client overwrites its UPnP entry", steps: []step{
			{ask(UPnP, host, TCP, 8080, 8080), ok(8080)},
			{ask(UPnP, host, TCP, 8081, 8080), ok(8080)},
			{ask(UPnP, host, TCP, 8082, 8080, from("9.9.9.9/32")), no(Conflict)},
		}},
		{name: "an entry that PCP holds too is not moved", steps: []step{
			{ask(UPnP, host, TCP, 8080, 8080), ok(8080)},
			{ask(PCP, host, TCP, 8080, 0), ok(8080)},
			{ask(UPnP, host, TCP, 8081, 8080), no(Conflict)},
		}},
		{name: "the nonce proves ownership", steps: []step{
			{ask(PCP, host, UDP, 40000, 40000, nonce(1)), ok(40000)},
			{ask(PCP, host, UDP, 40000, 40000, nonce(2)), no(NotOwner)},
			{ask(PCP, host, UDP, 40000, 0, closing, nonce(2)), no(NotOwner)},
			{ask(NATPMP, host, UDP, 40000, 0, closing), no(NotOwner)},
			{ask(PCP, host, UDP, 40000, 0, closing, nonce(1)), closed(1)},
			{ask(PCP, host, UDP, 40000, 0, closing, nonce(1)), closed(0)},
		}},
		{name: "delete all keeps the other protocol and other clients", steps: []step{
			{ask(NATPMP, host, UDP, 40000, 0), ok(40000)},
			{ask(NATPMP, host, UDP, 40001, 0), ok(40001)},
			{ask(NATPMP, host, TCP, 40002, 0), ok(40002)},
			{ask(NATPMP, peer, UDP, 40003, 0), ok(40003)},
			{ask(NATPMP, host, UDP, 0, 0, closing), closed(2)},
			{ask(NATPMP, host, TCP, 0, 0, closing), closed(1)},
			{ask(NATPMP, peer, UDP, 0, 0, closing), closed(1)},
		}},
		{name: "a delete succeeds whatever other claims the target has", steps: []step{
			{ask(UPnP, host, TCP, 8000, 8000), ok(8000)},
			{ask(NATPMP, host, TCP, 8000, 0), ok(8000)},
			{ask(UPnP, host, TCP, 8000, 8001), ok(8001)},
			{ask(NATPMP, host, TCP, 8000, 0, closing), closed(1)},
			{ask(NATPMP, host, TCP, 8000, 0, closing), no(NotOwner)},
		}},
		{name: "delete all that meets another protocol's claim deletes the rest", steps: []step{
			{ask(NATPMP, host, UDP, 40000, 0), ok(40000)},
			{ask(PCP, host, UDP, 40001, 0), ok(40001)},
			{ask(NATPMP, host, UDP, 0, 0, closing), outcome{Refusal: NotOwner, Closed: 1}},
		}},
		{name: "UPnP deletes by port its own entries only", steps: []step{
			{ask(UPnP, host, TCP, 8080, 8080), ok(8080)},
			{ask(UPnP, peer, TCP, 0, 8080, closing), no(NotOwner)},
			{ask(UPnP, host, TCP, 0, 8081, closing), no(NotFound)},
			{ask(UPnP, host, TCP, 0, 8080, closing, from("9.9.9.9/32")), no(NotFound)},
			{ask(UPnP, host, TCP, 0, 8080, closing), closed(1)},
			{ask(UPnP, host, TCP, 0, 8080, closing), no(NotFound)},
		}},
		{name: "UPnP deletes a range, skipping others", steps: []step{
			{ask(UPnP, host, TCP, 9000, 9000), ok(9000)},
			{ask(UPnP, peer, TCP, 9001, 9001), ok(9001)},
			{ask(UPnP, host, TCP, 9002, 9002, from("9.9.9.9/32")), ok(9002)},
			{ask(UPnP, host, TCP, 0, 8999, closing, until(65535)), closed(2)},
			{ask(UPnP, host, TCP, 0, 8999, closing, until(9010)), no(NotOwner)},
		}},
		{name: "secure mode keeps clients to themselves", steps: []step{
			{ask(UPnP, host, TCP, 8080, 8080, to(peer, 8080)), no(NotOwner)},
			{ask(PCP, host, TCP, 8080, 8080, to(peer, 8080), func(r *Request) { r.ThirdParty = true }), ok(8080)},
		}},
		{name: "without secure mode a target must still be a host", set: func(al *allocator) { al.policy.Secure = false }, steps: []step{
			{ask(UPnP, host, TCP, 8080, 8080, to(peer, 8080)), ok(8080)},
			{ask(UPnP, host, TCP, 8081, 8081, to(lan.Addr(), 8081)), no(BadTarget)},
			{ask(UPnP, host, TCP, 8081, 8081, to(netip.MustParseAddr("192.168.50.255"), 8081)), no(BadTarget)},
			{ask(UPnP, host, TCP, 8081, 8081, to(netip.MustParseAddr("192.168.50.0"), 8081)), no(BadTarget)},
			{ask(UPnP, host, TCP, 8081, 8081, to(netip.MustParseAddr("127.0.0.1"), 8081)), no(BadTarget)},
			{ask(UPnP, host, TCP, 8081, 8081, to(netip.MustParseAddr("8.8.8.8"), 8081)), no(BadTarget)},
		}},
		{name: "port 0 is no target", steps: []step{
			{ask(NATPMP, host, UDP, 0, 40000), no(BadTarget)},
		}},
		{name: "no external address", set: func(al *allocator) { al.network.External = netip.Addr{} }, steps: []step{
			{ask(NATPMP, host, UDP, 40000, 40000), no(NoExternalAddress)},
			{ask(NATPMP, host, UDP, 40000, 0, closing), closed(0)},
			{ask(PCP, netip.MustParseAddr("2001:db8:50::10"), TCP, 8080, 0), outcome{}},
		}},
		{name: "rules refuse an internal port", steps: []step{
			{ask(NATPMP, host, TCP, 80, 40080), no(NotAuthorized)},
			{ask(NATPMP, host, TCP, 40080, 80), ok(40080)},
		}},
		{name: "lifetimes", steps: []step{
			{ask(NATPMP, host, UDP, 40000, 0, lasting(time.Minute)), outcome{Lifetime: time.Minute}},
			{ask(NATPMP, host, UDP, 40001, 0, lasting(1<<32*time.Second)), outcome{Lifetime: 24 * time.Hour}},
			{ask(PCP, host, UDP, 40002, 0, lasting(time.Second)), outcome{Lifetime: 2 * time.Minute}},
			{ask(UPnP, host, UDP, 40003, 40003, lasting(1000000*time.Hour)), outcome{Lifetime: 1000000 * time.Hour}},
		}},
		{name: "quotas do not apply to renewals", set: func(al *allocator) { al.policy.MaxPerHost, al.policy.MaxTotal = 2, 3 }, steps: []step{
			{ask(NATPMP, host, UDP, 40000, 0), ok(40000)},
			{ask(NATPMP, host, UDP, 40001, 0), ok(40001)},
			{ask(NATPMP, host, UDP, 40002, 0), no(QuotaExceeded)},
			{ask(NATPMP, host, UDP, 40000, 0), ok(40000)},
			{ask(NATPMP, peer, UDP, 40003, 0), ok(40003)},
			{ask(NATPMP, peer, UDP, 40004, 0), no(TableFull)},
		}},
		{name: "a static forward answers and stays", set: func(al *allocator) {
			al.network.Forwards = []Forward{{Protocol: TCP, External: PortRange{18080, 18080}, Target: netip.AddrPortFrom(host, 8080)}}
		}, steps: []step{
			{ask(NATPMP, host, TCP, 8080, 9999), ok(18080)},
			{ask(NATPMP, host, TCP, 8080, 0, closing), no(NotOwner)},
			{ask(NATPMP, host, TCP, 0, 0, closing), no(NotOwner)},
			{ask(PCP, host, TCP, 8080, 9999, exactly), no(Conflict)},
			{ask(NATPMP, peer, TCP, 18080, 18080), ok(18081)},
			{ask(UPnP, host, TCP, 18080, 18080), no(Forwarded)},
		}},
		{name: "a forward by many ports is no answer", set: func(al *allocator) {
			al.network.Forwards = []Forward{{Protocol: UDP, External: PortRange{18080, 18090}, Target: netip.AddrPortFrom(host, 8080)}}
		}, steps: []step{
			{ask(NATPMP, host, UDP, 8080, 18080), ok(18091)},
			{ask(NATPMP, host, UDP, 8080, 0, closing), closed(1)},
			{ask(PCP, host, UDP, 8080, 9999), ok(9999)},
		}},
		{name: "a forward of every port is an answer by none that the rules forbid", set: func(al *allocator) {
			al.network.Forwards = []Forward{{Protocol: UDP, External: PortRange{1, 65535}, Target: netip.AddrPortFrom(host, 5060)}}
		}, steps: []step{
			{ask(PCP, host, UDP, 5060, 5060), no(NoPorts)},
			{ask(PCP, host, UDP, 5060, 0, closing), closed(0)},
		}},
		{name: "a forward by a port that the rules forbid is no answer", set: func(al *allocator) {
			al.network.Forwards = []Forward{
				{Protocol: TCP, External: PortRange{80, 80}, Target: netip.AddrPortFrom(host, 8080)},
				{Protocol: TCP, External: PortRange{1000, 1100}, Target: netip.AddrPortFrom(host, 0)},
			}
		}, steps: []step{
			{ask(NATPMP, host, TCP, 8080, 8080), ok(8080)},
			{ask(NATPMP, host, TCP, 1000, 2000), no(NotAuthorized)},
			{ask(NATPMP, host, TCP, 1050, 2000), ok(1050)},
			{ask(NATPMP, host, TCP, 1050, 0, closing), no(NotOwner)},
		}},
		{name: "of two forwards the one that the rules permit answers", set: func(al *allocator) {
			al.network.Forwards = []Forward{
				{Protocol: TCP, External: PortRange{80, 80}, Target: netip.AddrPortFrom(host, 8080)},
				{Protocol: TCP, External: PortRange{18080, 18080}, Target: netip.AddrPortFrom(host, 8080)},
			}
		}, steps: []step{
			{ask(NATPMP, host, TCP, 8080, 8080), ok(18080)},
		}},
		{name: "a forward by a blocked port is no answer", set: func(al *allocator) {
			al.network.Forwards = []Forward{{Protocol: TCP, External: PortRange{18080, 18080}, Target: netip.AddrPortFrom(host, 8080)}}
			al.block(blockOf(Selector{External: PortRange{18080, 18080}}))
		}, steps: []step{
			{ask(NATPMP, host, TCP, 8080, 8080), ok(8080)},
		}},
		{name: "a forward to more than one target is no answer", set: func(al *allocator) {
			al.network.Forwards = []Forward{{Protocol: TCP, External: PortRange{18080, 18080}}}
		}, steps: []step{
			{ask(NATPMP, host, TCP, 18080, 18080), ok(18081)},
		}},
		{name: "a port is held down for others after PCP", steps: []step{
			{ask(PCP, host, UDP, 40000, 40000), ok(40000)},
			{ask(PCP, host, UDP, 40000, 0, closing), closed(1)},
			{ask(UPnP, peer, UDP, 40000, 40000), no(HeldDown)},
			{ask(PCP, peer, UDP, 40000, 40000, exactly), no(HeldDown)},
			{ask(PCP, peer, UDP, 40000, 40000), ok(40001)},
			{ask(PCP, host, UDP, 40000, 40000), ok(40000)},
		}},
		{name: "a host has a limited number of ports in hold-down", steps: func() []step {
			var steps []step
			for port := range uint16(maxHeldPerHost + 1) {
				steps = append(steps,
					step{ask(PCP, host, UDP, 2000+port, 2000+port), ok(2000 + port)},
					step{ask(PCP, host, UDP, 2000+port, 0, closing), closed(1)})
			}
			return append(steps,
				step{ask(UPnP, peer, UDP, 2000, 2000), no(HeldDown)},
				step{ask(UPnP, peer, UDP, 2000+maxHeldPerHost, 2000+maxHeldPerHost), ok(2000 + maxHeldPerHost)})
		}()},
		{name: "an outbound mapping shares its port with inbound ones", steps: []step{
			{ask(PCP, host, TCP, 40000, 41000, toward("9.9.9.9:443")), ok(41000)},
			{ask(PCP, host, TCP, 40000, 0, toward("9.9.9.9:444")), ok(41000)},
			{ask(PCP, host, TCP, 40000, 42000, toward("9.9.9.9:445")), no(Conflict)},
			{ask(PCP, host, TCP, 40000, 42000, toward("9.9.9.9:443")), ok(41000)},
			{ask(PCP, host, TCP, 40000, 42000), ok(41000)},
			{ask(UPnP, host, TCP, 40000, 41000), ok(41000)},
			{ask(PCP, peer, TCP, 40000, 41000, toward("9.9.9.9:443")), no(Conflict)},
			{ask(PCP, host, TCP, 40000, 0, closing), closed(1)},
			{ask(PCP, host, TCP, 40000, 0, closing), no(NotOwner)},
			{ask(UPnP, host, TCP, 0, 41000, closing), closed(1)},
			{ask(UPnP, peer, TCP, 41000, 41000), no(Conflict)},
		}},
		{name: "an outbound mapping is its owner's", steps: []step{
			{ask(PCP, host, TCP, 40000, 0, toward("9.9.9.9:443"), nonce(1)), ok(40000)},
			{ask(PCP, host, TCP, 40000, 0, toward("9.9.9.9:443"), nonce(2)), no(NotOwner)},
			{ask(PCP, host, TCP, 40000, 0, toward("9.9.9.9:80"), nonce(2)), ok(40000)},
			{ask(PCP, host, TCP, 40000, 0, nonce(3)), ok(40000)},
		}},
		{name: "an outbound mapping never ends earlier", steps: []step{
			{ask(PCP, host, TCP, 40000, 0, toward("9.9.9.9:443"), lasting(0)), outcome{Lifetime: 2 * time.Minute}},
			{ask(PCP, host, TCP, 40000, 0, toward("9.9.9.9:443")), outcome{Lifetime: time.Hour}},
			{ask(PCP, host, TCP, 40000, 0, toward("9.9.9.9:443"), lasting(0)), outcome{Lifetime: time.Hour}},
		}},
		{name: "an outbound mapping gets the address it suggests or none", steps: []step{
			{ask(PCP, host, TCP, 40000, 0, toward("9.9.9.9:443"), at("8.8.8.8")), no(Conflict)},
			{ask(PCP, host, TCP, 40000, 0, toward("9.9.9.9:443"), at("11.22.33.44")), ok(40000)},
			{ask(PCP, host, TCP, 40000, 0, toward("9.9.9.9:443"), at("8.8.8.8")), ok(40000)},
			{ask(PCP, host, TCP, 40000, 0, toward("9.9.9.9:444"), at("8.8.8.8")), no(Conflict)},
			{ask(PCP, host, TCP, 40001, 80, toward("9.9.9.9:443")), no(NotAuthorized)},
			{ask(PCP, inside, TCP, 40000, 0, toward("[2001:db8:99::2]:443"), at("2001:db8:50::10")), outcome{}},
			{ask(PCP, inside, TCP, 40001, 0, toward("[2001:db8:99::2]:443"), at("2001:db8:50::11")), no(Conflict)},
			{ask(PCP, inside, TCP, 40001, 40000, toward("[2001:db8:99::2]:443")), no(Conflict)},
		}},
		{name: "an outbound mapping keeps the port that its flow has", set: func(al *allocator) {
			al.flowPort = func(p Protocol, from, to netip.AddrPort) (uint16, bool) {
				return 50000, p == TCP && from == netip.AddrPortFrom(host, 40000) && to.Port() == 443
			}
		}, steps: []step{
			{ask(PCP, host, TCP, 40000, 41000), ok(41000)},
			{ask(PCP, host, TCP, 40000, 41000, toward("9.9.9.9:443"), at("8.8.8.8")), ok(50000)},
			{ask(PCP, host, TCP, 40000, 0, toward("8.8.8.8:443")), ok(50000)},
			{ask(PCP, host, TCP, 40000, 0, toward("9.9.9.9:80")), ok(41000)},
			{ask(PCP, host, UDP, 40000, 42000, toward("9.9.9.9:443")), ok(42000)},
			{ask(PCP, peer, TCP, 50000, 50000), ok(50001)},
		}},
		{name: "flows from one port are bounded", steps: func() []step {
			var steps []step
			for port := range uint16(maxClaims) {
				steps = append(steps, step{ask(PCP, host, TCP, 40000, 0, func(r *Request) {
					r.Remote = netip.AddrPortFrom(wan4, 1+port)
				}), ok(40000)})
			}
			return append(steps,
				step{ask(PCP, host, TCP, 40000, 0, toward("9.9.9.9:443")), no(QuotaExceeded)},
				step{ask(PCP, host, TCP, 40000, 0), no(QuotaExceeded)})
		}()},
		{name: "a lenient policy lets another nonce renew", set: func(al *allocator) { al.policy.LenientNonce = true }, steps: []step{
			{ask(PCP, host, UDP, 40000, 40000, nonce(1), keeping), ok(40000)},
			{ask(PCP, host, UDP, 40000, 45000, nonce(2), keeping, lasting(2*time.Hour)), outcome{External: 40000, Lifetime: 2 * time.Hour}},
			{ask(PCP, host, UDP, 40000, 45000, nonce(2), keeping, lasting(time.Hour)), outcome{External: 40000, Lifetime: 2 * time.Hour}},
			{ask(PCP, host, UDP, 40000, 45000, nonce(2), keeping, exactly), no(Conflict)},
			{ask(PCP, host, UDP, 40000, 40000, nonce(2), keeping, from("9.9.9.9/32")), no(NotOwner)},
			{ask(PCP, host, UDP, 40000, 40000, nonce(2)), no(NotOwner)},
			{ask(PCP, peer, UDP, 40000, 40000, nonce(2), keeping, to(host, 40000), func(r *Request) { r.ThirdParty = true }), no(NotOwner)},
			{ask(PCP, host, UDP, 40000, 0, nonce(2), closing), no(NotOwner)},
			{ask(PCP, host, UDP, 40000, 0, nonce(1), closing), closed(1)},
		}},
		{name: "a description that the rules forbid cannot be added later", set: func(al *allocator) {
			al.policy.Rules = []Rule{{External: Ports{{0, 65535}}, Network: any4, Internal: Ports{{0, 65535}}, Description: regexp.MustCompile("torrent")}}
		}, steps: []step{
			{ask(PCP, host, UDP, 40000, 40000), ok(40000)},
			{ask(PCP, host, UDP, 40000, 40000, called("torrent")), no(NotAuthorized)},
			{ask(PCP, host, UDP, 40000, 40000, called("game")), ok(40000)},
		}},
		{name: "IPv6 hosts may have four times as many", set: func(al *allocator) { al.policy.MaxPerHost = 1 }, steps: []step{
			{ask(PCP, inside, TCP, 8080, 0), outcome{}},
			{ask(PCP, inside, TCP, 8081, 0), outcome{}},
			{ask(PCP, inside, TCP, 8082, 0), outcome{}},
			{ask(PCP, inside, TCP, 8083, 0), outcome{}},
			{ask(PCP, inside, TCP, 8084, 0), no(QuotaExceeded)},
		}},
		{name: "a LAN that is full leaves room for others", set: func(al *allocator) {
			al.policy.MaxPerLAN, al.policy.Rules = 2, nil
			al.network.Interfaces = [][]netip.Prefix{al.network.LANs[:1], al.network.LANs[1:]}
		}, steps: []step{
			{ask(NATPMP, host, UDP, 40000, 0), ok(40000)},
			{ask(NATPMP, peer, UDP, 40001, 0), ok(40001)},
			{ask(NATPMP, peer, UDP, 40002, 0), no(TableFull)},
			{ask(NATPMP, host, UDP, 40000, 0), ok(40000)},
			{ask(PCP, inside, TCP, 8080, 0), outcome{}},
		}},
		{name: "a LAN is full for both families", set: func(al *allocator) { al.policy.MaxPerLAN = 2 }, steps: []step{
			{ask(NATPMP, host, UDP, 40000, 0), ok(40000)},
			{ask(NATPMP, peer, UDP, 40001, 0), ok(40001)},
			{ask(PCP, inside, TCP, 8080, 0), no(TableFull)},
		}},
		{name: "too many filters change nothing", set: func(al *allocator) { al.policy.MaxFilters = 2 }, steps: []step{
			{ask(PCP, host, TCP, 8080, 8080, from("1.0.0.0/8", "2.0.0.0/8", "3.0.0.0/8")), no(TooManyFilters)},
			{ask(PCP, peer, TCP, 8080, 8080, from("1.0.0.0/8", "2.0.0.0/8")), ok(8080)},
		}},
		{name: "a small allowed range fills up", set: func(al *allocator) {
			al.policy.Rules[1].External = Ports{{2000, 2001}}
			al.policy.Rules[0].External = Ports{{2000, 2001}}
		}, steps: []step{
			{ask(UPnP, host, TCP, 5000, 5000, anyPort), ok(2000)},
			{ask(UPnP, host, TCP, 5001, 5001, anyPort), ok(2001)},
			{ask(UPnP, host, TCP, 5002, 5002, anyPort), no(NoPorts)},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			al := testAllocator()
			if tt.set != nil {
				tt.set(al)
			}
			for i, s := range tt.steps {
				a := al.decide(&s.Request)
				got := outcome{Refusal: a.Refusal, Closed: a.Closed}
				if a.Refusal == Granted && a.Mapping != nil && s.outcome.External != 0 {
					got.External = a.Mapping.External
				}
				if s.outcome.Lifetime != 0 {
					got.Lifetime = a.Lifetime
				}
				if want := s.outcome; got != want {
					if s.Request.Op == Open {
						t.Fatalf("step %d: got %+v (%v), want %+v (%v)", i+1, got, got.Refusal, want, want.Refusal)
					}
					t.Fatalf("step %d: got %+v, want %+v", i+1, got, want)
				}
			}
			al.check(t)
			al.undo(0)
			if n := len(al.index.byKey) + len(al.index.byID) + len(al.index.order) + len(al.index.byHost); n != 0 {
				t.Errorf("undo leaves %d entries in the indices", n)
			}
		})
	}
}

// check compares every index of the allocator with one rebuilt from its
// mappings.
func (al *allocator) check(t *testing.T) {
	t.Helper()
	ix, fresh := al.index, newIndex()
	al.checkDeadlines(t, IPv4)
	al.checkDeadlines(t, IPv6)
	for _, m := range ix.byKey {
		fresh.insert(m)
	}
	if len(fresh.order) != len(ix.order) || len(fresh.byID) != len(ix.byID) || len(fresh.byHost) != len(ix.byHost) {
		t.Fatalf("indices differ in size: order %d/%d, hosts %d/%d",
			len(ix.order), len(fresh.order), len(ix.byHost), len(fresh.byHost))
	}
	if !slices.Equal(ix.order, fresh.order) || !slices.Equal(ix.ports, fresh.ports) {
		t.Error("the mappings are not in the order of their creation")
	}
	for a, list := range fresh.byHost {
		if !slices.Equal(ix.byHost[a], list) {
			t.Errorf("byHost[%v] has %d mappings, want %d", a, len(ix.byHost[a]), len(list))
		}
	}
	for _, p := range []Protocol{TCP, UDP} {
		if *fresh.taken[p] != *ix.taken[p] || *fresh.companion[p] != *ix.companion[p] {
			t.Errorf("%v: port sets differ from the mappings", p)
		}
	}
	al.checkNumbers(t)
}

// checkNumbers compares the count of port numbers with a new one.
func (al *allocator) checkNumbers(t *testing.T) {
	t.Helper()
	want := make(numbers)
	for k, m := range al.index.byKey {
		want.add(al.sharerOf(m.Internal.Addr(), cmp.Or(m.Host.Name, m.Host.Hardware)), k.External)
	}
	for k, p := range al.holdDown.ports {
		want.add(al.sharerOf(p.to.Addr(), p.host.name), k.External)
	}
	if !maps.EqualFunc(al.numbers, want, maps.Equal) {
		t.Errorf("the port numbers are counted as %v, want %v", al.numbers, want)
	}
}

// checkDeadlines compares the deadlines of a family with rebuilt ones.
func (al *allocator) checkDeadlines(t *testing.T, f Family) {
	t.Helper()
	have, want := al.deadlines[f], newDeadlines()
	for _, m := range al.index.ofFamily(f) {
		want.apply(Change{After: m})
	}
	if !have.next().Equal(want.next()) || len(have.queue) != len(want.queue) || len(have.positions) != len(want.positions) {
		t.Errorf("deadlines: %d, the next at %v, want %d, the next at %v", len(have.queue), have.next(), len(want.queue), want.next())
	}
	for i, m := range have.queue {
		if m != al.index.byKey[m.Key] || have.positions[m.Serial] != int32(i) || i > 0 && have.Less(i, (i-1)/2) {
			t.Errorf("deadline %d of %v is out of place", i, m.Key)
		}
	}
}

func TestFiltersAddUpAndClaimsWithoutOpenToAll(t *testing.T) {
	al := testAllocator()
	a := al.do(ask(PCP, host, TCP, 8080, 8080, from("1.0.0.0/8")))
	if got := len(a.Mapping.Filters()); got != 1 {
		t.Fatalf("filters = %d, want 1", got)
	}
	a = al.do(ask(PCP, host, TCP, 8080, 8080, from("2.0.0.0/8"), keeping))
	if got := len(a.Mapping.Filters()); got != 2 {
		t.Fatalf("filters after adding = %d, want 2", got)
	}
	a = al.do(ask(NATPMP, host, TCP, 8080, 8080))
	if got := a.Mapping.Filters(); got != nil {
		t.Fatalf("filters with an unrestricted claim = %v, want none", got)
	}
	al.do(ask(NATPMP, host, TCP, 8080, 0, closing))
	a = al.do(ask(PCP, host, TCP, 8080, 8080))
	if got := a.Mapping.Filters(); got != nil {
		t.Fatalf("filters after replacing = %v, want none", got)
	}
}

func TestExpireDropsClaimByClaim(t *testing.T) {
	al := testAllocator()
	al.do(ask(NATPMP, host, TCP, 8080, 8080, lasting(time.Minute)))
	al.do(ask(UPnP, host, TCP, 8080, 8080, lasting(0)))
	al.do(ask(NATPMP, peer, TCP, 8081, 8081, lasting(2*time.Minute)))
	al.now = al.now.Add(time.Minute)
	al.expire(IPv4)
	next := al.deadlines[IPv4].next()
	m := al.index.byKey[Key{Protocol: TCP, External: 8080}]
	if m == nil || len(m.Claims) != 1 || m.Claims[0].Origin != UPnP {
		t.Fatalf("mapping after the NAT-PMP claim expired = %+v, want UPnP's claim alone", m)
	}
	if want := al.now.Add(time.Minute); !next.Equal(want) {
		t.Errorf("next deadline = %v, want %v", next, want)
	}
	al.now = next
	al.expire(IPv4)
	if next := al.deadlines[IPv4].next(); !next.IsZero() || len(al.index.byKey) != 1 {
		t.Errorf("after all leases: next %v, %d mappings, want none and 1", next, len(al.index.byKey))
	}
}

// TestAnotherNonceAfterReset renews with another nonce after a reset.
func TestAnotherNonceAfterReset(t *testing.T) {
	own, other := by("02:00:00:00:00:10"), by("02:00:00:00:00:11")
	asPeer := func(r *Request) { r.Client, r.ThirdParty = peer, true }
	for _, tt := range []struct {
		what   string
		made   func(*Request)
		passed time.Duration
		before []Request // between the reset and the request
		by     []func(*Request)
		want   Refusal
	}{
		{what: "at once", made: own, by: []func(*Request){own}},
		{what: "just in time", made: own, passed: 10*time.Minute - time.Second, by: []func(*Request){own}},
		{what: "too late", made: own, passed: 10 * time.Minute, by: []func(*Request){own}, want: NotOwner},
		{what: "from another host with the address", made: own, by: []func(*Request){other}, want: NotOwner},
		{what: "from a host that is not known", made: own, by: []func(*Request){by("")}},
		{what: "of a host that was not known", made: by(""), by: []func(*Request){other}},
		{what: "from another address", made: own, by: []func(*Request){own, asPeer}, want: NotOwner},
		{what: "to delete it", made: own, by: []func(*Request){own, closing}},
		{what: "to delete it from another host", made: own, by: []func(*Request){other, closing}, want: NotOwner},
		{what: "after a renewal", made: own, before: []Request{ask(PCP, host, TCP, 8080, 8080, nonce(1), own)}, by: []func(*Request){own}, want: NotOwner},
		{what: "a second time", made: own, before: []Request{ask(PCP, host, TCP, 8080, 8080, nonce(3), own)}, by: []func(*Request){own}, want: NotOwner},
		{what: "after UPnP has joined", made: own, before: []Request{ask(UPnP, host, TCP, 8080, 8080, own)}, by: []func(*Request){own}},
	} {
		al := testAllocator()
		al.do(ask(PCP, host, TCP, 8080, 8080, nonce(1), tt.made))
		al.unbindNonces()
		al.now = al.now.Add(tt.passed)
		for _, req := range tt.before {
			if a := al.do(req); a.Refusal != Granted {
				t.Fatalf("%s: %v before", tt.what, a.Refusal)
			}
		}
		req := ask(PCP, host, TCP, 8080, 8080, append(tt.by, nonce(2))...)
		if req.Op == Close {
			req.External = 0
		}
		if a := al.do(req); a.Refusal != tt.want {
			t.Errorf("%s: %v, want %v", tt.what, a.Refusal, tt.want)
		}
	}
}

// TestResetBindsOthersToTheNonce has another host ask for a mapping after a
// reset.
func TestResetBindsOthersToTheNonce(t *testing.T) {
	al := testAllocator()
	al.do(ask(PCP, host, TCP, 8080, 8080, nonce(1)))
	al.unbindNonces()
	another := ask(PCP, peer, TCP, 8080, 8080, nonce(3), to(host, 8080), func(r *Request) { r.ThirdParty = true })
	if a := al.do(another); a.Refusal != NotOwner {
		t.Fatalf("another client after the reset: %v", a.Refusal)
	}
	another.Nonce = Nonce{1}
	if a := al.do(another); a.Refusal != Granted {
		t.Fatalf("another client with the nonce after the reset: %v", a.Refusal)
	}
	al.unbindNonces()
	if a := al.do(ask(PCP, host, TCP, 8080, 8080, nonce(2))); a.Refusal != Granted {
		t.Fatalf("first renewal after the reset: %v", a.Refusal)
	}
	if a := al.do(ask(PCP, host, TCP, 8080, 8080, nonce(1))); a.Refusal != NotOwner {
		t.Fatalf("the new nonce does not bind: %v", a.Refusal)
	}
}

// TestIDsOfEndedPinholesAreNotSoonReused starts several tables, one after another: their
// first pinholes have different UniqueIDs.
func TestIDsOfEndedPinholesAreNotSoonReused(t *testing.T) {
	ids := make(map[uint16]bool)
	for range 4 {
		al := newAllocator(testOptions())
		al.begin()
		ids[al.do(ask(UPnP, inside, TCP, 8080, 0, anyPort)).ID] = true
	}
	if len(ids) < 2 || ids[0] {
		t.Errorf("the UniqueIDs are %v", ids)
	}
}

func TestPinholesOfUPnPAreKnownByID(t *testing.T) {
	al := testAllocator()
	hole := func(change ...func(*Request)) Request {
		return ask(UPnP, inside, TCP, 8080, 0, append(change, anyPort)...)
	}
	first := al.do(hole())
	if first.Refusal != Granted || first.ID == 0 {
		t.Fatalf("first pinhole: %v, id %d", first.Refusal, first.ID)
	}
	if again := al.do(hole()); again.ID != first.ID {
		t.Errorf("the same five-tuple again: id %d, want %d", again.ID, first.ID)
	}
	other := al.do(hole(from("2001:db8:99::2/128")))
	if other.ID == 0 || other.ID == first.ID {
		t.Errorf("another remote host: id %d, want another than %d", other.ID, first.ID)
	}
	if got := al.do(ask(PCP, inside, TCP, 8080, 8080)); len(got.Mapping.Claims) != 3 {
		t.Errorf("PCP holds the same target with %d claims, want 3", len(got.Mapping.Claims))
	}
	byID := func(o Op, client netip.Addr, id uint16) Refusal {
		return al.do(Request{Op: o, Origin: UPnP, Client: client, ID: id, Lifetime: time.Hour}).Refusal
	}
	foreign := netip.MustParseAddr("2001:db8:50::11")
	for _, tt := range []struct {
		name string
		got  Refusal
		want Refusal
	}{
		{"renew", byID(Open, inside, other.ID), Granted},
		{"renew foreign", byID(Open, foreign, other.ID), NotOwner},
		{"close foreign", byID(Close, foreign, other.ID), NotOwner},
		{"close", byID(Close, inside, other.ID), Granted},
		{"close again", byID(Close, inside, other.ID), NotFound},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, tt.got, tt.want)
		}
	}
	al.check(t)
}

func TestPolicyRules(t *testing.T) {
	all := Ports{{0, 65535}}
	p := &Policy{Rules: []Rule{
		{Allow: false, External: Ports{{2000, 2999}}, Network: any4, Internal: all, Description: regexp.MustCompile("(?i)torrent")},
		{Allow: true, External: Ports{{2000, 3999}}, Network: netip.MustParseAddr("10.0.7.0"), Mask: 0xff00ff00, Internal: Ports{{22, 22}}},
		{Allow: false, External: Ports{{0, 3999}}, Network: any4, Internal: all},
	}}
	tests := []struct {
		external    uint16
		to          string
		description string
		want        bool
	}{
		{2500, "10.0.7.1:22", "", true},
		{2500, "10.9.7.1:22", "", true}, // the mask is not contiguous
		{2500, "10.0.8.1:22", "", false},
		{2500, "10.0.7.1:23", "", false},
		{2500, "10.0.7.1:22", "My Torrent", false},
		{3500, "10.0.7.1:22", "My Torrent", true},
		{1999, "10.0.7.1:22", "", false},
		{4000, "10.0.7.1:1", "x", true}, // no match allows
	}
	for _, tt := range tests {
		target := Destination{AddrPort: netip.MustParseAddrPort(tt.to)}
		if got := p.Permits(tt.external, target, tt.description); got != tt.want {
			t.Errorf("Permits(%d, %s, %q) = %v, want %v", tt.external, tt.to, tt.description, got, tt.want)
		}
		set := p.Ports(target, tt.description)
		for port := 1; port <= 65535; port++ {
			if got, want := set.Has(uint16(port)), p.Permits(uint16(port), target, tt.description); got != want {
				t.Fatalf("Ports(%s, %q) has %d = %v, want %v", tt.to, tt.description, port, got, want)
			}
		}
	}
}

func TestPortSetNextWraps(t *testing.T) {
	var s PortSet
	if _, ok := s.next(1); ok {
		t.Error("the empty set has a member")
	}
	s.Add(1024)
	s.Add(1090)
	for from, want := range map[uint16]uint16{0: 1024, 1024: 1024, 1025: 1090, 1091: 1024, 65535: 1024} {
		if got, ok := s.next(from); !ok || got != want {
			t.Errorf("next(%d) = %d, %v, want %d", from, got, ok, want)
		}
	}
}

// TestRestoredMappingsReserveTheirCompanions restores NAT-PMP mappings of two hosts with
// one port number, which a lease file of the C daemon may have, and one that is dormant:
// all of them stay, and nobody else gets the other protocol.
func TestRestoredMappingsReserveTheirCompanions(t *testing.T) {
	saved := func(client netip.Addr, p Protocol, port uint16) *Mapping {
		return &Mapping{Key: Key{Protocol: p, External: port}, Internal: netip.AddrPortFrom(client, port), Claims: []Claim{{Origin: NATPMP}}}
	}
	away := netip.MustParseAddr("192.168.51.10")
	al := testAllocator()
	al.network.LANs, al.policy.Rules = []netip.Prefix{lan}, nil
	if d := al.restore([]*Mapping{saved(host, UDP, 40000), saved(peer, TCP, 40000), saved(away, UDP, 40001)}, true); len(d.closed) > 0 {
		t.Fatalf("closed: %v", d.closed)
	}
	if m := al.index.byKey[Key{Protocol: UDP, External: 40001}]; m == nil || !m.Dormant {
		t.Fatalf("the mapping of an absent LAN is %+v", m)
	}
	if a := al.do(ask(UPnP, peer, TCP, 40001, 40001)); a.Refusal != Conflict || a.Mapping.Internal.Addr() != away {
		t.Errorf("the companion of the dormant one: %v", a.Refusal)
	}
	for _, p := range []Protocol{TCP, UDP} {
		a := al.do(ask(NATPMP, al.index.byKey[Key{Protocol: p, External: 40000}].Internal.Addr(), p, 40000, 0))
		if a.Refusal != Granted || a.Mapping.External != 40000 {
			t.Errorf("renewal of 40000 %v: %+v", p, a)
		}
	}
	al.check(t)
}
