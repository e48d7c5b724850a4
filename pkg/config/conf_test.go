package config

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"igdd/pkg/portmap"
)

const someUUID = "3d3cec3a-8cf0-11e0-98ee-001a6bd2d07b"

// testMachine is a system with nothing on it but a shell.
func testMachine(t testing.TB) machine {
	return machine{
		rc:       t.TempDir() + "/rc.conf",
		shell:    []string{"/bin/sh"},
		hardware: func(string) string { return "" },
	}
}

// minimal is the least that a miniupnpd.conf must say.
const minimal = "ext_ifname=eth0\nlistening_ip=eth1\nuuid=" + someUUID + "\n"

// parseConf parses a miniupnpd.conf, with arguments after -f.
func parseConf(t testing.TB, text string, args ...string) (*Config, error) {
	t.Helper()
	return withoutPlaces(testMachine(t).parse(append([]string{"-f", write(t, "miniupnpd.conf", text)}, args...)))
}

// withoutPlaces returns settings as if they stood nowhere.
func withoutPlaces(c *Config, err error) (*Config, error) {
	if c != nil {
		c.places = nil
	}
	return c, err
}

// defaults returns what the minimal file means.
func defaults(t testing.TB) Config {
	t.Helper()
	c, err := parseConf(t, minimal)
	if err != nil || len(c.Warnings) > 0 {
		t.Fatalf("%v, %q", err, c.Warnings)
	}
	return *c
}

// TestKeys sets each key to values that mean something, and demands that
// nothing else changes.
func TestKeys(t *testing.T) {
	untried := make(map[string]bool)
	for _, s := range settings {
		untried[s.key] = true
	}
	for line, change := range map[string]func(*Config){
		"ext_ifname=ppp+":                  func(c *Config) { c.WAN, c.WAN6 = []string{"ppp+"}, "ppp+" },
		"ext_ifname=eth7\next_ifname=eth8": func(c *Config) { c.WAN, c.WAN6 = []string{"eth8"}, "eth8" },
		"ext_ifname2=eth7":                 func(c *Config) { c.WAN = []string{"eth0", "eth7"} },
		"ext_ifname2=eth0":                 func(*Config) {},
		"ext_ifname6=sit1":                 func(c *Config) { c.WAN6 = "sit1" },
		"ext_ip=11.22.33.44":               func(c *Config) { c.ExternalIP = netip.MustParseAddr("11.22.33.44") },
		"ext_ip=192.168.1.1":               func(c *Config) { c.ExternalIP = netip.MustParseAddr("192.168.1.1") },
		"ext_ip=":                          func(*Config) {},
		"ext_allow_private_ipv4=yes":       func(*Config) {},
		"ext_stun_host=stun.example\next_perform_stun=yes":                          func(c *Config) { c.STUN = "stun.example:3478" },
		"ext_perform_stun=allow-filtered\next_stun_host=s.example\next_stun_port=9": func(c *Config) { c.STUN = "s.example:9" },
		"ext_stun_host=s.example:99\next_perform_stun=yes":                          func(c *Config) { c.STUN = "s.example:99" },
		"ext_stun_port=9\next_stun_host=11.22.33.44\next_perform_stun=yes":          func(c *Config) { c.STUN = "11.22.33.44:9" },
		"ext_stun_host=2001:db8::1\next_perform_stun=yes":                           func(c *Config) { c.STUN = "[2001:db8::1]:3478" },
		"ext_stun_host=stun.example":                                                func(*Config) {},
		"ext_perform_stun=no":                                                       func(*Config) {},
		"listening_ip=eth2":                                                         func(c *Config) { c.LANs = append(c.LANs, LAN{Interface: "eth2"}) },
		"listening_ip=eth1":                                                         func(*Config) {},
		"listening_ip=192.168.1.1":                                                  func(c *Config) { c.LANs = append(c.LANs, LAN{Prefix: netip.MustParsePrefix("192.168.1.1/24")}) },
		"listening_ip=192.168.1.1/30":                                               func(c *Config) { c.LANs = append(c.LANs, LAN{Prefix: netip.MustParsePrefix("192.168.1.1/30")}) },
		"listening_ip=11.2.3.4/255.255.0.0":                                         func(c *Config) { c.LANs = append(c.LANs, LAN{Prefix: netip.MustParsePrefix("11.2.3.4/16")}) },
		"listening_ip=br-lan.10":                                                    func(c *Config) { c.LANs = append(c.LANs, LAN{Interface: "br-lan.10"}) },
		"port=5000":                                                                 func(c *Config) { c.HTTPPort = 5000 },
		"http_port=5001":                                                            func(c *Config) { c.HTTPPort = 5001 },
		"http_port=0":                                                               func(*Config) {},
		"enable_upnp=no":                                                            func(c *Config) { c.UPnP = false },
		"enable_upnp=yes":                                                           func(*Config) {},
		"enable_natpmp=yes":                                                         func(c *Config) { c.NATPMP, c.PCP = true, true },
		"enable_natpmp=1":                                                           func(c *Config) { c.NATPMP, c.PCP = true, true },
		"enable_natpmp=0":                                                           func(*Config) {},
		"enable_natpmp=no":                                                          func(*Config) {},
		"enable_pcp_pmp=2":                                                          func(c *Config) { c.NATPMP, c.PCP = true, true },
		"enable_natpmp=yes\nenable_pcp=no":                                          func(c *Config) { c.NATPMP = true },
		"enable_pcp=no\nenable_natpmp=yes":                                          func(c *Config) { c.NATPMP = true },
		"enable_pcp=yes":                                                            func(c *Config) { c.PCP = true },
		"ipv6_disable=yes":                                                          func(c *Config) { c.IPv6, c.IPv6Auto = false, false },
		"ipv6_disable=no":                                                           func(*Config) {},
		"ipv6=no":                                                                   func(c *Config) { c.IPv6, c.IPv6Auto = false, false },
		"hairpin=yes":                                                               func(c *Config) { c.Hairpin = true },
		"hidden=yes":                                                                func(c *Config) { c.Hidden = true },
		"pcp_allow_thirdparty=yes":                                                  func(c *Config) { c.ThirdParty = true },
		"pcp_peer=yes":                                                              func(c *Config) { c.Peer = true },
		"pcp_map=no":                                                                func(c *Config) { c.Map = false },
		"pcp_lenient_nonce=yes":                                                     func(*Config) {},
		"pcp_lenient_nonce=no":                                                      func(c *Config) { c.Policy.LenientNonce = false },
		"secure_mode=no":                                                            func(c *Config) { c.Policy.Secure = false },
		"outbound=yes":                                                              func(c *Config) { c.Outbound = OutboundAlways },
		"outbound=no":                                                               func(c *Config) { c.Outbound = OutboundNever },
		"upstream=auto":                                                             func(c *Config) { c.Upstream = UpstreamAuto },
		"upstream=pcp":                                                              func(c *Config) { c.Upstream = UpstreamPCP },
		"upstream=natpmp":                                                           func(c *Config) { c.Upstream = UpstreamNATPMP },
		"upstream=igd":                                                              func(c *Config) { c.Upstream = UpstreamIGD },
		"upstream=no":                                                               func(*Config) {},
		"outbound=auto":                                                             func(*Config) {},
		"secure_mode=yes":                                                           func(*Config) {},
		"min_lifetime=600":                                                          func(c *Config) { c.Policy.MinLifetime = 10 * time.Minute },
		"max_lifetime=3600":                                                         func(c *Config) { c.Policy.MaxLifetime = time.Hour },
		"ext_ports=1234-1299 80": func(c *Config) {
			c.Policy.ExternalPorts = new(portmap.PortSet)
			c.Policy.ExternalPorts.AddRange(portmap.PortRange{First: 1234, Last: 1299})
			c.Policy.ExternalPorts.Add(80)
		},
		"max_per_host=7":                            func(c *Config) { c.Policy.MaxPerHost = 7 },
		"max_per_lan=5":                             func(c *Config) { c.Policy.MaxPerLAN = 5 },
		"sandbox=no":                                func(c *Config) { c.Sandbox = false },
		"max_total=0":                               func(c *Config) { c.Policy.MaxTotal = 0 },
		"pcp_max_filters=4":                         func(c *Config) { c.Policy.MaxFilters = 4 },
		"notify_interval=60":                        func(c *Config) { c.NotifyInterval = time.Minute },
		"bitrate_up=1000000":                        func(c *Config) { c.BitrateUp = 1_000_000 },
		"bitrate_down=10000000000":                  func(c *Config) { c.BitrateDown = 10_000_000_000 },
		"system_uptime=yes":                         func(c *Config) { c.SystemUptime = true },
		"clean_ruleset_interval=600":                func(*Config) {},
		"clean_ruleset_threshold=20":                func(*Config) {},
		"igd_version=1":                             func(c *Config) { c.IGDVersion = V1 },
		"igd_version=2":                             func(c *Config) { c.IGDVersion = V2 },
		"igd_version=both":                          func(*Config) {},
		"force_igd_desc_v1=yes":                     func(c *Config) { c.IGDVersion = V1 },
		"force_igd_desc_v1=no":                      func(c *Config) { c.IGDVersion = V2 },
		"bootid=2147483647":                         func(c *Config) { c.BootID = 1<<31 - 1 },
		"uuid=3D3CEC3A-8CF0-11E0-98EE-001A6BD2D07C": func(c *Config) { c.Device.UUID = "3d3cec3a-8cf0-11e0-98ee-001a6bd2d07c" },
		"friendly_name=AstLinux Router":             func(c *Config) { c.Device.FriendlyName = "AstLinux Router" },
		"friendly_name=a # b = \"c\" <&> é":         func(c *Config) { c.Device.FriendlyName = "a # b = \"c\" <&> é" },
		"manufacturer_name=M":                       func(c *Config) { c.Device.Manufacturer = "M" },
		"manufacturer_url=http://m.example/":        func(c *Config) { c.Device.ManufacturerURL = "http://m.example/" },
		"model_name=N":                              func(c *Config) { c.Device.ModelName = "N" },
		"model_description=D d":                     func(c *Config) { c.Device.ModelDescription = "D d" },
		"model_url=http://n.example/":               func(c *Config) { c.Device.ModelURL = "http://n.example/" },
		"model_number=":                             func(c *Config) { c.Device.ModelNumber = "" },
		"serial=000001":                             func(c *Config) { c.Device.Serial = "000001" },
		"presentation_url=http://r.example/":        func(c *Config) { c.Device.PresentationURL = "http://r.example/" },
		"lease_file=/mnt/kd/upnp.leases":            func(c *Config) { c.LeaseFile = "/mnt/kd/upnp.leases" },
		"lease_file6=/mnt/kd/upnp6.leases":          func(*Config) {},
		"save_delay=1000":                           func(c *Config) { c.SaveDelay = time.Second },
		"upnp_nat_chain=NAT":                        func(c *Config) { c.NATChain = "NAT" },
		"upnp_forward_chain=a.b_c-9":                func(c *Config) { c.ForwardChain = "a.b_c-9" },
		"upnp_nat_postrouting_chain=POST":           func(c *Config) { c.PostroutingChain = "POST" },
		"notify_cmd=/usr/bin/notify":                func(c *Config) { c.NotifyCmd = "/usr/bin/notify" },
		"withdraw_after=300":                        func(c *Config) { c.Withdraw = 5 * time.Minute },
		"dhcp_leases=":                              func(c *Config) { c.DHCPLeases = "" },
		"pid_file=/run/x":                           func(c *Config) { c.PIDFile = "/run/x" },
		"control_socket=/run/y":                     func(c *Config) { c.ControlSocket = "/run/y" },
		"allow 1-2 10.0.0.0/8 3-4": func(c *Config) {
			c.Policy.Rules = []portmap.Rule{{Allow: true, External: portmap.Ports{{First: 1, Last: 2}}, Network: netip.MustParseAddr("10.0.0.0"), Mask: 0xff000000, Internal: portmap.Ports{{First: 3, Last: 4}}}}
		},
		"# comment\n\n \t\n  #friendly_name=x": func(*Config) {},
		"\t friendly_name \t= \t name \t\r":    func(c *Config) { c.Device.FriendlyName = "name" },
	} {
		for _, assignment := range strings.Split(line, "\n") {
			key, _, _ := strings.Cut(assignment, "=")
			delete(untried, key)
		}
		want := defaults(t)
		change(&want)
		got, err := parseConf(t, minimal+line+"\n")
		if err != nil || !reflect.DeepEqual(got, &want) {
			t.Errorf("%q: %v\n got %+v\nwant %+v", line, err, got, want)
		}
	}
	if len(untried) > 0 {
		t.Errorf("no test sets %v", untried)
	}
}

// TestHiddenWithoutEffect hides the gateway from hosts that may open ports for others.
func TestHiddenWithoutEffect(t *testing.T) {
	for lines, want := range map[string]string{
		"hidden=yes\n":                           "",
		"hidden=no\nsecure_mode=no\n":            "",
		"secure_mode=no\nhidden=yes\n":           "miniupnpd.conf:5: hidden: it has no effect with secure_mode=no: ",
		"hidden=yes\npcp_allow_thirdparty=yes\n": "miniupnpd.conf:4: hidden: it has no effect with pcp_allow_thirdparty=yes: ",
	} {
		c, err := parseConf(t, minimal+lines)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(c.Warnings, "\n"); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%q: warnings %q", lines, got)
		}
	}
}

// TestKeysTakeTheirDefaults guards the table against keys that are there twice,
// or do not take what they report.
func TestKeysTakeTheirDefaults(t *testing.T) {
	seen := make(map[string]bool)
	for _, s := range settings {
		d := newDraft(machine{})
		if seen[s.key] {
			t.Errorf("%s is twice in the table", s.key)
		}
		seen[s.key] = true
		if err := s.place(d).Set(s.place(d).String()); err != nil || !reflect.DeepEqual(d.Config, newDraft(machine{}).Config) {
			t.Errorf("%s does not take its default: %v", s.key, err)
		}
	}
}

// TestSkipped gives lines that are not taken, or not as they stand; the service
// starts with the rest, and each gets one warning that names file and line.
func TestSkipped(t *testing.T) {
	for line, want := range map[string]struct {
		reason string
		change func(*Config)
	}{
		"nonsense":                                  {"neither a setting", nil},
		"upnp_nat_chain=PREROUTING":                 {"other rules", nil},
		"upnp_forward_chain=FORWARD":                {"other rules", nil},
		"upnp_forward_chain=INPUT":                  {"other rules", nil},
		"upnp_forward_chain=POST_FORWARD_CHAIN":     {"other rules", nil},
		"upnp_nat_chain=MINIUPNPD-HAIRPIN":          {"other rules", nil},
		"upnp_nat_postrouting_chain=POSTROUTING":    {"other rules", nil},
		"upnp_nat_chain=MINIUPNPD-POSTROUTING":      {"upnp_nat_postrouting_chain: MINIUPNPD-POSTROUTING is upnp_nat_chain, MINIUPNPD is used", func(c *Config) { c.NATChain, c.PostroutingChain = "MINIUPNPD-POSTROUTING", "MINIUPNPD" }},
		"upnp_nat_postrouting_chain=MINIUPNPD":      {"MINIUPNPD-POSTROUTING is used", nil},
		"upnp_forward_chain=LOG":                    {"other rules", nil},
		"Friendly_name=x":                           {`unknown setting "Friendly_name"`, nil},
		"=x":                                        {"unknown setting", nil},
		"packet_log=yes":                            {"packet_log has no effect", nil},
		"upnp_table_name=x":                         {"no effect", nil},
		"minissdpdsocket=/run/x":                    {"no effect", nil},
		"https_port=443":                            {"no effect", nil},
		"ext_ifname=a b":                            {"invalid interface name", nil},
		"ext_ifname=a/b":                            {"invalid interface name", nil},
		"ext_ifname2=averyveryverylongname":         {"invalid interface name", nil},
		"ext_ip=host.example":                       {"invalid IPv4 address", nil},
		"ext_ip=2001:db8::1":                        {"invalid IPv4 address", nil},
		"ipv6_disable=maybe":                        {`"maybe" is taken as no`, nil},
		"listening_ip=\"lan0\"":                     {"write names without quotes", func(c *Config) { c.LANs = append(c.LANs, LAN{Interface: `"lan0"`}) }},
		"listening_ip=lan0,lan1":                    {"does not look like an interface", func(c *Config) { c.LANs = append(c.LANs, LAN{Interface: "lan0,lan1"}) }},
		"listening_ip=lan0;":                        {"does not look like an interface", func(c *Config) { c.LANs = append(c.LANs, LAN{Interface: "lan0;"}) }},
		"ipv6_disable=1":                            {`ipv6_disable: "1" is taken as no`, nil},
		"ipv6_disable=YES":                          {`ipv6_disable: "YES" is taken as no`, nil},
		"ipv6_disable=":                             {`ipv6_disable: "" is taken as no`, nil},
		"ext_ip=0.0.0.0":                            {"not a host's address", nil},
		"ext_ip=127.0.0.1":                          {"not a host's address", nil},
		"ext_ip=255.255.255.255":                    {"not a host's address", nil},
		"ext_ifname=11.22.33.44":                    {`"11.22.33.44" is an address: name the interface`, nil},
		"ext_ifname6=2001:db8::1":                   {"is an address: name the interface", nil},
		"ext_stun_host=\"stun.example\"":            {"invalid host name or address", nil},
		"ext_stun_host=stun.example:stun":           {"port of the STUN server", nil},
		"ext_stun_host=stun://stun.example":         {"port of the STUN server", nil},
		"ext_perform_stun=maybe":                    {"taken as no", nil},
		"ext_stun_port=70000":                       {"not from 0 to 65535", nil},
		"listening_ip=192.168.1.300":                {"neither an interface", nil},
		"listening_ip=192.168.1.1/255.0.255.0":      {"is not contiguous", nil},
		"listening_ip=192.168.1.1/33":               {"mask", nil},
		"listening_ip=fe80::1/64":                   {"name the interface", nil},
		"listening_ip=":                             {"neither an interface", nil},
		"http_port=-1":                              {"invalid number", nil},
		"http_port=65536":                           {"not from 0 to 65535", nil},
		"http_port=5000x":                           {"invalid number", nil},
		"http_port=":                                {"invalid number", nil},
		"enable_natpmp=Yes":                         {`"Yes" is taken as no`, nil},
		"enable_natpmp=-1":                          {"taken as no", nil},
		"enable_upnp=1":                             {`"1" is taken as no`, func(c *Config) { c.UPnP = false }},
		"enable_upnp=":                              {"taken as no", func(c *Config) { c.UPnP = false }},
		"outbound=on":                               {`"on" is none of auto, yes and no`, nil},
		"upstream=yes":                              {`"yes" is none of no, auto, pcp, natpmp and igd`, nil},
		"secure_mode=off":                           {`"off" is taken as yes`, nil},
		"min_lifetime=60":                           {"1m0s is out of range, 2m0s is used", nil},
		"max_lifetime=604800":                       {"168h0m0s is out of range, 24h0m0s is used", nil},
		"max_lifetime=99999999999999999999":         {"not from 0", nil},
		"max_lifetime=1d":                           {"invalid number", nil},
		"max_per_host=+5":                           {"invalid number", nil},
		"max_total=2147483648":                      {"not from 0 to 2147483647", nil},
		"notify_interval=0":                         {"1s is used", func(c *Config) { c.NotifyInterval = time.Second }},
		"bitrate_up=10M":                            {"invalid bit rate", nil},
		"bitrate_down=-1":                           {"invalid bit rate", nil},
		"igd_version=3":                             {"use 1, 2 or both", nil},
		"force_igd_desc_v1=maybe":                   {`force_igd_desc_v1: invalid version "maybe"`, nil},
		"bootid=2147483648":                         {"not from 0", nil},
		"friendly_name=a\x01b":                      {"control character", nil},
		"notify_cmd=hook x":                         {"is not an absolute path", nil},
		"notify_cmd=/hook\x01":                      {"control character", nil},
		"upnp_nat_chain=":                           {"invalid chain name", nil},
		"upnp_nat_chain=-j":                         {"invalid chain name", nil},
		"upnp_nat_chain=a b":                        {"invalid chain name", nil},
		"upnp_nat_chain=" + strings.Repeat("x", 29): {"invalid chain name", nil},
	} {
		expected := defaults(t)
		if want.change != nil {
			want.change(&expected)
		}
		got, err := parseConf(t, minimal+line+"\n")
		if err != nil || len(got.Warnings) != 1 {
			t.Errorf("%q: %v, warnings %q, want one", line, err, got)
			continue
		}
		if w := got.Warnings[0]; !strings.Contains(w, "/miniupnpd.conf:4: ") || !strings.Contains(w, want.reason) {
			t.Errorf("%q: warning %q, want one about %q that names the line", line, w, want.reason)
		}
		if isSwitch := strings.Contains(line, "upstream") || strings.Contains(got.Warnings[0], "write yes or no"); isSwitch != (got.BadSwitches == 1) {
			t.Errorf("%q: %d switches are counted", line, got.BadSwitches)
		}
		got.Warnings, got.BadSwitches = nil, 0
		if !reflect.DeepEqual(got, &expected) {
			t.Errorf("%q:\n got %+v\nwant %+v", line, got, expected)
		}
	}
}

func TestRubbishIsBounded(t *testing.T) {
	c, err := parseConf(t, minimal+strings.Repeat(strings.Repeat("x", 5000)+"\n", 150))
	if err != nil || len(c.Warnings) != mostWarnings+1 {
		t.Fatalf("%v, %d warnings", err, len(c.Warnings))
	}
	for _, w := range c.Warnings {
		if len(w) > longestWarning+len("…") {
			t.Errorf("a warning of %d octets", len(w))
		}
	}
	if _, err := parseConf(t, minimal+strings.Repeat("#\n", maxFile)); err == nil || !strings.Contains(err.Error(), "is larger than 1048576 bytes") {
		t.Errorf("a file of %d octets: %v", 2*maxFile, err)
	}
}

func TestLifetimesInOrder(t *testing.T) {
	c, err := parseConf(t, minimal+"min_lifetime=3600\nmax_lifetime=600\n")
	if err != nil || c.Policy.MinLifetime != time.Hour || c.Policy.MaxLifetime != time.Hour || len(c.Warnings) != 1 {
		t.Errorf("%v, %+v, %q", err, c.Policy, c.Warnings)
	}
}

func TestOddUUIDs(t *testing.T) {
	var ids []string
	for _, text := range []string{"uuid:" + someUUID, "1234-ABCD", "1234-ABCE", ""} {
		c, err := parseConf(t, "ext_ifname=eth0\nlistening_ip=eth1\nuuid="+text+"\n")
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, c.Device.UUID)
	}
	if ids[0] != someUUID || ids[1] == ids[2] || ids[2] == ids[3] {
		t.Errorf("UUIDs %q", ids)
	}
}

func TestUnusable(t *testing.T) {
	for text, reason := range map[string]string{
		"":                                  "no external interface",
		"ext_ifname=\nlistening_ip=eth1\n":  "no external interface",
		"ext_ifname=eth0\n":                 "no listening interface",
		"ext_ifname=eth0\nlistening_ip=/\n": "no listening interface",
		minimal + "ext_perform_stun=yes\n":  "set ext_stun_host",
		minimal + "ext_perform_stun=yes\next_stun_host=s\next_ip=11.22.33.44\n": "remove one of them",
	} {
		if c, err := parseConf(t, text); err == nil || !strings.Contains(err.Error(), reason) || !strings.HasPrefix(err.Error(), "miniupnpd: ") {
			t.Errorf("%q: %v, error %v, want %q", text, c, err, reason)
		}
	}
	if c, err := parseConf(t, "ext_ifname=eth0\nenable_upnp=no\n"); err != nil {
		t.Errorf("nothing is enabled: %v, %v", c, err)
	}
}

// TestReportIsAConf reads the report again and demands the same settings.
func TestReportIsAConf(t *testing.T) {
	for _, text := range []string{
		minimal,
		minimal + "listening_ip=192.168.7.1/255.255.255.128\next_ifname2=ppp+\next_ip=11.22.33.44\nenable_natpmp=yes\nenable_pcp=no\nigd_version=2\n" +
			"model_number=\nsecure_mode=no\nwithdraw_after=60\nlan_route=10.1.0.0/16 via eth1\nlan_route=2001:db8:1::/48 via eth1\nfriendly_name=a = # \"b\"\nbootid=7\npid_file=/x\n" +
			"allow 1-2 10.0.0.0/255.0.255.0 3 \"a \\\"b\\\"\" # c\ndeny 0-65535 0.0.0.0/0 0-65535\n",
		minimal + "ext_perform_stun=yes\next_stun_host=stun.example\nenable_pcp=yes\n",
	} {
		c, err := parseConf(t, text)
		if err != nil || len(c.Warnings) > 0 {
			t.Fatalf("%v, %q", err, c.Warnings)
		}
		again, err := parseConf(t, c.String())
		if err != nil || !reflect.DeepEqual(c, again) {
			t.Errorf("%v: the report\n%v\nis read as\n%v", err, c, again)
		}
	}
}

func TestReportOfWarnings(t *testing.T) {
	c, err := parseConf(t, minimal+"nonsense\n")
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("\n# warning: %s\n", c.Warnings[0]); !strings.HasSuffix(c.String(), want) {
		t.Errorf("the report does not end in %q:\n%v", want, c)
	}
}

func FuzzConf(f *testing.F) {
	for _, seed := range []string{
		minimal, "allow 1024-65535 192.168.101.0/24 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n", "friendly_name = a \r\n#\n=\n",
		"listening_ip=192.168.1.1/255.255.0.0\next_perform_stun=yes\next_stun_host=a b\n", "uuid=x\nforce_igd_desc_v1=yes\nigd_version=both",
		"http_port=99999999999999999999\nmin_lifetime=0\nmax_lifetime=0\n", "max_per_host=\x00\nnotify_cmd=/x\nupnp_nat_chain=é\n",
		"ext_ifname=a\nlistening_ip=a \"b\"\next_ifname2=\"c\"\n", "reject 1 ::/0 1\next_stun_host=a:1\next_perform_stun=yes\n",
		"rule=name a 02:00:00:00:00:01\nrule = allow external 1-2,3 host a interface b from pcp # c\nrule=deny;allow 1 1.1.1.1 1\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d := newDraft(machine{hardware: func(string) string { return "" }})
		d.takeConf("a.conf", text)
		if d.finish() != nil {
			return
		}
		odd := len(d.Warnings) > 0 // what is taken all the same is said again
		d.Warnings = nil
		again := newDraft(machine{})
		again.takeConf("b.conf", d.String())
		if err := again.finish(); err != nil || !reflect.DeepEqual(d.service(), again.service()) || !odd && len(again.Warnings) > 0 {
			t.Errorf("%v, %q: the report\n%v\nis read as\n%v", err, again.Warnings, &d.Config, &again.Config)
		}
	})
}
