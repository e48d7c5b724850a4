package upnpd

import (
	"context"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"igdd/pkg/portmap"
)

// neighbours says which addresses are one host's: the same letter.
type neighbours map[netip.Addr]string

// sameHost is SameHost on the device that the requests of ask come in on.
func (n neighbours) sameHost(_ context.Context, device string, client, other netip.Addr) bool {
	return device == "" && client.Is6() && other.Is6() && n[client] != "" && n[client] == n[other]
}

// pinholes returns what the firewall lets in, without times and numbers.
func (h *testGateway) pinholes() []portmap.Mapping {
	var list []portmap.Mapping
	for _, m := range h.firewall.Open() {
		n := portmap.Mapping{Key: m.Key, Internal: m.Internal}
		for _, c := range m.Claims {
			n.Claims = append(n.Claims, portmap.Claim{Origin: c.Origin, Filters: c.Filters})
		}
		list = append(list, n)
	}
	return list
}

// TestPinholesByOtherAddresses has a host ask from its link-local and temporary
// addresses for its global one: it gets what that address would have got itself.
func TestPinholesByOtherAddresses(t *testing.T) {
	t.Parallel()
	own, other := hosts["c1v6"], hosts["c2v6"]
	const local, temporary, foreign, unknown = "fe80::10", "2a0a:77:1::7777", "fe80::11", "fe80::12"
	known := neighbours{}
	for address, host := range map[string]string{own: "a", local: "a", temporary: "a", other: "b", foreign: "b"} {
		known[netip.MustParseAddr(address)] = host
	}
	s := testNet{}
	strict, h := s.newGateway(t, gatewayConfigOf("default")), s.newGateway(t, gatewayConfigOf("default"))
	h.server.opts.SameHost = known.sameHost
	add := func(g *testGateway, client, filter, port string) reply {
		return ask(t, g.server, client, fw, "AddPinhole", filter, "0", own, port, "6", "600")
	}

	id := add(h, local, "", "5003").out
	if len(id) != 1 || add(strict, own, "", "5003").code != 0 {
		t.Fatalf("from the link-local address: %v", id)
	}
	for _, client := range []string{own, temporary, local} {
		if again := add(h, client, "", "5003"); !slices.Equal(again.out, id) {
			t.Errorf("the same pinhole asked for from %s is %v, want %v", client, again, id)
		}
		if got := ask(t, h.server, client, fw, "UpdatePinhole", id[0], "900"); got.code != 0 {
			t.Errorf("update from %s: %v", client, got)
		}
		if got := ask(t, h.server, client, fw, "GetPinholePackets", id[0]); !slices.Equal(got.out, []string{"3"}) {
			t.Errorf("packets from %s: %v", client, got)
		}
		if got := ask(t, h.server, client, fw, "CheckPinholeWorking", id[0]); got.code != 0 {
			t.Errorf("check from %s: %v", client, got)
		}
	}
	for _, client := range []string{other, foreign, unknown, hosts["c1"], hosts["c2"]} {
		for action, arguments := range map[string][]string{
			"AddPinhole": {"", "0", own, "5004", "6", "600"}, "UpdatePinhole": {id[0], "900"}, "DeletePinhole": {id[0]},
			"GetPinholePackets": {id[0]}, "CheckPinholeWorking": {id[0]},
		} {
			if got := ask(t, h.server, client, fw, action, arguments...); got.code != 606 {
				t.Errorf("%s from %s: %v", action, client, got)
			}
		}
	}
	for _, client := range []string{local, temporary} { // what the address itself may not have, its host may not
		if got := add(h, client, "", "80"); got.code != 606 {
			t.Errorf("a port that the rules forbid, from %s: %v", client, got)
		}
		if got := add(strict, client, "", "5003"); got.code != 606 {
			t.Errorf("where nobody tells hosts apart, from %s: %v", client, got)
		}
	}
	if got, want := h.pinholes(), strict.pinholes(); !reflect.DeepEqual(got, want) {
		t.Errorf("open are %+v, want %+v", got, want)
	}
	if got := ask(t, h.server, temporary, fw, "DeletePinhole", id[0]); got.code != 0 || len(h.pinholes()) != 0 {
		t.Errorf("delete: %v, open are %v", got, h.pinholes())
	}
}
