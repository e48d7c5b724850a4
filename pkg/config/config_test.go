package config

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"igdd/pkg/upnp"
)

// TestFlags sets each flag, and demands that nothing else changes.
func TestFlags(t *testing.T) {
	for args, change := range map[string]func(*Config){
		"":                        func(*Config) {},
		"-t":                      func(c *Config) { c.Check = true },
		"-d":                      func(c *Config) { c.Foreground = true },
		"-D":                      func(c *Config) { c.Foreground, c.Supervised = true, true },
		"-v":                      func(c *Config) { c.Verbose = 1 },
		"-v -v":                   func(c *Config) { c.Verbose = 2 },
		"-vv":                     func(c *Config) { c.Verbose = 2 },
		"-P /run/p":               func(c *Config) { c.PIDFile = "/run/p" },
		"-i eth7":                 func(c *Config) { c.WAN, c.WAN6 = []string{"eth7"}, "eth7" },
		"-I sit1":                 func(c *Config) { c.WAN6 = "sit1" },
		"-a eth2 -a eth1 -a eth2": func(c *Config) { c.LANs = append(c.LANs, LAN{Interface: "eth2"}) },
		"-o 11.22.33.44":          func(c *Config) { c.ExternalIP = netip.MustParseAddr("11.22.33.44") },
		"-o STUN:s.example":       func(c *Config) { c.STUN = "s.example:3478" },
		"-o stun:s.example":       func(c *Config) { c.STUN = "s.example:3478" },
		"-o STUN:s.example:1":     func(c *Config) { c.STUN = "s.example:1" },
		"-N":                      func(c *Config) { c.NATPMP, c.PCP = true, true },
		"-S":                      func(*Config) {},
		"-S0":                     func(c *Config) { c.Policy.Secure = false },
		"-4":                      func(c *Config) { c.IPv6, c.IPv6Auto = false, false },
		"-1":                      func(c *Config) { c.IGDVersion = V1 },
		"-p 5000":                 func(c *Config) { c.HTTPPort = 5000 },
		"-r 600":                  func(*Config) {},
		"-U":                      func(c *Config) { c.SystemUptime = true },
		"-B 10 20":                func(c *Config) { c.BitrateDown, c.BitrateUp = 10, 20 },
		"-u " + strings.Replace(someUUID, "3d", "4d", 1): func(c *Config) { c.Device.UUID = strings.Replace(someUUID, "3d", "4d", 1) },
		"-s 1":        func(c *Config) { c.Device.Serial = "1" },
		"-m 2":        func(c *Config) { c.Device.ModelNumber = "2" },
		"-z -t":       func(c *Config) { c.Device.FriendlyName = "-t" },
		"-w http://p": func(c *Config) { c.Device.PresentationURL = "http://p" },
		"-b 9":        func(c *Config) { c.BootID = 9 },
		"-f /nowhere": func(*Config) {}, // the first counts
	} {
		want := defaults(t)
		change(&want)
		got, err := parseConf(t, minimal, strings.Fields(args)...)
		if err != nil || !reflect.DeepEqual(got, &want) {
			t.Errorf("%q: %v\n got %+v\nwant %+v", args, err, got, want)
		}
	}
}

func TestRuleFlagsFollowTheFile(t *testing.T) {
	c, err := parseConf(t, minimal+"deny 1 10.0.0.0/8 1\n", "-A", "allow 2 10.0.0.0/8 2", "-A", "deny 3 10.0.0.0/8 3")
	if want := "deny 1 10.0.0.0/8 1\nallow 2 10.0.0.0/8 2\ndeny 3 10.0.0.0/8 3\n"; err != nil || rulesOf(c) != want {
		t.Errorf("%v, rules\n%s", err, rulesOf(c))
	}
}

// TestRuleFlagsInWords gives -A rules in words, as in the file and without the key.
func TestRuleFlagsInWords(t *testing.T) {
	for rule, want := range map[string]string{
		"rule=deny from pcp":                 "deny from pcp\n",
		"Rule deny from pcp":                 "deny from pcp\n",
		"rule=allow":                         "allow\n",
		"deny from pcp":                      "deny from pcp\n",
		"allow HOST 192.168.1.5 external 80": "allow external 80 host 192.168.1.5\n",
		"deny 3 10.0.0.0/8 3":                "deny 3 10.0.0.0/8 3\n",
	} {
		c, err := parseConf(t, minimal, "-A", rule)
		if err != nil || rulesOf(c) != want || len(c.Warnings) > 0 {
			t.Errorf("%q: %v, %v, want %q", rule, err, c, want)
		}
	}
	for rule, reason := range map[string]string{
		"rule=deny from http":         "none of natpmp, pcp and upnp",
		"deny from http":              "none of natpmp, pcp and upnp",
		"rule=allow 80 192.168.1.5 1": `write "allow external 80 internal 1 host 192.168.1.5"`,
		"rule=alow from pcp":          `"alow" is neither allow nor deny`,
		"rule=name tv":                "write a name and one hardware address",
		"deny":                        "a rule has an external port",
	} {
		if _, err := parseConf(t, minimal, "-A", rule); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%q: error %v, want one about %q", rule, err, reason)
		}
	}
}

func TestFlagsOverrideTheFile(t *testing.T) {
	c, err := parseConf(t, minimal+"http_port=1\nenable_natpmp=no\nsecure_mode=yes\nforce_igd_desc_v1=no\n", "-p", "2", "-N", "-S0", "-1")
	if err != nil || c.HTTPPort != 2 || !c.NATPMP || c.Policy.Secure || c.IGDVersion != V1 {
		t.Errorf("%v, %+v", err, c)
	}
}

// TestFlagsOfMiniupnpd gives what start scripts give the C daemon: each word is
// honoured, or named in a warning.
func TestFlagsOfMiniupnpd(t *testing.T) {
	for args, want := range map[string]struct {
		warning string
		change  func(*Config)
	}{
		"-t 30":        {"", func(c *Config) { c.NotifyInterval = 30 * time.Second }},
		"-t30":         {"", func(c *Config) { c.NotifyInterval = 30 * time.Second }},
		"-t -d":        {"", func(c *Config) { c.Check, c.Foreground = true, true }},
		"-d -t":        {"", func(c *Config) { c.Check, c.Foreground = true, true }},
		"-t 30 -t":     {"", func(c *Config) { c.Check, c.NotifyInterval = true, 30*time.Second }},
		"-t -t 30":     {"", func(c *Config) { c.Check, c.NotifyInterval = true, 30*time.Second }},
		"-t 30s -U":    {`option -t: notify_interval: invalid number "30s"`, func(c *Config) { c.SystemUptime = true }},
		"-t 0":         {"option -t: notify_interval: 0s is out of range", func(c *Config) { c.NotifyInterval = time.Second }},
		"-tx":          {`option -t: ignored "x" after it`, func(c *Config) { c.Check = true }},
		"-D":           {"", func(c *Config) { c.Foreground, c.Supervised = true, true }},
		"-Dv":          {`option -D: ignored "v" after it`, func(*Config) {}},
		"-dv":          {`option -d: ignored "v" after it`, func(*Config) {}},
		"-vvv":         {"", func(c *Config) { c.Verbose = 2 }},
		"-Nx":          {`option -N: ignored "x" after it`, func(c *Config) { c.NATPMP, c.PCP = true, true }},
		"-p5000":       {"", func(c *Config) { c.HTTPPort = 5000 }},
		"-p x":         {`option -p: http_port: invalid number "x"`, func(*Config) {}},
		"-p 70000":     {"option -p: http_port: 70000 is not from 0 to 65535", func(*Config) {}},
		"-b -1":        {"option -b: bootid: ", func(*Config) {}},
		"-B 0x10 20":   {"option -B: bitrate_down: ", func(c *Config) { c.BitrateUp = 20 }},
		"-u 1234-ABCD": {"option -u: uuid: ", func(c *Config) { c.Device.UUID = upnp.UUIDOf("1234-ABCD").String() }},
		"-H 443":       {"option -H: has no effect", func(*Config) {}},
		"-L":           {"option -L: has no effect", func(*Config) {}},
		"-l /log":      {"option -l: has no effect", func(*Config) {}},
		"-q queue":     {"option -q: has no effect", func(*Config) {}},
		"-T tag":       {"option -T: has no effect", func(*Config) {}},
		"-Q 1":         {"option -Q: has no effect", func(*Config) {}},
		"-n eth1":      {"option -n: has no effect", func(*Config) {}},
		"-a lan0/24":   {"", func(c *Config) { c.LANs = append(c.LANs, LAN{Interface: "lan0", Bits: 24}) }},
		"-a 192.168.7.1/24 88.22.44.13 -U": {"option -a: listening_ip: 88.22.44.13 is a public address", func(c *Config) {
			c.LANs, c.SystemUptime = append(c.LANs, LAN{Prefix: netip.MustParsePrefix("192.168.7.1/24")}), true
		}},
		"-i eth0:1": {"option -i: ext_ifname: \"eth0:1\" is one address of eth0", func(*Config) {}},
	} {
		expected := defaults(t)
		want.change(&expected)
		got, err := parseConf(t, minimal, strings.Fields(args)...)
		if err != nil {
			t.Errorf("%q: %v", args, err)
			continue
		}
		demandWarnings(t, args, got.Warnings, want.warning)
		got.Warnings = nil
		if !reflect.DeepEqual(got, &expected) {
			t.Errorf("%q:\n got %+v\nwant %+v", args, *got, expected)
		}
	}
}

// TestCheckOrInterval puts -t before and behind the option that names the file.
func TestCheckOrInterval(t *testing.T) {
	path := write(t, "rc.conf", someService)
	for args, check := range map[string]bool{
		"-t -c " + path: true, "-c " + path + " -t": true, "-t 60 -c " + path: false, "-c " + path + " -t 60": false, "-c " + path: false,
	} {
		c, err := astLinux(t).parse(strings.Fields(args))
		if err != nil || c.Check != check {
			t.Errorf("%s: %v, check %v, want %v", args, err, c.Check, check)
		}
	}
}

func TestBadFlags(t *testing.T) {
	for args, want := range map[string]string{
		"-x":              `unknown option "-x"`,
		"-S1":             `unknown option "-S1"`,
		"stray":           `unexpected argument "stray"`,
		"-t /etc/rc.conf": `unexpected argument "/etc/rc.conf"`,
		"-U 88.22.44.13":  `unexpected argument "88.22.44.13"`,
		"-":               `unexpected argument "-"`,
		"-A deny":         "option -A: rule",
		"-a lan0/33":      "option -a: listening_ip: ",
		"-P":              "option -P: missing value",
		"-B 1":            "option -B: missing value",
		"-A allow":        "option -A: rule",
		"-a 1.2.3":        "option -a: ",
		"-o nowhere":      "option -o: ext_ip: ",
		"-o STUN:":        "option -o: ",
		"-o STUN:s:x":     "option -o: port of the STUN server: ",
		"-i a/b":          "option -i: ext_ifname: ",
		"-c /etc/rc.conf": "cannot be used together",
	} {
		c, err := parseConf(t, minimal, strings.Fields(args)...)
		if err == nil || !strings.HasPrefix(err.Error(), "miniupnpd: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, error %v, want %q", args, c, err, want)
		}
		if isUsage := strings.HasPrefix(want, "unknown") || strings.HasPrefix(want, "unexpected") || strings.HasSuffix(want, "missing value"); err != nil && strings.HasSuffix(err.Error(), usage) != isUsage {
			t.Errorf("%q: usage or not: %v", args, err)
		}
	}
}

func TestInfo(t *testing.T) {
	for args, start := range map[string]string{
		"-h": "usage: miniupnpd ", "--help": "usage: miniupnpd ", "-d -p --help": "usage: miniupnpd ",
		"--version": "miniupnpd 1.2\n", "version": "miniupnpd 1.2\n", "-d --version": "miniupnpd 1.2\n",
	} {
		_, err := Parse(strings.Fields(args), "/")
		var info Info
		if !errors.As(err, &info) || !strings.HasPrefix(info.Text("1.2"), start) {
			t.Errorf("%q: %v", args, err)
		}
	}
	for name := range options {
		if !strings.Contains(usage, name) && name != "-S" && name != "-r" {
			t.Errorf("the usage lacks %s", name)
		}
	}
}

func TestWhichFile(t *testing.T) {
	m := testMachine(t)
	if _, err := m.parse(nil); err == nil || !strings.Contains(err.Error(), "no external interface") {
		t.Errorf("no file: %v", err)
	}
	if c, err := m.parse([]string{"-i", "eth0", "-a", "eth1"}); err != nil || !c.UPnP {
		t.Errorf("flags alone: %v, %v", c, err)
	}
	if err := os.WriteFile(m.rc, []byte(someService), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := m.parse([]string{"-i", "eth5"}); err != nil || !c.NATPMP || c.WAN[0] != "eth5" {
		t.Errorf("the default file: %v, %v", c, err)
	}
	for _, flag := range []string{"-c", "-f"} {
		if c, err := m.parse([]string{flag, "/nowhere/file"}); err == nil || !strings.Contains(err.Error(), "/nowhere/file") {
			t.Errorf("%s: %v, %v", flag, c, err)
		}
	}
	m.rc = write(t, "rc.conf", "exit 1\n")
	if c, err := m.parse(nil); err == nil || !strings.Contains(err.Error(), m.rc+":") {
		t.Errorf("a broken default file: %v, %v", c, err)
	}
}

func TestSameService(t *testing.T) {
	for line, same := range map[string]bool{
		"": true, "allow 1-2 10.0.0.0/8 3-4 \"a\"": true, "secure_mode=no": true, "min_lifetime=600": true, "max_per_host=1": true,
		"nonsense": true, "http_port=5000": false, "upstream=auto": false, "listening_ip=eth2": false, "lan_route=10.1.0.0/16 via eth1": false, "ext_ifname=eth9": false, "enable_natpmp=yes": false,
		"ipv6=no": false, "friendly_name=x": false, "lease_file=/x": false, "notify_cmd=/x": false, "pcp_allow_thirdparty=yes": false,
	} {
		a, err := parseConf(t, minimal)
		if err != nil {
			t.Fatal(err)
		}
		b, err := parseConf(t, minimal+line+"\n", "-vv")
		if err != nil || a.SameService(b) != same || b.SameService(a) != same {
			t.Errorf("%q: %v, want %v", line, err, same)
		}
	}
}

// TestSameUpstream tells apart whose forwardings upstream the next instance takes over.
func TestSameUpstream(t *testing.T) {
	for line, same := range map[string]bool{
		"": true, "http_port=5000": true, "secure_mode=no": true, "upstream=auto": true,
		"upstream=no": false, "upstream=pcp": false, "ext_ifname=eth9": false, "lease_file=/x": false,
		"uuid=3d3cec3a-8cf0-11e0-98ee-001a6bd2d07c": false,
	} {
		a, err := parseConf(t, minimal+"upstream=auto\n")
		if err != nil {
			t.Fatal(err)
		}
		b, err := parseConf(t, minimal+"upstream=auto\n"+line+"\n")
		if err != nil || a.SameUpstream(b) != same || b.SameUpstream(a) != same {
			t.Errorf("%q: %v, want %v", line, err, same)
		}
	}
}

func TestReserved(t *testing.T) {
	for a, want := range map[string]bool{
		"0.0.0.0": true, "0.255.255.255": true, "1.0.0.0": false, "9.255.255.255": false, "10.0.0.0": true, "11.0.0.0": false,
		"100.63.255.255": false, "100.64.0.0": true, "100.127.255.255": true, "100.128.0.0": false, "127.0.0.1": true,
		"169.254.1.1": true, "172.15.255.255": false, "172.16.0.0": true, "172.31.255.255": true, "172.32.0.0": false,
		"192.0.0.8": true, "192.0.1.0": false, "192.0.2.1": true, "192.31.196.1": true, "192.52.193.1": true, "192.88.99.1": true,
		"192.168.255.255": true, "192.169.0.0": false, "192.175.48.1": true, "198.17.255.255": false, "198.18.0.0": true,
		"198.19.255.255": true, "198.20.0.0": false, "198.51.100.1": true, "203.0.113.1": true, "203.0.114.0": false,
		"223.255.255.255": false, "224.0.0.1": true, "239.1.1.1": true, "240.0.0.1": true, "255.255.255.255": true,
		"8.8.8.8": false, "11.22.33.44": false,
	} {
		if Reserved(netip.MustParseAddr(a)) != want {
			t.Errorf("%s: reserved %v, want %v", a, !want, want)
		}
	}
	if Reserved(netip.Addr{}) {
		t.Error("no address is reserved")
	}
}

// TestDefaults pins what an installation that says nothing gets.
func TestDefaults(t *testing.T) {
	c := defaults(t)
	p := c.Policy
	if p.MaxPerHost != 2048 || p.MaxPerLAN != 8192 || p.MaxTotal != 16384 || p.MaxFilters != 16 || !p.Secure || p.MinLifetime != 2*time.Minute || p.MaxLifetime != 24*time.Hour {
		t.Errorf("policy %+v", p)
	}
	if c.NATPMP || c.PCP || !c.UPnP || !c.IPv6 || c.Peer || c.ThirdParty || c.IGDVersion != Both || c.SaveDelay != 200*time.Millisecond || c.Withdraw != 0 {
		t.Errorf("defaults %+v", c)
	}
	if c.NATChain != "MINIUPNPD" || c.ForwardChain != "MINIUPNPD" || c.PostroutingChain != "MINIUPNPD-POSTROUTING" {
		t.Errorf("chains %q, %q, %q", c.NATChain, c.ForwardChain, c.PostroutingChain)
	}
}

// TestUsualFiles reads settings where no argument names a file: the rc.conf, or
// else the first miniupnpd.conf that there is.
func TestUsualFiles(t *testing.T) {
	const rc, first, second = "EXTIF=rc0\n", "ext_ifname=first0\nlistening_ip=lan0\n", "ext_ifname=second0\nlistening_ip=lan0\n"
	for _, tt := range []struct{ rc, first, second, want string }{
		{rc, first, second, "[rc0]"},
		{"", first, second, "[first0]"},
		{"", "", second, "[second0]"},
		{"", "rubbish\n", second, "no external interface"},
		{"", "", "", "no external interface"},
	} {
		m := testMachine(t)
		m.confs = []string{t.TempDir() + "/none", t.TempDir() + "/none"}
		for path, text := range map[*string]string{&m.rc: tt.rc, &m.confs[0]: tt.first, &m.confs[1]: tt.second} {
			if text != "" {
				*path = write(t, "f", text)
			}
		}
		c, err := m.parse(nil)
		got := fmt.Sprint(err)
		if err == nil {
			got = fmt.Sprint(c.WAN)
		}
		if !strings.Contains(got, tt.want) {
			t.Errorf("%+v: %s", tt, got)
		}
	}
}

// TestInvalidEntries counts settings that are lists with invalid entries, so that a check
// of the settings fails.
func TestInvalidEntries(t *testing.T) {
	for line, want := range map[string]int{
		"lan_route=10.1.0.0/16 via lan0":                                 0,
		"lan_route=10.1.0.1/16 via lan0:1":                               0,
		"lan_route=10.1.0.0/16 via lan9":                                 1,
		"lan_route=10.1.0.0/16\nlan_route=x":                             2,
		"lan_route=10.1.0.0/16 via lan0\nlan_route=10.1.0.0/24 via lan0": 1,
		"ext_ports=80 443":                                               0,
		"ext_ports=":                                                     0,
		"ext_ports=none":                                                 0,
		"ext_ports=80 443x 90-80":                                        1,
		"ext_ports=0":                                                    1,
	} {
		c, err := parseConf(t, "ext_ifname=wan0\nlistening_ip=lan0\nenable_natpmp=yes\nuuid="+someUUID+"\n"+line+"\n")
		if err != nil || c.BadEntries != want {
			t.Errorf("%q: %v, %d, want %d; warnings %q", line, err, c.BadEntries, want, c.Warnings)
		}
	}
	for line, want := range map[string]int{
		`UPNP_LAN_ROUTES="10.1.0.0/16 via INTIF"`:                                                     0,
		`UPNP_LAN_ROUTES="10.1.0.0/16 via INTIF; 10.2.0.0/16 via INT2IF; 192.168.101.0/25 via INTIF"`: 2,
		`UPNP_LAN_ROUTES="10.1.0.0/16 via eth9"`:                                                      1,
		`UPNP_EXT_PORTS="80, 443x"`:                                                                   1,
	} {
		if c, err := parseRC(t, someService+line+"\n"); err != nil || c.BadEntries != want {
			t.Errorf("%s: %v, %d, want %d; warnings %q", line, err, c.BadEntries, want, c.Warnings)
		}
	}
}
