package portmap

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"
)

func TestBlock(t *testing.T) {
	whole, soon := PortRange{}, time.Now().Add(time.Hour)
	for name, test := range map[string]struct {
		block Block
		ask   Request
		want  Refusal
		port  uint16
	}{
		"host":                    {Block{Host: host, Until: soon}, ask(NATPMP, host, UDP, 40000, 40000), NotAuthorized, 0},
		"other host":              {Block{Host: peer, Until: soon}, ask(NATPMP, host, UDP, 40000, 40000), Granted, 40000},
		"port":                    {Block{External: PortRange{40000, 40000}, Until: soon}, ask(NATPMP, host, UDP, 40000, 40000), Granted, 40001},
		"exact port":              {Block{External: PortRange{40000, 40000}, Until: soon}, ask(UPnP, host, UDP, 40000, 40000), NotAuthorized, 0},
		"port of the other kind":  {Block{Protocol: TCP, External: PortRange{40000, 40000}, Until: soon}, ask(UPnP, host, UDP, 40000, 40000), Granted, 40000},
		"everything":              {Block{External: whole, Until: soon}, ask(NATPMP, host, UDP, 40000, 40000), NotAuthorized, 0},
		"it has ended":            {Block{Until: time.Now().Add(-time.Second)}, ask(NATPMP, host, UDP, 40000, 40000), Granted, 40000},
		"pinhole":                 {Block{Host: inside, Until: soon}, ask(PCP, inside, TCP, 8080, 0), NotAuthorized, 0},
		"pinhole, by port":        {Block{External: PortRange{8080, 8080}, Until: soon}, ask(PCP, inside, TCP, 8080, 0), NotAuthorized, 0},
		"port of another pinhole": {Block{External: PortRange{8081, 8081}, Until: soon}, ask(PCP, inside, TCP, 8080, 0), Granted, 0},
	} {
		al := testAllocator()
		al.block(test.block)
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
	al.block(Block{Host: host, Protocol: TCP, Until: al.now.Add(time.Hour)})
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
	al.blocks = []Block{{External: PortRange{50000, 50000}, Until: al.now.Add(time.Hour)}}
	for name, test := range map[string]struct {
		ask     Request
		want    Refusal
		port    uint16
		rule    int
		blocked bool
	}{
		"granted":     {ask(NATPMP, peer, TCP, 41000, 0), Granted, 41000, 1, false},
		"other port":  {ask(NATPMP, peer, TCP, 41000, 40000), Granted, 41000, 1, false},
		"conflict":    {ask(UPnP, peer, TCP, 40000, 40000), Conflict, 40000, 1, false},
		"rules":       {ask(UPnP, peer, TCP, 80, 40001), NotAuthorized, 0, 2, false},
		"low port":    {ask(UPnP, peer, TCP, 9, 1024), Granted, 1024, 0, false},
		"block":       {ask(UPnP, peer, TCP, 50000, 50000), NotAuthorized, 0, 1, true},
		"wrong nonce": {ask(PCP, host, TCP, 40000, 40000, nonce(2)), NotOwner, 40000, 1, false},
		"no host":     {ask(UPnP, netip.MustParseAddr("8.8.8.8"), TCP, 80, 80), BadTarget, 0, 2, false},
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
