package daemon

import (
	"net/netip"
	"slices"
	"testing"

	"igdd/pkg/config"
	"igdd/pkg/netif"
	"igdd/pkg/portmap"
	"igdd/pkg/upstream"
)

// parsed returns an IPv4 address, the zero Addr for "".
func parsed(text string) netip.Addr {
	a, _ := netip.ParseAddr(text)
	return a
}

func TestRouterInFront(t *testing.T) {
	const public, private, shared, linkLocal = "11.22.33.44", "192.168.1.2", "100.64.0.2", "169.254.1.2"
	for _, tt := range []struct {
		setting      config.Upstream
		own, gateway string
		want         bool // it is to be asked, if there is one
	}{
		{config.UpstreamNo, private, "192.168.1.1", false},
		{config.UpstreamAuto, private, "192.168.1.1", true},
		{config.UpstreamAuto, "10.1.2.3", "10.1.2.1", true},
		{config.UpstreamAuto, "172.31.0.3", "172.31.0.1", true},
		{config.UpstreamAuto, shared, "100.64.0.1", true},
		{config.UpstreamAuto, "100.127.255.254", "100.64.0.1", true},
		{config.UpstreamAuto, "100.128.0.1", "100.64.0.1", false},
		{config.UpstreamAuto, linkLocal, "169.254.1.1", true},
		{config.UpstreamAuto, public, "11.22.33.1", false},
		{config.UpstreamAuto, private, "", true},
		{config.UpstreamAuto, "", "192.168.1.1", false},
		{config.UpstreamPCP, public, "11.22.33.1", true},
		{config.UpstreamNATPMP, public, "11.22.33.1", true},
		{config.UpstreamIGD, public, "11.22.33.1", true},
		{config.UpstreamAuto, public, "", false},
		{config.UpstreamIGD, public, "", true},
		{config.UpstreamPCP, "", "11.22.33.1", false},
	} {
		want := upstream.Gateway{}
		if tt.want {
			want = upstream.Gateway{Address: parsed(tt.gateway), Local: parsed(tt.own), Device: "wan0"}
		}
		if got := routerInFront(tt.setting, "wan0", parsed(tt.own), parsed(tt.gateway)); got != want {
			t.Errorf("%v, %q behind %q: %+v", tt.setting, tt.own, tt.gateway, got)
		}
	}
}

func TestAnnouncedAddr(t *testing.T) {
	const own, public, private, stun, configured = "192.168.1.2", "203.0.113.1", "100.64.0.9", "203.0.113.7", "203.0.113.9"
	for _, tt := range []struct{ configured, own, outer, stun, want string }{
		{"", own, "", "", own},
		{"", own, "", stun, stun},
		{"", own, public, "", public},
		{"", own, public, stun, public},
		{"", own, private, "", private},
		{"", own, private, stun, stun},
		{configured, own, public, "", configured},
		{configured, own, "", "", configured},
		{"", "", public, stun, ""},
		{configured, "", public, "", ""},
	} {
		c := &config.Config{ExternalIP: parsed(tt.configured)}
		if got := announcedAddr(c, parsed(tt.own), parsed(tt.outer), parsed(tt.stun)); got != parsed(tt.want) {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}

// TestUpstreamMethods demands that every setting but no has protocols, and no parts that
// ask the router in front without one.
func TestUpstreamMethods(t *testing.T) {
	for u, want := range map[config.Upstream][]upstream.Method{
		config.UpstreamNo:     nil,
		config.UpstreamAuto:   {upstream.PCP, upstream.NATPMP, upstream.IGD},
		config.UpstreamPCP:    {upstream.PCP},
		config.UpstreamNATPMP: {upstream.NATPMP},
		config.UpstreamIGD:    {upstream.IGD},
	} {
		d := &Daemon{config: &config.Config{Upstream: u}}
		d.upstream = d.newUpstream()
		isOff := d.upstream == nil && d.tableUpstream() == nil && gatewayReader(d.config) == nil
		if !slices.Equal(upstreamMethods[u], want) || isOff != (want == nil) {
			t.Errorf("%v: methods %v, off %v", u, upstreamMethods[u], isOff)
		}
	}
}

// TestClientsAreNoRoutersInFront tells apart who may be asked, and which outermost
// addresses lead elsewhere.
func TestClientsAreNoRoutersInFront(t *testing.T) {
	links := map[string]netif.Link{
		"wan0": {Name: "wan0", Index: 1, Up: true, Addrs: []netip.Prefix{netip.MustParsePrefix("192.168.1.2/24")}},
		"lan0": {Name: "lan0", Index: 2, Up: true, Addrs: []netip.Prefix{netip.MustParsePrefix("192.168.50.1/24")}},
		"dmz0": {Name: "dmz0", Index: 3, Up: true, Addrs: []netip.Prefix{netip.MustParsePrefix("192.168.60.1/24")}},
	}
	d := &Daemon{config: &config.Config{
		WAN: []string{"wan0"}, LANs: []config.LAN{{Interface: "lan0"}},
		Routes: []config.Route{{Network: netip.MustParsePrefix("10.1.0.0/16"), Interface: "lan0"}},
	}}
	for a, want := range map[string]struct{ own, served bool }{
		"192.168.1.2": {true, false}, "192.168.1.1": {}, "192.168.50.1": {true, true}, "192.168.50.254": {false, true},
		"192.168.60.1": {true, false}, "192.168.60.2": {}, "10.1.0.1": {false, true}, "10.2.0.1": {}, "203.0.113.1": {},
	} {
		if own, served := isOwn(links, parsed(a)), d.isServed(links, parsed(a)); own != want.own || served != want.served {
			t.Errorf("%s: own %v, served %v, want %+v", a, own, served, want)
		}
	}
}

// TestConfiguredAddressIsReported keeps the port that the router in front has given.
func TestConfiguredAddressIsReported(t *testing.T) {
	given := netip.MustParseAddrPort("100.64.0.9:40000")
	for configured, want := range map[string]string{"": "100.64.0.9:40000", "203.0.113.9": "203.0.113.9:40000"} {
		d := &Daemon{config: &config.Config{ExternalIP: parsed(configured)}}
		reports := []portmap.Report{
			{Forwarding: portmap.Forwarding{State: portmap.Reachable, External: given}},
			{Forwarding: portmap.Forwarding{State: portmap.Unreachable}},
		}
		d.setConfiguredAddr(reports)
		if reports[0].Forwarding.External != netip.MustParseAddrPort(want) || reports[1].Forwarding.External.IsValid() {
			t.Errorf("%q: %v and %v", configured, reports[0].Forwarding.External, reports[1].Forwarding.External)
		}
	}
}
