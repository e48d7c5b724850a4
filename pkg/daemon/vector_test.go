package daemon_test

import (
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"igdd/pkg/netlab"
	"igdd/pkg/vectors"
)

// TestVectors runs every NAT-PMP and PCP vector against the running daemon.
// Those that wait for announcements are in TestAnnouncements.
func TestVectors(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"natpmp", "pcp"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			var rigs []*rig
			for range 4 {
				r := newRig(t, "legacy", netlab.Layout{IPv6: true})
				r.addAddresses(t)
				rigs = append(rigs, r)
			}
			all := slices.DeleteFunc(vectors.Load(t, protocol), func(v vectors.Vector) bool { return v.Expect.Capture })
			vectors.PlayInParallel(t, rigs, all, func(v vectors.Vector) string { return v.ID },
				func(t *testing.T, r *rig, v vectors.Vector) { r.play(t, v) })
		})
	}
}

// addAddresses gives the LAN host the second client's addresses and a foreign one,
// and the WAN host a route to the LAN.
func (r *rig) addAddresses(t *testing.T) {
	lan := r.Clients[0]
	for _, a := range []string{"192.168.50.11/24", "2001:db8:50::11/64"} {
		lan.Address(t, "eth0", netip.MustParsePrefix(a))
	}
	lan.Address(t, "lo", netip.MustParsePrefix("10.9.9.9/32"))
	r.Router.IP(t, "route", "add", "10.9.9.9/32", "dev", "lan0")
	r.WAN.IP(t, "route", "add", "192.168.50.0/24", "via", netlab.RouterWAN.Addr().String())
}

// play sets up the state of a vector, sends its requests, compares the answers and
// removes everything. The settings follow RFC 6887 strictly, as the vectors do.
func (r *rig) play(t *testing.T, v vectors.Vector) {
	conf := []string{"pcp_max_filters=4", "pcp_lenient_nonce=no", "ipv6=yes"}
	for name, key := range map[string]string{
		"third_party": "pcp_allow_thirdparty", "peer": "pcp_peer", "pcp": "enable_pcp",
	} {
		if on, set := vectors.Setting(v, name, any(nil)).(bool); set {
			conf = append(conf, key+"="+map[bool]string{true: "yes", false: "no"}[on])
		}
	}
	for name, key := range map[string]string{
		"max_mappings_per_host": "max_per_host", "max_mappings_total": "max_total", "max_filters": "pcp_max_filters",
	} {
		if n, set := vectors.Setting(v, name, any(nil)).(float64); set {
			conf = append(conf, fmt.Sprintf("%s=%d", key, int(n)))
		}
	}
	for _, step := range v.Before {
		switch step.Op {
		case "static_forward":
			rule := []string{"-i", "wan0", "-p", step.Protocol, "--dport", fmt.Sprint(step.ExternalPort),
				"-j", "DNAT", "--to-destination", fmt.Sprintf("%v:%d", step.InternalIP, step.InternalPort)}
			r.ipt(t, append([]string{"-t", "nat", "-A", "PREROUTING"}, rule...)...)
			defer r.ipt(t, append([]string{"-t", "nat", "-D", "PREROUTING"}, rule...)...)
		case "gateway_socket":
			r.Router.Echo(t, step.Protocol, netip.AddrPortFrom(step.Addr, step.Port).String())
		case "nat":
			conf = append(conf, "enable_natpmp=no", "enable_upnp=yes")
		}
	}
	r.start(t, conf...)
	defer r.clear(t)
	for _, step := range v.Before {
		switch step.Op {
		case "send":
			reply, _ := exchange(t, r.Clients[0], step.Source, step.Destination, step.Request, patience)
			if got := result(reply); got != step.Result {
				t.Fatalf("set-up request %x: result %d, want %d", step.Request, got, step.Result)
			}
		case "wan":
			r.moveUplink(t, step.Addr)
		}
	}
	r.ask(t, "request", v.Side, v.Source, v.Destination, v.Request, v.Expect)
	for _, after := range v.After {
		r.ask(t, after.Why, "lan", after.Source, after.Destination, after.Request, after.Expect)
	}
}

// ask sends one request and compares the reply.
func (r *rig) ask(t *testing.T, what, side string, source, to netip.Addr, request []byte, want vectors.Expectation) {
	t.Helper()
	from, wait := r.Clients[0], patience
	if side == "wan" {
		from = r.WAN
	}
	if want.Silent() {
		wait = hush
	}
	reply, replier := exchange(t, from, source, to, request, wait)
	for _, difference := range want.Check(reply) {
		t.Errorf("%s: %s (reply %x)", what, difference, reply)
	}
	if want.ReplySource.IsValid() && replier.Addr().WithZone("") != want.ReplySource {
		t.Errorf("%s: reply from %v, want %v", what, replier, want.ReplySource)
	}
}

// result returns the result code of a NAT-PMP or PCP reply, -1 for none.
func result(reply []byte) int {
	switch {
	case len(reply) < 4:
		return -1
	case reply[0] == 0:
		return int(reply[2])<<8 | int(reply[3])
	}
	return int(reply[3])
}

// moveUplink takes the uplink's IPv4 address away and gives it another one,
// unless that is the zero Addr, and waits until the daemon knows.
func (r *rig) moveUplink(t *testing.T, a netip.Addr) {
	t.Helper()
	r.Router.IP(t, "-4", "address", "flush", "dev", "wan0")
	want := byte(3)
	if a.IsValid() {
		r.Router.Address(t, "wan0", netip.PrefixFrom(a, 24))
		want = 0
	}
	await(t, "the daemon to see the uplink", func() bool {
		reply, _ := exchange(t, r.Clients[0], client1, netlab.RouterLAN.Addr(), []byte{0, 0}, patience)
		return len(reply) == 12 && reply[3] == want && (!a.IsValid() || netip.AddrFrom4([4]byte(reply[8:])) == a)
	})
}

var (
	client1 = netip.MustParseAddr("192.168.50.10")
	client2 = netip.MustParseAddr("192.168.50.11")
)

// clear stops the daemon and restores the router's state.
func (r *rig) clear(t *testing.T) {
	r.stop(t, syscall.SIGTERM)
	r.removeFiles(t)
	r.Router.IP(t, "-4", "address", "flush", "dev", "wan0")
	r.Router.Address(t, "wan0", netlab.RouterWAN)
}
