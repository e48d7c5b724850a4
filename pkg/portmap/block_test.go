package portmap

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"
)

// blockOf returns a block for ever.
func blockOf(s Selector) *Block { return &Block{ID: 1, Selector: s} }

func TestBlock(t *testing.T) {
	whole := PortRange{}
	for name, test := range map[string]struct {
		block Selector
		ask   Request
		want  Refusal
		port  uint16
	}{
		"host":                    {Selector{Host: HostSelector{Addr: host}}, ask(NATPMP, host, UDP, 40000, 40000), Blocked, 0},
		"other host":              {Selector{Host: HostSelector{Addr: peer}}, ask(NATPMP, host, UDP, 40000, 40000), Granted, 40000},
		"port":                    {Selector{External: PortRange{40000, 40000}}, ask(NATPMP, host, UDP, 40000, 40000), Granted, 40001},
		"exact port":              {Selector{External: PortRange{40000, 40000}}, ask(UPnP, host, UDP, 40000, 40000), Blocked, 0},
		"port of the other kind":  {Selector{Protocol: TCP, External: PortRange{40000, 40000}}, ask(UPnP, host, UDP, 40000, 40000), Granted, 40000},
		"everything":              {Selector{External: whole}, ask(NATPMP, host, UDP, 40000, 40000), Blocked, 0},
		"pinhole":                 {Selector{Host: HostSelector{Addr: inside}}, ask(PCP, inside, TCP, 8080, 0), Blocked, 0},
		"pinhole, by port":        {Selector{External: PortRange{8080, 8080}}, ask(PCP, inside, TCP, 8080, 0), Blocked, 0},
		"port of another pinhole": {Selector{External: PortRange{8081, 8081}}, ask(PCP, inside, TCP, 8080, 0), Granted, 0},
	} {
		al := testAllocator()
		al.block(blockOf(test.block))
		a := al.do(test.ask)
		if a.Refusal != test.want || test.port != 0 && a.Mapping.External != test.port {
			t.Errorf("%s: %v, %+v", name, a.Refusal, a.Mapping)
		}
	}
}

func TestBlockCloses(t *testing.T) {
	al := testAllocator()
	for _, p := range []Protocol{TCP, UDP} {
		al.do(ask(UPnP, host, p, 40000, 40000))
		al.do(ask(PCP, host, p, 40000, 40000))
		al.do(ask(UPnP, peer, p, 50000, 50000))
	}
	al.block(blockOf(Selector{Host: HostSelector{Addr: host}, Protocol: TCP}))
	if n := len(al.index.order); n != 3 || al.index.byKey[Key{Protocol: TCP, External: 40000}] != nil {
		t.Errorf("%d mappings are left, want 3", n)
	}
	al.check(t)
}

// ruleIndex returns which rule decides, -1 for none.
func ruleIndex(al *allocator, e Explanation) int {
	return slices.IndexFunc(al.policy.Rules, func(r Rule) bool { return e.Rule != nil && reflect.DeepEqual(r, *e.Rule) })
}

func TestExplain(t *testing.T) {
	al := testAllocator()
	al.do(ask(PCP, host, TCP, 40000, 40000, nonce(1)))
	before := len(al.changes)
	al.blocks = []BlockRecord{{Block: blockOf(Selector{External: PortRange{50000, 50000}})}}
	for name, test := range map[string]struct {
		ask     Request
		want    Refusal
		port    uint16
		rule    int
		blocked bool
	}{
		"granted":     {ask(NATPMP, peer, TCP, 41000, 0), Granted, 41000, 1, false},
		"other port":  {ask(NATPMP, peer, TCP, 41000, 40000), Granted, 41000, 1, false},
		"conflict":    {ask(UPnP, peer, TCP, 40000, 40000), Conflict, 40000, -1, false},
		"rules":       {ask(UPnP, peer, TCP, 80, 40001), NotAuthorized, 0, 2, false},
		"low port":    {ask(UPnP, peer, TCP, 9, 1024), Granted, 1024, 0, false},
		"block":       {ask(UPnP, peer, TCP, 50000, 50000), Blocked, 0, -1, true},
		"wrong nonce": {ask(PCP, host, TCP, 40000, 40000, nonce(2)), NotOwner, 40000, -1, false},
		"no host":     {ask(UPnP, netip.MustParseAddr("8.8.8.8"), TCP, 80, 80), BadTarget, 0, -1, false},
	} {
		for range 2 { // the first changes nothing for the second
			e := al.explain(&test.ask)
			if e.Refusal != test.want || ruleIndex(al, e) != test.rule || (e.Block != nil) != test.blocked || test.port != 0 && e.Mapping.External != test.port {
				t.Errorf("%s: %v by rule %d, block %v, %+v", name, e.Refusal, ruleIndex(al, e), e.Block, e.Mapping)
			}
		}
	}
	if len(al.changes) != before || len(al.index.order) != 1 || al.serial != 1 {
		t.Errorf("explaining changed something: %d changes, serial %d", len(al.changes)-before, al.serial)
	}
	al.check(t)
	if e := al.explain(&Request{Origin: PCP, Client: inside, Protocol: TCP, Internal: netip.AddrPortFrom(inside, 1), ID: 0}); ruleIndex(al, e) != 2 {
		t.Errorf("pinhole of port 1: rule %d, want 2", ruleIndex(al, e))
	}
	al.policy.Rules = nil
	if e := al.explain(&Request{Origin: PCP, Client: host, Protocol: TCP, Internal: netip.AddrPortFrom(host, 1)}); e.Rule != nil {
		t.Errorf("no rules: rule %+v, want none", e.Rule)
	}
}

// The hardware addresses of the tests, and the host that has the first.
const (
	mac1 = "02:00:00:00:00:10"
	mac2 = "02:00:00:00:00:11"
)

// TestBlockedHost has hosts, of which different things are known, ask under blocks
// of all kinds, in all ways, over both families.
func TestBlockedHost(t *testing.T) {
	other4, other6 := netip.MustParseAddr("192.168.50.99"), netip.MustParseAddr("2001:db8:50::99")
	byName := HostSelector{Name: "laptop", Bound: []string{mac1}}
	for _, tt := range []struct {
		what  string
		block HostSelector
		host  Host
		at    []netip.Addr // the addresses that the host asks with
		want  Refusal
	}{
		{"every host", HostSelector{}, Host{}, []netip.Addr{host, inside}, Blocked},
		{"IPv4 address", HostSelector{Addr: host}, Host{Hardware: mac1}, []netip.Addr{host}, Blocked},
		{"IPv4 address, host not known", HostSelector{Addr: host}, Host{}, []netip.Addr{host}, Blocked},
		{"IPv4 address, over IPv6", HostSelector{Addr: host}, Host{Hardware: mac1, IPv4: []netip.Addr{peer, host}}, []netip.Addr{inside, other6}, Blocked},
		{"IPv4 address, over IPv6, host not known", HostSelector{Addr: host}, Host{}, []netip.Addr{inside}, UnknownHost},
		{"IPv4 address of another host", HostSelector{Addr: host}, Host{}, []netip.Addr{other4}, Granted},
		{"IPv4 address of another host, over IPv6", HostSelector{Addr: host}, Host{Hardware: mac1}, []netip.Addr{inside}, Granted},
		{"bound IPv4 address, everywhere", HostSelector{Addr: host, Bound: []string{mac1}}, Host{Hardware: mac1}, []netip.Addr{host, other4, inside, other6}, Blocked},
		{"bound IPv4 address that another host has now", HostSelector{Addr: host, Bound: []string{mac1}}, Host{Hardware: mac2}, []netip.Addr{host}, Blocked},
		{"bound IPv4 address that another host has now, over IPv6", HostSelector{Addr: host, Bound: []string{mac1}}, Host{Hardware: mac2, IPv4: []netip.Addr{host}}, []netip.Addr{inside}, Blocked},
		{"bound IPv4 address of another host", HostSelector{Addr: host, Bound: []string{mac1}}, Host{Hardware: mac2}, []netip.Addr{other4, inside}, Granted},
		{"bound IPv4 address of a host that is not known", HostSelector{Addr: host, Bound: []string{mac1}}, Host{}, []netip.Addr{host}, Blocked},
		{"bound IPv4 address, host not known", HostSelector{Addr: host, Bound: []string{mac1}}, Host{}, []netip.Addr{other4, inside}, UnknownHost},
		{"bound IPv4 address, link without hardware addresses", HostSelector{Addr: host, Bound: []string{mac1}}, Host{NoHardware: true}, []netip.Addr{other4, inside}, Granted},
		{"IPv6 address", HostSelector{Addr: inside}, Host{Hardware: mac1}, []netip.Addr{inside}, Blocked},
		{"IPv6 address of another host", HostSelector{Addr: inside}, Host{}, []netip.Addr{other6, host}, Granted},
		{"IPv6 address, link without hardware addresses", HostSelector{Addr: inside}, Host{NoHardware: true}, []netip.Addr{inside, other6}, Blocked},
		{"bound IPv6 address that another host has now", HostSelector{Addr: inside, Bound: []string{mac1}}, Host{Hardware: mac2}, []netip.Addr{inside}, Blocked},
		{"bound IPv6 address, link without hardware addresses", HostSelector{Addr: inside, Bound: []string{mac1}}, Host{NoHardware: true}, []netip.Addr{inside, other6}, Blocked},
		{"bound IPv6 address, everywhere", HostSelector{Addr: inside, Bound: []string{mac1}}, Host{Hardware: mac1}, []netip.Addr{host, other4, other6}, Blocked},
		{"hardware address", HostSelector{Hardware: mac1}, Host{Hardware: mac1}, []netip.Addr{host, inside}, Blocked},
		{"hardware address of another host", HostSelector{Hardware: mac1}, Host{Hardware: mac2}, []netip.Addr{host, inside}, Granted},
		{"hardware address, host not known", HostSelector{Hardware: mac1}, Host{}, []netip.Addr{host, inside}, UnknownHost},
		{"hardware address, link without any", HostSelector{Hardware: mac1}, Host{NoHardware: true}, []netip.Addr{host, inside}, Granted},
		{"name", byName, Host{Hardware: mac1, Names: []string{"laptop"}}, []netip.Addr{host, inside}, Blocked},
		{"name that it had", byName, Host{Hardware: mac1, Names: []string{"renamed"}}, []netip.Addr{host, inside}, Blocked},
		{"name that another host took", byName, Host{Hardware: mac2, Names: []string{"new", "laptop"}}, []netip.Addr{host, inside}, Blocked},
		{"name of another host", byName, Host{Hardware: mac2, Names: []string{"phone"}}, []netip.Addr{host, inside}, Granted},
		{"name, host not known", byName, Host{}, []netip.Addr{host, inside}, UnknownHost},
	} {
		for _, a := range tt.at {
			testBlockedHost(t, tt.what, tt.block, tt.host, a, tt.want)
		}
	}
}

// testBlockedHost has a host ask under blocks of a host.
func testBlockedHost(t *testing.T, what string, block HostSelector, h Host, a netip.Addr, want Refusal) {
	t.Helper()
	for _, tt := range []struct {
		scope   string
		s       Selector
		applies bool
	}{
		{"", Selector{Host: block}, true},
		{" by protocol", Selector{Host: block, Protocol: TCP}, true},
		{" by port", Selector{Host: block, External: PortRange{40000, 40000}}, true},
		{" by another protocol", Selector{Host: block, Protocol: UDP}, false},
		{" by another port", Selector{Host: block, External: PortRange{40002, 40009}}, false},
	} {
		for kind, req := range kindsOfRequests(a) {
			req.Host = h
			for _, existing := range []bool{false, true} {
				al := testAllocator()
				if existing {
					before := req
					before.Host, before.ID = Host{Hardware: mac2}, 0
					al.do(before)
				}
				al.blocks = []BlockRecord{{Block: blockOf(tt.s)}}
				got, wanted := al.do(req), want
				if !tt.applies {
					wanted = Granted
				}
				if req.ID != 0 && !existing {
					continue
				}
				if got.Refusal != wanted && (a.Is6() || got.Refusal != Blocked || wanted != UnknownHost) || (got.Block != nil) != (wanted != Granted) {
					t.Errorf("%s%s at %v, %s, existing %v: %v by %+v, want %v", what, tt.scope, a, kind, existing, got.Refusal, got.Block, wanted)
				}
				left := 0 // a mapping that the host got while it was not recognized is closed if it certainly is the blocked one
				if existing && wanted != Blocked {
					left = 1
				}
				if wanted != Granted && len(al.index.order) != left {
					t.Errorf("%s%s at %v, %s: refused, %d mappings are left, want %d", what, tt.scope, a, kind, len(al.index.order), left)
				}
			}
		}
	}
}

// kindsOfRequests returns requests of a host for TCP port 40000, of every kind.
func kindsOfRequests(a netip.Addr) map[string]Request {
	if a.Is6() {
		return map[string]Request{
			"MAP":           ask(PCP, a, TCP, 40000, 40000, nonce(1)),
			"PEER":          ask(PCP, a, TCP, 40000, 40000, toward("[2001:db8:9::9]:443"), nonce(1)),
			"AddPinhole":    ask(UPnP, a, TCP, 40000, 0, anyPort),
			"UpdatePinhole": ask(UPnP, a, TCP, 40000, 0, anyPort, func(r *Request) { r.ID = 1 }),
		}
	}
	return map[string]Request{
		"NAT-PMP":        ask(NATPMP, a, TCP, 40000, 40000, exactly),
		"MAP":            ask(PCP, a, TCP, 40000, 40000, exactly, nonce(1)),
		"PEER":           ask(PCP, a, TCP, 40000, 40000, toward("9.9.9.9:443"), nonce(1)),
		"AddPortMapping": ask(UPnP, a, TCP, 40000, 40000),
	}
}

// TestBlockedAsker has a host ask for another one's mapping.
func TestBlockedAsker(t *testing.T) {
	for _, family := range [][2]netip.Addr{{host, peer}, {inside, netip.MustParseAddr("2001:db8:50::11")}} {
		for what, tt := range map[string]struct {
			block HostSelector
			want  Refusal
		}{
			"the host that asks":                  {HostSelector{Hardware: mac1}, Blocked},
			"the target":                          {HostSelector{Hardware: mac2}, Blocked},
			"the host that asks, by address":      {HostSelector{Addr: family[0]}, Blocked},
			"the target, by address":              {HostSelector{Addr: family[1]}, Blocked},
			"the host that asks, after a move":    {HostSelector{Addr: netip.MustParseAddr("192.168.50.98"), Bound: []string{mac1}}, Blocked},
			"the target, by the name that it has": {HostSelector{Name: "target"}, Blocked},
			"a third one":                         {HostSelector{Hardware: "02:00:00:00:00:12"}, Granted},
		} {
			for kind, change := range map[string]func(*Request){
				"third party":         func(r *Request) { r.ThirdParty = true },
				"without secure mode": func(*Request) {},
			} {
				al := testAllocator()
				al.policy.Secure = kind == "third party"
				al.block(blockOf(Selector{Host: tt.block}))
				req := ask(PCP, family[0], TCP, 40000, 40000, to(family[1], 40000), change)
				req.Host, req.Asker = Host{Hardware: mac2, Names: []string{"target"}}, Host{Hardware: mac1}
				if a := al.do(req); a.Refusal != tt.want {
					t.Errorf("%v asks for %v, %s, %s is blocked: %v, want %v", family[0], family[1], kind, what, a.Refusal, tt.want)
				}
			}
		}
	}
}

// TestRefusalCloses has hosts with several mappings ask under blocks that did not know
// them as the blocked host before.
func TestRefusalCloses(t *testing.T) {
	all := ask(UPnP, host, TCP, 50000, 50000, of(mac1))
	other := ask(PCP, peer, TCP, 50000, 50000, to(host, 50000), func(r *Request) { r.ThirdParty, r.Host = true, Host{Hardware: mac1} })
	asker := ask(PCP, peer, TCP, 50000, 50000, to(host, 50000), func(r *Request) { r.ThirdParty, r.Asker = true, Host{Hardware: mac1} })
	overIPv4 := ask(UPnP, host, TCP, 50000, 0, to(inside, 50000), of(mac1), func(r *Request) { r.Alias = inside })
	for what, tt := range map[string]struct {
		block Selector
		req   Request
		want  string // the keys of the mappings that are left
		later string // of those of them that are closed after the answer
	}{
		"a block of the host":           {Selector{Host: HostSelector{Hardware: mac1}}, all, "[40002/TCP [2001:db8:50::10]:40003/TCP]", ""},
		"by name":                       {Selector{Host: HostSelector{Name: "laptop", Bound: []string{mac1}}}, all, "[40002/TCP [2001:db8:50::10]:40003/TCP]", ""},
		"of a protocol":                 {Selector{Host: HostSelector{Hardware: mac1}, Protocol: TCP}, all, "[40001/UDP 40002/TCP [2001:db8:50::10]:40003/TCP]", ""},
		"of a port":                     {Selector{Host: HostSelector{Hardware: mac1}, External: PortRange{40000, 50000}}, all, "[40002/TCP [2001:db8:50::10]:40003/TCP]", ""},
		"of another port":               {Selector{Host: HostSelector{Hardware: mac1}, External: PortRange{50000, 50000}}, all, "[40000/TCP 40001/UDP 40002/TCP [2001:db8:50::10]:40003/TCP]", ""},
		"of the target":                 {Selector{Host: HostSelector{Hardware: mac1}}, other, "[40002/TCP [2001:db8:50::10]:40003/TCP]", ""},
		"of the asker of a third party": {Selector{Host: HostSelector{Hardware: mac1}}, asker, "[40000/TCP 40001/UDP [2001:db8:50::10]:40003/TCP]", ""},
		"of the host, over IPv4":        {Selector{Host: HostSelector{Hardware: mac1}}, overIPv4, "[40000/TCP 40001/UDP 40002/TCP]", "[40000/TCP 40001/UDP]"},
		"of another host":               {Selector{Host: HostSelector{Hardware: "02:00:00:00:00:12"}}, all, "[40000/TCP 40001/UDP 40002/TCP [2001:db8:50::10]:40003/TCP 50000/TCP]", ""},
	} {
		al := testAllocator()
		for _, req := range []Request{
			ask(UPnP, host, TCP, 40000, 40000, of(mac2)), ask(PCP, host, UDP, 40001, 40001, of(mac2)), ask(UPnP, peer, TCP, 40002, 40002, of(mac2)), ask(PCP, inside, TCP, 40003, 40003, of(mac2)),
		} {
			if a := al.do(req); a.Refusal != Granted {
				t.Fatal(a.Refusal)
			}
		}
		al.block(blockOf(tt.block))
		before := len(al.changes)
		if al.explain(&tt.req); len(al.changes) != before || len(al.index.order) != 4 || len(al.holdDown.ports) > 0 {
			t.Errorf("%s: explaining changed something", what)
		}
		a := al.do(tt.req)
		if left := keysOf(al.index.order); left != tt.want {
			t.Errorf("%s: %v, %s are left, want %s", what, a.Refusal, left, tt.want)
		}
		later := ""
		if list := al.leftOpen(&tt.req, a); len(list) > 0 {
			later = keysOf(list)
		}
		if later != tt.later {
			t.Errorf("%s: %s are closed later, want %s", what, later, tt.later)
		}
		for _, c := range al.changes[before:] {
			if c.After == nil && (c.Cause != ByOperator || c.Client.IsValid()) {
				t.Errorf("%s: %v is closed because of %v, for %v", what, c.Before.Key, c.Cause, c.Client)
			}
		}
		al.check(t)
	}
}

// keysOf returns the keys of mappings as text.
func keysOf(list []*Mapping) string {
	var keys []Key
	for _, m := range list {
		keys = append(keys, m.Key)
	}
	return fmt.Sprint(keys)
}

// TestBlockedHostMayClose deletes mappings under a block that covers none of them.
func TestBlockedHostMayClose(t *testing.T) {
	for _, req := range []Request{
		ask(NATPMP, host, TCP, 40000, 40000), ask(PCP, host, TCP, 40000, 40000, nonce(1)), ask(UPnP, host, TCP, 40000, 40000), ask(PCP, inside, TCP, 40000, 40000, nonce(1)),
	} {
		al := testAllocator()
		al.do(req)
		al.blocks = []BlockRecord{{Block: blockOf(Selector{})}}
		closing(&req)
		if req.Origin != UPnP {
			req.External = 0
		}
		if a := al.do(req); a.Refusal != Granted || a.Closed != 1 || a.Block != nil {
			t.Errorf("%v of %v: %+v", req.Origin, req.Client, a)
		}
	}
}

// TestBlockedForward joins a static forward under blocks.
func TestBlockedForward(t *testing.T) {
	for what, tt := range map[string]struct {
		s    Selector
		want Refusal
	}{
		"none that applies": {Selector{Protocol: UDP}, Granted},
		"the host":          {Selector{Host: HostSelector{Hardware: mac1}}, Blocked},
		"another host":      {Selector{Host: HostSelector{Hardware: mac2}}, Granted},
	} {
		al := testAllocator()
		al.network.Forwards = []Forward{{Protocol: TCP, External: PortRange{18080, 18080}, Target: netip.AddrPortFrom(host, 8080)}}
		al.block(blockOf(tt.s))
		req := ask(NATPMP, host, TCP, 8080, 18080)
		req.Host.Hardware = mac1
		if a := al.do(req); a.Refusal != tt.want || len(al.changes) > 0 {
			t.Errorf("%s: %+v", what, a)
		}
	}
}

// TestBlockClosesWhatItCovers blocks a host that has mappings with all addresses.
func TestBlockClosesWhatItCovers(t *testing.T) {
	for what, tt := range map[string]struct {
		s      Selector
		closed int
		sleeps int // of unknown hosts
	}{
		"hardware address":       {Selector{Host: HostSelector{Hardware: mac1}}, 3, 1},
		"bound address":          {Selector{Host: HostSelector{Addr: host, Bound: []string{mac1}}}, 3, 1},
		"bound address of other": {Selector{Host: HostSelector{Addr: host, Bound: []string{"02:00:00:00:00:12"}}}, 1, 1},
		"address":                {Selector{Host: HostSelector{Addr: host}}, 1, 0},
		"name":                   {Selector{Host: HostSelector{Name: "laptop", Bound: []string{mac1}}}, 3, 1},
		"port":                   {Selector{External: PortRange{40001, 40001}}, 1, 0},
		"host and protocol":      {Selector{Host: HostSelector{Hardware: mac1}, Protocol: UDP}, 1, 0},
	} {
		al := testAllocator()
		for i, req := range []Request{
			ask(UPnP, host, TCP, 40000, 40000), ask(PCP, peer, UDP, 40001, 40001), ask(PCP, inside, TCP, 40002, 40002),
			ask(UPnP, netip.MustParseAddr("192.168.50.12"), TCP, 40003, 40003), ask(UPnP, netip.MustParseAddr("192.168.50.13"), TCP, 40004, 40004),
		} {
			req.Host.Hardware = [...]string{mac1, mac1, mac1, "", mac2}[i]
			if a := al.do(req); a.Refusal != Granted {
				t.Fatal(a.Refusal)
			}
		}
		al.begin()
		al.block(blockOf(tt.s))
		if n := closures(al.changes); n != tt.closed {
			t.Errorf("%s: %d are closed, want %d", what, n, tt.closed)
		}
		al.recheck(noHost)
		sleeps := 0
		for _, m := range al.index.order {
			if m.Dormant {
				sleeps++
			}
		}
		if sleeps != tt.sleeps || len(al.index.order) != 5-tt.closed {
			t.Errorf("%s: %d of %d are dormant, want %d", what, sleeps, len(al.index.order), tt.sleeps)
		}
		al.check(t)
	}
}
