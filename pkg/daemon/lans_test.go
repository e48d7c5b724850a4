package daemon

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"igdd/pkg/config"
	"igdd/pkg/netif"
)

// links makes links of "name address..." texts.
func links(texts ...string) map[string]netif.Link {
	all := make(map[string]netif.Link)
	for i, text := range texts {
		words := strings.Fields(text)
		link := netif.Link{Name: words[0], Index: i + 1, Up: true}
		for _, a := range words[1:] {
			link.Addrs = append(link.Addrs, netip.MustParsePrefix(a))
		}
		all[link.Name] = link
	}
	return all
}

// lanOfConf returns the LAN that a miniupnpd.conf means.
func lanOfConf(t *testing.T, text string) config.LAN {
	t.Helper()
	c, err := config.Parse([]string{"-f", "/dev/null", "-i", "wan0", "-u", "3d3cec3a-8cf0-11e0-98ee-001a6bd2d07b", "-a", text}, "/")
	if err != nil || len(c.LANs) != 1 {
		t.Fatalf("%q: %v", text, err)
	}
	return c.LANs[0]
}

func TestLocate(t *testing.T) {
	around := links("lo 127.0.0.1/8", "wan0 88.22.44.13/24 10.1.0.9/16", "lan0 192.168.1.1/24 192.168.2.1/24 2001:db8:1::1/64 fe80::1/64", "lan1 10.1.2.1/24", "ppp0", "sit1 2001:db8:9::1/64")
	uplinks := []string{"wan+", "ppp0", "sit1"}
	for text, want := range map[string]string{
		"lan0":              "lan0 [192.168.1.1/24 192.168.2.1/24 2001:db8:1::1/64 fe80::1/64]",
		"lan0/16":           "lan0 [192.168.1.1/24 192.168.2.1/24 2001:db8:1::1/64 fe80::1/64]",
		"lan0/25":           "lan0 [192.168.1.1/25 192.168.2.1/25 2001:db8:1::1/64 fe80::1/64]",
		"192.168.1.1":       "lan0 [192.168.1.1/24 192.168.2.1/24 2001:db8:1::1/64 fe80::1/64]",
		"192.168.2.1/26":    "lan0 [192.168.1.1/24 192.168.2.1/26 2001:db8:1::1/64 fe80::1/64]",
		"192.168.1.0/24":    "lan0 [192.168.1.1/24 192.168.2.1/24 2001:db8:1::1/64 fe80::1/64]",
		"192.168.0.0/16":    "lan0 [192.168.1.1/24 192.168.2.1/24 2001:db8:1::1/64 fe80::1/64]",
		"2001:db8:1::/64":   "lan0 [192.168.1.1/24 192.168.2.1/24 2001:db8:1::1/64 fe80::1/64]",
		"2001:db8:1::1/128": "lan0 [192.168.1.1/24 192.168.2.1/24 2001:db8:1::1/128 fe80::1/64]",
		"10.1.0.0/16":       "lan1 [10.1.2.1/24]",
		"lan2":              "there is no interface lan2",
		"192.168.1.2/24":    "no interface has the address 192.168.1.2",
		"192.168.3.0/24":    "no interface has an address in 192.168.3.0/24",
		"126.0.0.0/7":       "no interface has an address in 126.0.0.0/7",
		"88.22.44.0/24":     "only the uplink wan0 has an address in 88.22.44.0/24",
		"88.22.44.13":       "only the uplink wan0 has the address 88.22.44.13",
		"10.1.0.9/16":       "only the uplink wan0 has the address 10.1.0.9",
		"2001:db8:9::/64":   "only the uplink sit1 has an address in 2001:db8:9::/64",
	} {
		l := lanOfConf(t, text)
		got := absentOr(l, uplinks, around)
		if got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	if got := fmt.Sprint(len(linksOf(lanOfConf(t, "10.0.0.0/8"), uplinks, links("a 10.1.0.1/16", "b 10.2.0.1/16", "c 11.0.0.1/8")))); got != "2" {
		t.Errorf("%s interfaces in a network of two", got)
	}
}

// TestOwnPrefixes has a virtual address beside the router's own ones.
func TestOwnPrefixes(t *testing.T) {
	for _, tt := range []struct{ lan, link, want string }{
		{"lan0", "lan0 10.0.0.2/24 10.0.0.1/24", "10.0.0.2/24 10.0.0.1/24"},
		{"10.0.0.0/24", "lan0 10.0.0.2/24 10.0.0.1/24", "10.0.0.2/24 10.0.0.1/24"},
		{"10.0.0.1", "lan0 10.0.0.2/24 10.0.0.1/24 fe80::1/64", "10.0.0.1/24 10.0.0.2/24 fe80::1/64"},
		{"10.0.0.1", "lan0 10.0.0.2/24 10.0.0.1/32", "10.0.0.1/24 10.0.0.2/24"},
		{"10.0.0.1/25", "lan0 10.0.0.2/24 10.0.0.1/32", "10.0.0.1/25 10.0.0.2/25"},
		{"10.0.0.1", "lan0 10.0.0.2/8 10.0.0.3/16 10.0.0.4/32 10.0.0.1/32", "10.0.0.1/24 10.0.0.2/24 10.0.0.3/24 10.0.0.4/32"},
		{"10.0.0.1/8", "lan0 10.0.0.2/8 10.0.0.3/16 10.0.0.1/32", "10.0.0.1/16 10.0.0.2/8 10.0.0.3/16"},
		{"10.0.0.1", "lan0 10.0.0.1/32 10.9.0.2/24", "10.0.0.1/32 10.9.0.2/24"},
		{"10.0.0.1", "lan0 10.0.0.1/24", "10.0.0.1/24"},
		{"fd00::1", "lan0 10.0.0.2/24 fd00::2/64 fd00::1/128", "fd00::1/64 10.0.0.2/24 fd00::2/64"},
		{"10.0.0.1", "lan0 10.0.0.2/24 fe80::1/64", ""},
	} {
		link := links(tt.link)["lan0"]
		got := strings.Trim(fmt.Sprint(ownPrefixes(lanOfConf(t, tt.lan), link)), "[]")
		if got != tt.want {
			t.Errorf("%s on %q: %s, want %s", tt.lan, tt.link, got, tt.want)
		}
		if after := links(tt.link)["lan0"]; !after.Equal(link) {
			t.Errorf("%s on %q changes the link to %v", tt.lan, tt.link, link)
		}
	}
}

// TestServedRoutes has networks behind routers on lan0, and says why some are not served.
func TestServedRoutes(t *testing.T) {
	c := &config.Config{WAN: []string{"wan0"}, WAN6: "wan0", LANs: []config.LAN{lanOfConf(t, "lan0"), lanOfConf(t, "192.168.2.1/24")}}
	around := links("lan0 192.168.1.1/24 2001:db8:1::1/64", "lan1 192.168.2.1/24", "wan0 10.64.0.7/10", "tun0 10.8.0.1/24", "dmz0 172.16.0.1/12")
	for route, want := range map[string]string{
		"10.1.0.0/16 via lan0":            "",
		"10.1.0.0/16 via lan1":            "", // listened on by its address
		"10.65.0.0/16 via lan0":           "", // more specific than the network of the uplink
		"172.17.0.0/16 via lan0":          "",
		"2001:db8:2::/48 via lan0":        "",
		"10.64.0.0/16 via lan0":           "10.64.0.7 is the router's own address on wan0",
		"10.8.0.0/16 via lan0":            "10.8.0.1 is the router's own address on tun0",
		"192.168.0.0/23 via lan0":         "192.168.1.1 is the router's own address on lan0",
		"192.168.2.128/25 via lan0":       "it overlaps with 192.168.2.0/24, the network of lan1",
		"2001:db8:1:0:8000::/65 via lan0": "it overlaps with 2001:db8:1::/64, the network of lan0",
		"10.1.0.0/16 via dmz0":            "dmz0 is not served",
		"10.1.0.0/16 via lan9":            "there is no interface lan9",
	} {
		network, device, _ := strings.Cut(route, " via ")
		got := ""
		if err := checkRoute(c, config.Route{Network: netip.MustParsePrefix(network), Interface: device}, around); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", route, got, want)
		}
	}
}

// TestNetworksOfLAN leaves out the router's own single addresses, but no single host behind
// another router.
func TestNetworksOfLAN(t *testing.T) {
	own := prefixes("192.168.1.1/24", "192.168.1.7/24", "192.168.1.9/32", "169.254.1.1/16", "2001:db8::1/64")
	if got, want := fmt.Sprint(networks4(own, prefixes("10.1.0.0/16", "10.2.3.4/32", "2001:db8:1::/64"))), "[192.168.1.0/24 10.1.0.0/16 10.2.3.4/32]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// prefixes parses networks.
func prefixes(texts ...string) (list []netip.Prefix) {
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

// absentOr returns the interfaces of a LAN with their networks, or why there are none.
func absentOr(l config.LAN, uplinks []string, around map[string]netif.Link) string {
	var list []string
	for _, link := range linksOf(l, uplinks, around) {
		list = append(list, fmt.Sprint(link.Name, " ", link.Addrs))
	}
	if list == nil {
		return missingText(l, around)
	}
	return strings.Join(list, ", ")
}

// noRoutes is that nothing is wrong with routed networks.
func noRoutes(map[string]netif.Link) map[string]string { return make(map[string]string) }

// TestMissingIsLoggedOnce has interfaces come and go.
func TestMissingIsLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	f := &supervisor{
		lans: []config.LAN{lanOfConf(t, "192.168.1.0/24"), lanOfConf(t, "lan1")}, uplinks: []string{"ppp+"},
		routes: func(links map[string]netif.Link) map[string]string {
			if _, found := links["ppp0"]; found {
				return noRoutes(links)
			}
			return map[string]string{"lan_route=10.1.0.0/16 via lan1": "a reason"}
		},
		log: slog.New(slog.NewTextHandler(&log, nil)),
	}
	all := links("lan0 192.168.1.1/24", "lan1", "ppp0")
	for i, step := range []struct {
		around map[string]netif.Link
		want   string // parts of the lines, in order
	}{
		{all, ""},
		{links("lan0 192.168.2.1/24", "lan1"), "listening_ip=192.168.1.0/24 is not available: no interface has an address in 192.168.1.0/24\next interface ppp+ is not available: there is no interface ppp+\nlan_route=10.1.0.0/16 via lan1 is not available: a reason"},
		{links("lan0 192.168.2.1/24"), "listening_ip=lan1 is not available: there is no interface lan1"},
		{links("lan0 192.168.2.1/24"), ""},
		{all, "ext interface ppp+ is available now\nlan_route=10.1.0.0/16 via lan1 is available now\nlistening_ip=192.168.1.0/24 is available now\nlistening_ip=lan1 is available now"},
		{all, ""},
	} {
		log.Reset()
		f.logMissing(step.around)
		got := strings.Split(strings.TrimSpace(log.String()), "\n")
		want := strings.Split(step.want, "\n")
		if len(got) != len(want) {
			t.Errorf("step %d: %q, want %q", i, got, want)
			continue
		}
		slicesContain(t, got, want)
	}
}

func slicesContain(t *testing.T, got, want []string) {
	t.Helper()
	all := strings.Join(got, "\n")
	for _, part := range want {
		if !strings.Contains(all, part) {
			t.Errorf("%q is not in %q", part, all)
		}
	}
}

func TestCheckInterfaces(t *testing.T) {
	c := &config.Config{WAN: []string{"ppp+"}, WAN6: "sit1", LANs: []config.LAN{{Interface: "lan0"}, {Prefix: netip.MustParsePrefix("192.168.1.1/24")}}}
	const nothing = "there is no interface ppp+, there is no interface sit1, there is no interface lan0, no interface has the address 192.168.1.1: nothing to serve"
	for around, want := range map[string]string{
		"lo 127.0.0.1/8":               nothing,
		"eth0 192.168.1.2/24":          nothing,
		"eth0 192.168.1.1/30":          "<nil>",
		"lan0":                         "<nil>",
		"ppp3":                         "<nil>",
		"sit1 fe80::1/64":              "<nil>",
		"lan0.5 10.0.0.1/8":            nothing,
		"eth0 2001:db8:1::/64":         nothing,
		"sit12 2001:db8:192:168::1/64": nothing,
	} {
		if err := checkInterfaces(c, links(around)); fmt.Sprint(err) != want {
			t.Errorf("%s: %v, want %s", around, err, want)
		}
	}
}

// TestCheckInterfacesNamesPlaces demands that the settings' file and line come
// before what is wrong with them, and that before what follows from it.
func TestCheckInterfacesNamesPlaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("ext_ifname=wan7\nlistening_ip=lan7\nuuid=3d3cec3a-8cf0-11e0-98ee-001a6bd2d07b\next_ifname2=wan8\next_ifname6=sit7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Parse([]string{"-f", path, "-a", "192.168.7.1"}, "/")
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%[1]s:1: there is no interface wan7, %[1]s:4: there is no interface wan8, %[1]s:5: there is no interface sit7, "+
		"%[1]s:2: there is no interface lan7, option -a: no interface has the address 192.168.7.1: nothing to serve", path)
	if err := checkInterfaces(c, links("eth0")); fmt.Sprint(err) != want {
		t.Errorf("%v, want %s", err, want)
	}
}
