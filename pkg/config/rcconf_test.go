package config

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// someRouter is an rc.conf that has one network and nothing served in it.
const someRouter = `EXTIF="eth0"
INTIF="eth1"
INTIP="192.168.101.1"
INTNM="255.255.255.0"
UUID="` + someUUID + `"
`

// someService is an rc.conf that serves NAT-PMP there.
const someService = someRouter + `UPNP_ENABLE_NATPMP="yes"
UPNP_LISTEN="INTIF"
`

// astLinux is a system with AstLinux's files.
func astLinux(t testing.TB) machine {
	m := testMachine(t)
	m.release = write(t, "astlinux-release", "astlinux-1.5.14\n")
	return m
}

// parseRC parses an rc.conf, with arguments after -c.
func parseRC(t testing.TB, text string, args ...string) (*Config, error) {
	t.Helper()
	return withoutPlaces(astLinux(t).parse(append([]string{"-c", write(t, "rc.conf", text)}, args...)))
}

// rulesOf returns the rules as text, one a line.
func rulesOf(c *Config) string {
	var b strings.Builder
	for _, r := range c.Policy.Rules {
		b.WriteString(RuleText(r) + "\n")
	}
	return b.String()
}

const denyLine = "deny 0-65535 0.0.0.0/0 0-65535\n"

// TestVariables sets each variable, and demands that nothing else changes.
func TestVariables(t *testing.T) {
	base, err := parseRC(t, someService)
	if err != nil || len(base.Warnings) > 0 {
		t.Fatalf("%v, %q", err, base.Warnings)
	}
	for line, change := range map[string]func(*Config){
		`EXTIF=ppp0`:                      func(c *Config) { c.WAN, c.WAN6 = []string{"ppp0"}, "ppp0" },
		`EXTIF=" ppp0 "`:                  func(c *Config) { c.WAN, c.WAN6 = []string{"ppp0"}, "ppp0" },
		`UPNP_MIN_LIFETIME="600 "`:        func(c *Config) { c.Policy.MinLifetime = 10 * time.Minute },
		`UPNP_BITRATE_UP=" 5"`:            func(c *Config) { c.BitrateUp = 5 },
		`EXT2IF=eth9`:                     func(c *Config) { c.WAN = []string{"eth0", "eth9"} },
		`UPNP_ENABLE_NATPMP=""`:           func(c *Config) { c.NATPMP, c.PCP = false, false },
		`UPNP_ENABLE_UPNP=yes`:            func(c *Config) { c.UPnP = true },
		`UPNP_SECURE_MODE=no`:             func(c *Config) { c.Policy.Secure = false },
		`UPNP_SECURE_MODE=""`:             func(*Config) {},
		`UPNP_BITRATE_UP=5`:               func(c *Config) { c.BitrateUp = 5 },
		`UPNP_BITRATE_DOWN=6`:             func(c *Config) { c.BitrateDown = 6 },
		`UPNP_BITRATE_DOWN=`:              func(*Config) {},
		`UPNP_MIN_LIFETIME=600`:           func(c *Config) { c.Policy.MinLifetime = 10 * time.Minute },
		`UPNP_MAX_LIFETIME="7200"`:        func(c *Config) { c.Policy.MaxLifetime = 2 * time.Hour },
		`UPNP_MAX_PER_HOST=9`:             func(c *Config) { c.Policy.MaxPerHost = 9 },
		`UPNP_MAX_PER_LAN=9`:              func(c *Config) { c.Policy.MaxPerLAN = 9 },
		`UPNP_SANDBOX=no`:                 func(c *Config) { c.Sandbox = false },
		`UPNP_MAX_TOTAL=99`:               func(c *Config) { c.Policy.MaxTotal = 99 },
		`UPNP_PCP_MAX_FILTERS=4`:          func(c *Config) { c.Policy.MaxFilters = 4 },
		`UPNP_HAIRPIN=yes`:                func(c *Config) { c.Hairpin = true },
		`UPNP_HIDDEN=yes`:                 func(c *Config) { c.Hidden = true },
		`UPNP_PCP_THIRD_PARTY=yes`:        func(c *Config) { c.ThirdParty = true },
		`UPNP_PCP_PEER=yes`:               func(c *Config) { c.Peer = true },
		`UPNP_PCP_MAP=no`:                 func(c *Config) { c.Map = false },
		`UPNP_PCP_LENIENT_NONCE=yes`:      func(*Config) {},
		`UPNP_PCP_LENIENT_NONCE=""`:       func(*Config) {},
		`UPNP_PCP_LENIENT_NONCE=no`:       func(c *Config) { c.Policy.LenientNonce = false },
		`IPV6=yes`:                        func(c *Config) { c.IPv6 = true },
		`IPV6=yes UPNP_IPV6=no`:           func(*Config) {},
		`IPV6=no UPNP_IPV6=yes`:           func(c *Config) { c.IPv6 = true },
		`IPV6=1`:                          func(*Config) {},
		`UPNP_EXT_IP=10.1.1.1`:            func(c *Config) { c.ExternalIP = netip.MustParseAddr("10.1.1.1") },
		`UPNP_STUN_HOST=s.example`:        func(c *Config) { c.STUN = "s.example:3478" },
		`UPNP_STUN_HOST=s.example:9`:      func(c *Config) { c.STUN = "s.example:9" },
		`UPNP_UPSTREAM=auto`:              func(c *Config) { c.Upstream = UpstreamAuto },
		`UPNP_UPSTREAM=pcp`:               func(c *Config) { c.Upstream = UpstreamPCP },
		`UPNP_UPSTREAM=""`:                func(*Config) {},
		`UPNP_IGD_VERSION=1`:              func(c *Config) { c.IGDVersion = V1 },
		`UPNP_HTTP_PORT=0`:                func(c *Config) { c.HTTPPort = 0 },
		`UPNP_NOTIFY_INTERVAL=900`:        func(c *Config) { c.NotifyInterval = 15 * time.Minute },
		`UPNP_WITHDRAW_AFTER=3600`:        func(c *Config) { c.Withdraw = time.Hour },
		`UPNP_SAVE_DELAY=5`:               func(c *Config) { c.SaveDelay = 5 * time.Millisecond },
		`UPNP_NOTIFY_CMD="/bin/x y"`:      func(c *Config) { c.NotifyCmd = "/bin/x y" },
		`UPNP_LEASE_FILE=/tmp/l`:          func(c *Config) { c.LeaseFile = "/tmp/l" },
		`UPNP_DHCP_LEASES=/tmp/d`:         func(c *Config) { c.DHCPLeases = "/tmp/d" },
		`UPNP_CONTROL_SOCKET=/run/c`:      func(c *Config) { c.ControlSocket = "/run/c" },
		`UPNP_FRIENDLY_NAME='a "b" $c'`:   func(c *Config) { c.Device.FriendlyName = `a "b" $c` },
		`UPNP_MANUFACTURER=M`:             func(c *Config) { c.Device.Manufacturer = "M" },
		`UPNP_MANUFACTURER_URL=http://m`:  func(c *Config) { c.Device.ManufacturerURL = "http://m" },
		`UPNP_MODEL_NAME=N`:               func(c *Config) { c.Device.ModelName = "N" },
		`UPNP_MODEL_DESCRIPTION=D`:        func(c *Config) { c.Device.ModelDescription = "D" },
		`UPNP_MODEL_NUMBER=7`:             func(c *Config) { c.Device.ModelNumber = "7" },
		`UPNP_MODEL_URL=http://n`:         func(c *Config) { c.Device.ModelURL = "http://n" },
		`UPNP_SERIAL=8`:                   func(c *Config) { c.Device.Serial = "8" },
		`UPNP_PRESENTATION_URL=http://p`:  func(c *Config) { c.Device.PresentationURL = "http://p" },
		`UNKNOWN=x UPNP_UNKNOWN=y PATH=/`: func(*Config) {},
	} {
		want := *base
		change(&want)
		got, err := parseRC(t, someService+line+"\n")
		if err != nil || !reflect.DeepEqual(got, &want) {
			t.Errorf("%s: %v\n got %+v\nwant %+v", line, err, got, want)
		}
	}
}

// TestOddVariables gives values that AstLinux's script reads in its own way:
// what it does with them is done, and said.
func TestOddVariables(t *testing.T) {
	for line, want := range map[string]struct {
		warning string
		holds   func(*Config) bool
	}{
		`UPNP_ENABLE_NATPMP=Yes`:                          {`UPNP_ENABLE_NATPMP: "Yes" is taken as no`, func(c *Config) bool { return !c.NATPMP && !c.PCP }},
		`UPNP_ENABLE_NATPMP=1`:                            {`UPNP_ENABLE_NATPMP: "1" is taken as no`, func(c *Config) bool { return !c.NATPMP }},
		"UPNP_ENABLE_NATPMP='yes\r'":                      {`UPNP_ENABLE_NATPMP: "yes\r" is taken as no`, func(c *Config) bool { return !c.NATPMP }},
		`UPNP_SECURE_MODE=NO`:                             {`UPNP_SECURE_MODE: "NO" is taken as yes`, func(c *Config) bool { return c.Policy.Secure }},
		`UPNP_SECURE_MODE=0`:                              {`"0" is taken as yes`, func(c *Config) bool { return c.Policy.Secure }},
		`UPNP_BITRATE_UP=1M`:                              {`UPNP_BITRATE_UP: invalid bit rate "1M"`, func(c *Config) bool { return c.BitrateUp == 0 }},
		`UPNP_MIN_LIFETIME=5`:                             {"2m0s is used", func(c *Config) bool { return c.Policy.MinLifetime == 2*time.Minute }},
		`UPNP_STUN_HOST=:9`:                               {`UPNP_STUN_HOST: missing STUN server in ":9"`, func(c *Config) bool { return c.STUN == "" }},
		`UPNP_STUN_HOST=s:x`:                              {"port of the STUN server", func(c *Config) bool { return c.STUN == "" }},
		`UPNP_EXT_IP=stun.example`:                        {"UPNP_EXT_IP", func(c *Config) bool { return !c.ExternalIP.IsValid() }},
		`UPNP_LISTEN="INTIF eth1"`:                        {`UPNP_LISTEN: invalid word "eth1"`, func(c *Config) bool { return len(c.LANs) == 1 }},
		`UPNP_LISTEN="x INTIF y"`:                         {`invalid word "x", ignored: use INTIF, INT2IF, INT3IF, INT4IF or DMZIF; invalid word "y"`, func(*Config) bool { return true }},
		`UPNP_LISTEN="INTIF 10.9.9.1"`:                    {`UPNP_LISTEN: 10.9.9.1, ignored: it is in none of the networks`, func(c *Config) bool { return c.LANs[0].Interface == "eth1" }},
		`UPNP_LISTEN="INTIF fe80::1"`:                     {`fe80::1, ignored: it is in none of the networks`, func(c *Config) bool { return c.LANs[0].Interface == "eth1" }},
		`UPNP_LISTEN="INTIF 192.168.101.8 192.168.101.9"`: {`192.168.101.9, ignored: INTIF announces 192.168.101.8/24`, func(c *Config) bool { return len(c.LANs) == 1 }},
		`UUID=12AB-34CD`:                                  {`rc.conf: UUID: "12AB-34CD" is not a valid UUID`, func(c *Config) bool { return len(c.Device.UUID) == 36 }},
		`nonsense`:                                        {"rc.conf:8: the shell objects to this line", func(*Config) bool { return true }},
	} {
		c, err := parseRC(t, someService+line+"\n")
		if err != nil || len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], want.warning) || !strings.Contains(c.Warnings[0], "/rc.conf:") || !want.holds(c) {
			t.Errorf("%s: %v, %+v; want a warning %q", line, err, c, want.warning)
		}
	}
}

func TestListen(t *testing.T) {
	const more = someRouter + `INT2IF=eth2 INT2IP=192.168.102.1 INT2NM=255.255.255.0
INT3IF=none INT3IP=192.168.103.1 INT3NM=255.255.255.0
INT4IF=eth4 INT4IP=192.168.104.1 INT4NM=
DMZIF=eth3 DMZIP=10.5.5.1 DMZNM=255.255.255.252
UPNP_ENABLE_NATPMP=yes
`
	const int1, int2, dmz = "allow 1024-65535 192.168.101.0/24 1024-65535\n", "allow 1024-65535 192.168.102.0/24 1024-65535\n", "allow 1024-65535 10.5.5.0/30 1024-65535\n"
	for listen, want := range map[string]struct{ lans, rules string }{
		"INTIF":                             {"[eth1]", int1},
		"DMZIF INTIF":                       {"[eth1 eth3]", int1 + dmz},
		" INT2IF\tINTIF\n INTIF ":           {"[eth1 eth2]", int1 + int2},
		"INTIF INT3IF INT4IF nothing":       {"[eth1]", int1},
		"INTIF intif EXTIF * [A-Z]*":        {"[eth1]", int1},
		"DMZIF INT4IF INT3IF INT2IF INTIF":  {"[eth1 eth2 eth3]", int1 + int2 + dmz},
		"INTIF 192.168.101.254":             {"[192.168.101.254/24]", int1},
		"10.5.5.2 INT2IF DMZIF":             {"[eth2 10.5.5.2/30]", int2 + dmz},
		"INTIF INTIF 192.168.102.9":         {"[eth1]", int1},
		"INTIF 192.168.101.9 192.168.101.8": {"[192.168.101.9/24]", int1},
	} {
		c, err := parseRC(t, more+"UPNP_LISTEN='"+listen+"'\n")
		if err != nil || fmt.Sprint(c.LANs) != want.lans || rulesOf(c) != want.rules+denyLine {
			t.Errorf("%q: %v, %v, rules\n%s", listen, err, c.LANs, rulesOf(c))
		}
	}
	for _, listen := range []string{"", "192.168.101.1", "INT3IF", "INT4IF", "eth1", "INTIF,DMZIF"} {
		if c, err := parseRC(t, more+"UPNP_LISTEN='"+listen+"'\n"); err == nil || !strings.Contains(err.Error(), "set UPNP_LISTEN") {
			t.Errorf("%q: %v, %v", listen, c, err)
		}
	}
	if c, err := parseRC(t, someRouter); err != nil || c.NATPMP || c.PCP || c.UPnP {
		t.Errorf("nothing enabled: %v, %v", c, err)
	}
}

func TestAllow(t *testing.T) {
	const head, usual = "allow 1024-65535 192.168.101.", " 1024-65535\n"
	for value, want := range map[string]struct {
		rules    string
		warnings int
	}{
		"192.168.101.20":                 {head + "20/32" + usual, 0},
		"192.168.101.88/29":              {head + "88/29" + usual, 0},
		"192.168.101.21~22":              {head + "21/32 22\n", 0},
		"192.168.101.22~3000-4000":       {head + "22/32 3000-4000\n", 0},
		"192.168.101.0/24~80":            {head + "0/24 80\n", 0},
		"192.168.101.20~":                {head + "20/32" + usual, 0},
		"192.168.101.20~a":               {head + "20/32" + usual, 1},
		"192.168.101.20~80,90":           {head + "20/32" + usual, 1},
		"192.168.101.20~80:90":           {head + "20/32" + usual, 1},
		"192.168.101.20~~80":             {head + "20/32" + usual, 1},
		"192.168.101.20~1~2":             {head + "20/32 1\n", 1},
		"~80":                            {"", 1},
		"~":                              {"", 1},
		"192.168.101.20~-":               {"", 1},
		"192.168.101.20~70000":           {"", 1},
		"192.168.101.20~90-80":           {"", 1},
		"192.168.101.20~80-90-9":         {"", 1},
		"host.lan":                       {"", 1},
		"10":                             {"", 1},
		"1-2":                            {"", 1},
		"192.168.101.20,192.168.101.21":  {"", 1},
		"192.168.101.20\n192.168.101.21": {head + "20/32" + usual + head + "21/32" + usual, 0},
		" \t192.168.101.20  ~80 ":        {head + "20/32" + usual, 1},
		" ":                              {"", 0},
		"/*":                             {"", 1},
		"192.168.101.2?":                 {"", 1},
		"192.168.101.0/255.255.255.0~22": {head + "0/24 22\n", 0},
	} {
		c, err := parseRC(t, someService+"UPNP_ALLOW='"+value+"'\n")
		if err != nil || rulesOf(c) != want.rules+denyLine || len(c.Warnings) != want.warnings {
			t.Errorf("%q: %v, warnings %q, rules\n%s", value, err, c.Warnings, rulesOf(c))
			continue
		}
		for _, w := range c.Warnings {
			if !strings.Contains(w, "/rc.conf: UPNP_ALLOW: rule ") {
				t.Errorf("%q: warning %q", value, w)
			}
		}
	}
}

func TestNetworksOfAddressAndMask(t *testing.T) {
	for value, want := range map[string]string{
		"192.168.101.1 255.255.255.0":     "192.168.101.0/24",
		"10.5.5.1 255.255.255.252":        "10.5.5.0/30",
		"192.168.101.1 24":                "0.0.0.0/2", // a mask is an address, 0.0.0.24
		"192.168.101.1 255.255.0.255":     "192.168.0.1/24",
		"192.168.101.1 255.255.255":       "192.168.0.1/24",
		"192.168.101.1 0xffffff00":        "192.168.101.0/24",
		"3232261377 255.255.255.0":        "192.168.101.0/24",
		"0xC0A86501 255.255.255.0":        "192.168.101.0/24",
		"0300.0250.0145.01 255.255.255.0": "192.168.101.0/24",
		"192.168.25857 255.255.255.0":     "192.168.101.0/24",
		"192.168.101.1 0":                 "0.0.0.0/0",
		"192.168.101.300 255.255.255.0":   "",
		"eth1 255.255.255.0":              "",
		"a/24 255.255.255.0":              "",
		"192.168.101.1/24 255.255.255.0":  "",
		"192.168.101.1 abc":               "",
		"1.2.3.4.5 255.255.255.0":         "",
		"1..2 255.255.255.0":              "",
		"1.2.3.4 09":                      "",
		"-1 255.0.0.0":                    "",
		"1_0.1.1.1 255.0.0.0":             "",
		"4294967296 255.0.0.0":            "",
	} {
		address, mask, _ := strings.Cut(value, " ")
		network, err := networkOf(address, mask)
		got := ""
		if network.IsValid() {
			got = network.String()
		}
		if got != want || (got == "" && err == nil) {
			t.Errorf("%s: %s, %v; want %s", value, got, err, want)
		}
		if asked := ipcalc(t, address, mask); asked != want {
			t.Errorf("%s: busybox ipcalc says %q, the table %q", value, asked, want)
		}
		c, err := parseRC(t, fmt.Sprintf("%sINTIP='%s' INTNM='%s'\n", someService, address, mask))
		rules := denyLine
		if want != "" {
			rules = "allow 1024-65535 " + want + " 1024-65535\n" + denyLine
		}
		if err != nil || rulesOf(c) != rules {
			t.Errorf("%s: %v, rules\n%s", value, err, rulesOf(c))
		}
	}
}

// ipcalc asks the program that AstLinux's script asks; "" if it objects.
func ipcalc(t *testing.T, address, mask string) string {
	t.Helper()
	out, err := exec.Command("busybox", "ipcalc", "-np", address, mask).Output()
	if err != nil {
		return ""
	}
	var network, prefix string
	if _, err := fmt.Sscanf(string(out), "NETWORK=%s\nPREFIX=%s\n", &network, &prefix); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	return network + "/" + prefix
}

// generated is what AstLinux's script writes for someService, but for the
// interfaces, the rules and the settings that differ.
const generated = `bitrate_up=1000000
bitrate_down=10000000
secure_mode=yes
min_lifetime=120
max_lifetime=86400
system_uptime=yes
notify_interval=60
clean_ruleset_interval=600
uuid=` + someUUID + `
serial=000001
friendly_name=AstLinux Router
model_name=AstLinux Router
model_description=astlinux-1.5.14
model_number=astlinux-1.5.14
`

// TestAsAstLinuxGenerates reads the rc.conf by -c, and by -f the file that
// AstLinux's script makes of it.
func TestAsAstLinuxGenerates(t *testing.T) {
	head := func(interfaces, natpmp, upnp string) string {
		return "## Auto generated file. Do not edit.\next_ifname=eth0\n" + interfaces + "http_port=5000\nenable_natpmp=" + natpmp +
			"\nenable_upnp=" + upnp + "\nlease_file=/mnt/kd/upnp.leases\n"
	}
	const ipv6 = "IPV6=yes\n" // which a miniupnpd.conf without a word about it means
	for rc, conf := range map[string]string{
		someService: head("listening_ip=eth1\n", "yes", "no") + generated +
			"allow 1024-65535 192.168.101.0/24 1024-65535\n" + denyLine,
		someRouter + `UPNP_ENABLE_UPNP=yes UPNP_ENABLE_NATPMP=on UPNP_LISTEN="DMZIF INTIF" DMZIF=eth3 DMZIP=10.5.5.1 DMZNM=255.255.255.252
`: head("listening_ip=eth1\nlistening_ip=eth3\n", "no", "yes") + generated +
			"allow 1024-65535 192.168.101.0/24 1024-65535\nallow 1024-65535 10.5.5.0/30 1024-65535\n" + denyLine,
		someService + `UPNP_SECURE_MODE=no UPNP_BITRATE_UP=2000000 UPNP_MIN_LIFETIME=300 UPNP_ALLOW="192.168.101.20 192.168.101.21~22 host.lan ~80 192.168.101.22~3000-4000"
`: head("listening_ip=eth1\n", "yes", "no") + strings.NewReplacer("bitrate_up=1000000", "bitrate_up=2000000",
			"secure_mode=yes", "secure_mode=no", "min_lifetime=120", "min_lifetime=300").Replace(generated) +
			"allow 1024-65535 192.168.101.20/32 1024-65535\nallow 1024-65535 192.168.101.21/32 22\nallow 1024-65535 host.lan/32 1024-65535\n" +
			"allow 1024-65535 /32 80\nallow 1024-65535 192.168.101.22/32 3000-4000\n" + denyLine,
		someService + `UPNP_ALLOW="aa:bb:cc:dd:ee:ff~3000-4000 AA-BB-CC-DD-EE-02~ 00:11:22:33:44:55 2001:db8::5~22 2001:db8:0:50::/64 fd00::1 fe80::1 aa:bb:cc:dd:ee"
`: head("listening_ip=eth1\n", "yes", "no") + generated +
			"allow 1024-65535 aa:bb:cc:dd:ee:ff/32 3000-4000\nallow 1024-65535 AA-BB-CC-DD-EE-02/32 1024-65535\nallow 1024-65535 00:11:22:33:44:55/32 1024-65535\n" +
			"allow 1024-65535 2001:db8::5/32 22\nallow 1024-65535 2001:db8:0:50::/64 1024-65535\nallow 1024-65535 fd00::1/32 1024-65535\n" +
			"allow 1024-65535 fe80::1/32 1024-65535\nallow 1024-65535 aa:bb:cc:dd:ee/32 1024-65535\n" + denyLine,
		someService + "INTIP=eth1 UPNP_SECURE_MODE=NO UPNP_BITRATE_DOWN=fast\n": head("listening_ip=eth1\n", "yes", "no") +
			strings.Replace(generated, "bitrate_down=10000000\n", "bitrate_down=fast\n", 1) +
			"allow 1024-65535 / 1024-65535\n" + denyLine,
	} {
		byC, err := parseRC(t, ipv6+rc)
		if err != nil {
			t.Fatal(err)
		}
		byF, err := parseConf(t, conf)
		if err != nil {
			t.Fatal(err)
		}
		byC.Warnings, byF.Warnings = nil, nil
		byC.BadSwitches, byF.BadSwitches = 0, 0 // the script writes yes or no
		byF.IPv6Auto = false
		if !reflect.DeepEqual(byC, byF) {
			t.Errorf("%s: by -c\n%v\nby -f\n%v", rc, byC, byF)
		}
	}
}

// TestHostsOfAstLinux reads rules that AstLinux's script makes of hosts that are
// named by hardware and IPv6 addresses.
func TestHostsOfAstLinux(t *testing.T) {
	const hardware, host, prefix = "allow 1024-65535 aa:bb:cc:dd:ee:ff 3000-4000\n", "allow 1024-65535 2001:db8::5/128 1024-65535\n", "allow 1024-65535 2001:db8::/64 22\n"
	c, err := parseConf(t, minimal+"allow 1024-65535 aa:bb:cc:dd:ee:ff/32 3000-4000\nallow 1024-65535 2001:db8::5/32 1024-65535\nallow 1024-65535 2001:db8::/64 22\n"+denyLine)
	if err != nil || rulesOf(c) != hardware+host+prefix+denyLine || c.BadRules != 0 {
		t.Errorf("%v, rules %q", err, rulesOf(c))
	}
	if text := strings.Join(c.Warnings, "\n"); len(c.Warnings) != 1 || !strings.Contains(text, "2001:db8::5/32 has bits beyond its mask") || !strings.Contains(text, ":5: ") {
		t.Errorf("warnings %q", c.Warnings)
	}
	c, err = parseRC(t, someService+`UPNP_ALLOW="aa:bb:cc:dd:ee:ff~3000-4000 2001:db8::5 2001:db8::/64~22"`+"\n")
	if err != nil || rulesOf(c) != hardware+host+prefix+denyLine || len(c.Warnings) != 0 {
		t.Errorf("%v, rules %q, warnings %q", err, rulesOf(c), c.Warnings)
	}
}

// shown finds a line of the sample that shows a default.
var shown = regexp.MustCompile(`(?m)^#([A-Z0-9_]+=)`)

// TestSample checks the documented sample: it can be read, it holds every
// variable and no other, and the defaults that it shows are the defaults.
func TestSample(t *testing.T) {
	text, err := os.ReadFile("../../rootfs-overlay/usr/share/igdd/rc.conf.sample")
	if err != nil {
		t.Fatal(err)
	}
	plain, err := parseRC(t, string(text)+"UUID="+someUUID+"\n")
	if err != nil || len(plain.Warnings) > 0 {
		t.Fatalf("%v, %q", err, plain.Warnings)
	}
	if !plain.NATPMP || plain.UPnP || fmt.Sprint(plain.LANs) != "[eth1]" {
		t.Errorf("the sample comes to\n%v", plain)
	}
	all := shown.ReplaceAllString(string(text), "$1")
	explicit, err := parseRC(t, all+"UUID="+someUUID+"\n")
	if err != nil || !reflect.DeepEqual(plain, explicit) {
		t.Errorf("%v: without its defaults the sample comes to\n%v\nwith them to\n%v", err, plain, explicit)
	}
	inSample := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^([A-Z0-9_]+)=`).FindAllStringSubmatch(all, -1) {
		if inSample[m[1]] {
			t.Errorf("%s is twice in the sample", m[1])
		}
		inSample[m[1]] = true
	}
	known := variables()
	slices.Sort(known)
	if got := slices.Sorted(maps.Keys(inSample)); !slices.Equal(got, known) {
		t.Errorf("the sample has\n%v\nknown are\n%v", got, known)
	}
}

func TestUUIDOfTheMachine(t *testing.T) {
	m := astLinux(t)
	rc := []string{"-c", write(t, "rc.conf", strings.Replace(someService, "UUID=", "NO_UUID=", 1))}
	uuid := func() string {
		t.Helper()
		c, err := m.parse(rc)
		if err != nil || len(c.Warnings) > 0 {
			t.Fatalf("%v, %v", err, c)
		}
		return c.Device.UUID
	}
	nothing := uuid()
	m.machineID = write(t, "machine-id", "0123456789abcdef0123456789abcdef\n")
	byID := uuid()
	m.hardware = func(device string) string { return map[string]string{"eth1": "02:00:00:00:00:01"}[device] }
	byAddress := uuid()
	m.blkid = []string{"/nowhere/blkid", write(t, "blkid", "#!/bin/sh\n"+
		`echo '/dev/sda1: LABEL="RUNNIX" UUID="12AB-34CD" TYPE="vfat"'`+"\n"+
		`echo '/dev/sda2: LABEL="ASTURW" UUID="`+someUUID+`" TYPE="ext2"'`+"\n")}
	if err := os.Chmod(m.blkid[1], 0o700); err != nil {
		t.Fatal(err)
	}
	if got := uuid(); got != someUUID {
		t.Errorf("the partition's UUID is %s, not %s", someUUID, got)
	}
	if ids := []string{nothing, byID, byAddress, someUUID}; len(slices.Compact(slices.Sorted(slices.Values(ids)))) != 4 {
		t.Errorf("UUIDs are not told apart: %q", ids)
	}
	if m.blkid = nil; uuid() != byAddress {
		t.Error("the UUID changed")
	}
}
