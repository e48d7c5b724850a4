package portmap

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"
)

// moved is the new address of host.
var moved = netip.MustParseAddr("192.168.50.130")

const hardwareOfHost = "02:00:00:00:00:10"

// movedFrom makes a request that of a host with a former address.
func movedFrom(a netip.Addr) func(*Request) {
	return func(r *Request) { r.Former, r.Host.Hardware = a, hardwareOfHost }
}

// TestMovedHostKeepsItsPort has a host with a mapping ask for its port again
// from another address.
func TestMovedHostKeepsItsPort(t *testing.T) {
	known, left := by(hardwareOfHost), movedFrom(host)
	strict := func(al *allocator) { al.policy.LenientNonce = false }
	upnp := func(change ...func(*Request)) Request {
		return ask(UPnP, host, TCP, 32400, 32400, append(change, known)...)
	}
	for _, tt := range []struct {
		what   string
		before Request
		now    Request
		set    func(*allocator)
		want   Refusal
		port   uint16 // granted; 0: as before
		stays  bool   // the first mapping
	}{
		{what: "by UPnP", before: upnp(), now: ask(UPnP, moved, TCP, 32400, 32400, left)},
		{what: "to another internal port", before: upnp(), now: ask(UPnP, moved, TCP, 40000, 32400, left)},
		{what: "with a remote host", before: upnp(), now: ask(UPnP, moved, TCP, 32400, 32400, left, from("9.9.9.9/32"))},
		{what: "without the remote host", before: upnp(from("9.9.9.9/32")), now: ask(UPnP, moved, TCP, 32400, 32400, left)},
		{what: "by UPnP, any port", before: upnp(), now: ask(UPnP, moved, TCP, 32400, 32400, left, anyPort)},
		{what: "by NAT-PMP", before: upnp(), now: ask(NATPMP, moved, TCP, 32400, 32400, left)},
		{what: "by NAT-PMP, without a suggestion", before: upnp(), now: ask(NATPMP, moved, TCP, 32400, 0, left)},
		{what: "by PCP", before: upnp(), now: ask(PCP, moved, TCP, 32400, 32400, nonce(1), left)},
		{what: "by PCP, that port or none", before: upnp(), now: ask(PCP, moved, TCP, 32400, 32400, nonce(1), left, exactly)},
		{what: "in the other protocol, which a NAT-PMP mapping reserves", before: ask(NATPMP, host, UDP, 32400, 32400, known), now: ask(UPnP, moved, TCP, 32400, 32400, left)},
		{what: "by NAT-PMP, with the other protocol of its port", before: ask(UPnP, host, UDP, 32400, 32400, known), now: ask(NATPMP, moved, TCP, 32400, 32400, left)},
		{what: "by UPnP, beside the other protocol of its port", before: ask(UPnP, host, UDP, 32400, 32400, known), now: ask(UPnP, moved, TCP, 32400, 32400, left), port: 32400, stays: true},
		{what: "from PCP with its nonce", before: ask(PCP, host, TCP, 32400, 32400, nonce(1), known), now: ask(PCP, moved, TCP, 32400, 32400, nonce(1), left), set: strict},
		{what: "from PCP with another nonce", before: ask(PCP, host, TCP, 32400, 32400, nonce(1), known), now: ask(PCP, moved, TCP, 32400, 32400, nonce(2), left)},
		{what: "from PCP by UPnP", before: ask(PCP, host, TCP, 32400, 32400, nonce(1), known), now: ask(UPnP, moved, TCP, 32400, 32400, left)},
		{what: "from PCP after a reset", before: ask(PCP, host, TCP, 32400, 32400, nonce(1), known), now: ask(PCP, moved, TCP, 32400, 32400, nonce(2), left), set: func(al *allocator) { strict(al); al.unbindNonces() }},
		{what: "from PCP with another nonce, where that matters", before: ask(PCP, host, TCP, 32400, 32400, nonce(1), known), now: ask(PCP, moved, TCP, 32400, 32400, nonce(2), left), set: strict, port: 32401, stays: true},
		{what: "from PCP by UPnP, where the nonce matters", before: ask(PCP, host, TCP, 32400, 32400, nonce(1), known), now: ask(UPnP, moved, TCP, 32400, 32400, left), set: strict, want: Conflict, stays: true},
		{what: "without a known former address", before: upnp(), now: ask(UPnP, moved, TCP, 32400, 32400, known), want: Conflict, stays: true},
		{what: "from a host that was not known", before: ask(UPnP, host, TCP, 32400, 32400), now: ask(UPnP, moved, TCP, 32400, 32400, left), want: Conflict, stays: true},
		{what: "from another host", before: ask(UPnP, host, TCP, 32400, 32400, by("02:00:00:00:00:11")), now: ask(UPnP, moved, TCP, 32400, 32400, left), want: Conflict, stays: true},
		{what: "by NAT-PMP, where the router needs the port", before: upnp(), now: ask(NATPMP, moved, TCP, 32400, 32400, left), set: func(al *allocator) { al.listening = func(_ Protocol, port uint16) bool { return port == 32400 } }, port: 32401, stays: true},
		{what: "from another address than its former one", before: upnp(), now: ask(UPnP, moved, TCP, 32400, 32400, movedFrom(peer)), want: Conflict, stays: true},
		{what: "for another host", before: upnp(), now: ask(PCP, peer, TCP, 32400, 32400, to(moved, 32400), exactly, left, func(r *Request) { r.ThirdParty = true }), want: Conflict, stays: true},
		{what: "for another host, without secure mode", before: upnp(), now: ask(UPnP, peer, TCP, 32400, 32400, to(moved, 32400), left), set: func(al *allocator) { al.policy.Secure = false }, want: Conflict, stays: true},
		{what: "for a flow", before: upnp(), now: ask(PCP, moved, TCP, 32400, 32400, left, toward("9.9.9.9:443")), want: Conflict, stays: true},
		{what: "to an internal port that the rules deny", before: upnp(), now: ask(UPnP, moved, TCP, 80, 32400, left), want: NotAuthorized, stays: true},
		{what: "with too many remote peers", before: upnp(), now: ask(UPnP, moved, TCP, 32400, 32400, left, from("9.9.9.9/32", "8.8.8.8/32")), set: func(al *allocator) { al.policy.MaxFilters = 1 }, want: Conflict, stays: true},
		{what: "to an address that the operator blocks", before: upnp(), now: ask(UPnP, moved, TCP, 32400, 32400, left), set: func(al *allocator) { al.block(blockOf(Selector{Host: HostSelector{Addr: moved}})) }, want: Blocked, stays: true},
		{what: "with a new static forward of the port", before: upnp(), now: ask(UPnP, moved, TCP, 32400, 32400, left),
			set: func(al *allocator) {
				al.network.Forwards = []Forward{{Protocol: TCP, External: PortRange{32400, 32400}, Target: netip.AddrPortFrom(peer, 32400)}}
			}, want: Conflict, stays: true},
	} {
		al := testAllocator()
		al.policy.LenientNonce = true
		a := al.do(tt.before)
		if a.Refusal != Granted {
			t.Fatalf("%s: at first %v", tt.what, a.Refusal)
		}
		if tt.set != nil {
			tt.set(al)
		}
		before := al.index.byKey[a.Mapping.Key]
		al.changes = nil
		a = al.do(tt.now)
		if a.Refusal != tt.want || (al.index.byKey[before.Key] == before) != tt.stays {
			t.Errorf("%s: %v, the old mapping stays %v", tt.what, a.Refusal, al.index.byKey[before.Key] == before)
			continue
		}
		if tt.stays {
			if a.Closed != 0 || tt.port != 0 && a.Mapping.External != tt.port || tt.want != Granted && len(al.changes) > 0 {
				t.Errorf("%s: %d claims closed, changes %v", tt.what, a.Closed, al.changes)
			}
			continue
		}
		if len(al.changes) != 2 || a.Closed != 1 || a.Mapping.External != 32400 || a.Mapping.Internal != tt.now.Internal ||
			!reflect.DeepEqual(a.Mapping.Claims[0].Filters, tt.now.Filters) || len(a.Mapping.Claims) != 1 {
			t.Errorf("%s: %+v, changes %v", tt.what, a, al.changes)
		}
	}
}

// TestMovedHostKeepsBothProtocols has a port that NAT-PMP has mapped in both
// protocols, and that is in hold-down after a PCP mapping.
func TestMovedHostKeepsBothProtocols(t *testing.T) {
	al := testAllocator()
	known, left := by(hardwareOfHost), movedFrom(host)
	for _, req := range []Request{
		ask(PCP, host, TCP, 32400, 32400, known, nonce(1)),
		ask(PCP, host, TCP, 32400, 0, closing, nonce(1)),
		ask(NATPMP, host, TCP, 32400, 32400, known),
		ask(NATPMP, host, UDP, 32400, 32400, known),
	} {
		if a := al.do(req); a.Refusal != Granted {
			t.Fatal(a.Refusal)
		}
	}
	if a := al.do(ask(UPnP, moved, TCP, 32400, 32400, left)); a.Refusal != Granted || a.Closed != 2 {
		t.Errorf("TCP: %v, %d claims closed", a.Refusal, a.Closed)
	}
	if a := al.do(ask(NATPMP, moved, UDP, 32400, 32400, known)); a.Refusal != Granted || a.Mapping.External != 32400 {
		t.Errorf("UDP: %+v", a)
	}
	if a := al.do(ask(UPnP, host, TCP, 32400, 32400, known)); a.Refusal != Conflict {
		t.Errorf("back at the old address: %v", a.Refusal)
	}
}

// TestFormerAtRandom has hosts ask for each other's ports at random: a mapping
// ends for a request only if it leads to the former address of a host with the
// same hardware address, which asks for itself and gets the port.
func TestFormerAtRandom(t *testing.T) {
	rnd := rand.New(rand.NewPCG(21, 22))
	addrs := []netip.Addr{host, peer, moved}
	hardware := []string{"", hardwareOfHost, "02:00:00:00:00:11"}
	pick := func() netip.Addr { return addrs[rnd.IntN(len(addrs))] }
	ended := 0
	for range 300 {
		al := testAllocator()
		al.policy.LenientNonce = rnd.IntN(2) == 0
		for range 60 {
			req := ask(Origin(1+rnd.IntN(3)), pick(), []Protocol{TCP, UDP}[rnd.IntN(2)], uint16(40000+rnd.IntN(2)), uint16(40000+rnd.IntN(2)), nonce(byte(rnd.IntN(2))))
			req.Host.Hardware = hardware[rnd.IntN(len(hardware))]
			if rnd.IntN(2) == 0 {
				req.Former = pick()
			}
			if rnd.IntN(8) == 0 {
				req.ThirdParty, req.Internal = true, netip.AddrPortFrom(pick(), req.Internal.Port())
			}
			al.changes = nil
			a := al.do(req)
			for _, c := range al.changes {
				if c.After != nil {
					continue
				}
				ended++
				m := c.Before
				own := m.Internal.Addr() == req.Former && m.Host.Hardware == req.Host.Hardware && req.Host.Hardware != ""
				if !own || req.ThirdParty || a.Refusal != Granted || a.Mapping.External != m.External || a.Mapping.Internal != req.Internal {
					t.Fatalf("%+v ends for %+v: %+v", m, req, a)
				}
			}
		}
	}
	if ended < 100 {
		t.Errorf("only %d mappings ended", ended)
	}
}
