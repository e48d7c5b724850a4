package portmap_test

import (
	"net/netip"
	"testing"
	"time"

	"igdd/pkg/portmap"
	"igdd/pkg/portmap/portmaptest"
)

// TestTableFormer asks for the former address of hosts.
func TestTableFormer(t *testing.T) {
	r := newTableRig(t, new(portmaptest.Firewall), new(portmaptest.Store))
	mac := func(req portmap.Request, hardware string) portmap.Request {
		req.Host.Hardware = hardware
		return req
	}
	r.grant(t, mac(open(client(0), 4000, time.Hour), "02:00:00:00:00:10"))
	r.grant(t, open(client(1), 5000, time.Hour))
	again := func(change func(*portmap.Request)) portmap.Request {
		req := mac(open(client(2), 4000, time.Hour), "02:00:00:00:00:10")
		change(&req)
		return req
	}
	for _, tt := range []struct {
		what string
		req  portmap.Request
		want netip.Addr
	}{
		{"its port", again(func(*portmap.Request) {}), client(0)},
		{"its port, by the internal port", again(func(r *portmap.Request) { r.External = 0 }), client(0)},
		{"its port in the other protocol", again(func(r *portmap.Request) { r.Protocol = portmap.TCP }), client(0)},
		{"another port", again(func(r *portmap.Request) { r.External = 4001 }), netip.Addr{}},
		{"the port of a host that is not known", again(func(r *portmap.Request) { r.External = 5000 }), netip.Addr{}},
		{"as a host that is not known", again(func(r *portmap.Request) { r.Host.Hardware = "" }), netip.Addr{}},
		{"as another host", again(func(r *portmap.Request) { r.Host.Hardware = "02:00:00:00:00:11" }), netip.Addr{}},
		{"from its address", mac(open(client(0), 4000, time.Hour), "02:00:00:00:00:10"), netip.Addr{}},
		{"for another host", again(func(r *portmap.Request) { r.Client = client(3) }), netip.Addr{}},
		{"as a third party", again(func(r *portmap.Request) { r.ThirdParty = true }), netip.Addr{}},
		{"to close it", again(func(r *portmap.Request) { r.Op = portmap.Close }), netip.Addr{}},
		{"for a flow", again(func(r *portmap.Request) { r.Remote = netip.MustParseAddrPort("9.9.9.9:80") }), netip.Addr{}},
	} {
		got, found := r.Former(&tt.req)
		if got != tt.want || found != tt.want.IsValid() {
			t.Errorf("%s: %v, %v", tt.what, got, found)
		}
	}
	r.grant(t, again(func(r *portmap.Request) { r.External = 4001 }))
	req := again(func(*portmap.Request) {})
	if a, found := r.Former(&req); found {
		t.Errorf("a renewal on another port is for %v", a)
	}
}

// TestMoveIsOneTransaction has a host move with its port: if the kernel refuses
// that, all is as before, in the file too.
func TestMoveIsOneTransaction(t *testing.T) {
	firewall := new(portmaptest.Firewall)
	r := newTableRig(t, firewall, new(portmaptest.Store))
	req := open(client(0), 4000, time.Hour)
	req.Host.Hardware = "02:00:00:00:00:10"
	r.grant(t, req)
	firewall.Refuse = func(c portmap.Change) bool { return c.After != nil && c.After.Internal.Addr() == client(1) }
	next := open(client(1), 4000, time.Hour)
	next.Host, next.Former = req.Host, client(0)
	if a, err := r.Do(t.Context(), next); err != nil || a.Refusal != portmap.FirewallFailed {
		t.Fatalf("%v, %v", a.Refusal, err)
	}
	r.checkAgreement(t, 1)
	if m := r.onlyMapping(t); m.Internal != req.Internal {
		t.Errorf("left is %+v", m)
	}
	r.await()
	batches := firewall.Batches()
	firewall.Refuse = nil
	if a := r.grant(t, next); a.Closed != 1 || firewall.Batches() != batches+1 {
		t.Errorf("%+v in %d transactions", a, firewall.Batches()-batches)
	}
	r.checkAgreement(t, 1)
	if m := r.onlyMapping(t); m.Internal != next.Internal {
		t.Errorf("left is %+v", m)
	}
}
