package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Info is what Parse returns instead of a configuration when only information
// was asked for.
type Info int

// The kinds of information.
const (
	Help Info = iota + 1
	Version
)

// Error makes Info an error, which main looks for.
func (i Info) Error() string { return "only information was asked for" }

// Text returns what to print on standard output.
func (i Info) Text(version string) string {
	if i == Help {
		return usage
	}
	return "miniupnpd " + version + "\n" +
		"using netfilter(iptables) backend\n" +
		"build options: igdd miniupnpdctl ipv6 NAT-PMP PCP PCP-PEER leasefile check_portinuse igdv2 regex\n"
}

// usage is the text of --help.
const usage = `usage: miniupnpd [-c rc.conf | -f miniupnpd.conf] [options]

Lets LAN clients open ports of the router by NAT-PMP, PCP and UPnP IGD.
Options override what the file says.

  -c FILE     settings are variables of this shell file (default /etc/rc.conf)
  -f FILE     settings are keys of this file
  -t          check the settings, print what is in effect, and end
  -d          stay in the foreground and log everything to standard error
  -v, -vv     log informational messages too, or everything
  -P FILE     keep the process ID here (default /var/run/miniupnpd.pid)

  -i IF       external interface
  -I IF       external interface of IPv6, if it is another one
  -a LAN      listen here: an interface, or the router's address[/mask] there;
              may be repeated, and adds to those of the file
  -o ADDRESS  announce this external address, or ask STUN:HOST[:PORT] for it
  -A RULE     append a permission rule; may be repeated
  -N          enable NAT-PMP and PCP
  -S0         let clients map ports to other hosts than themselves
  -4          do without IPv6
  -1          describe the router as version 1 of an InternetGatewayDevice

  -p PORT     HTTP port (0: any free one)
  -U          report the uptime of the system
  -B DOWN UP  bit rates of the uplink, in bit/s
  -u UUID     -s SERIAL   -m MODEL-NUMBER   -z FRIENDLY-NAME
  -w URL      presentation URL
  -b BOOTID   UPnP BOOTID

  -h, --help  this text
  --version   the version
`

// option is what one flag means.
type option struct {
	words int // that follow it
	do    func(d *draft, words []string) error
}

// options are the flags. Those that do nothing to the settings are looked at
// before (-c and -f), or are kept for scripts that give them (-S and -r).
var options = map[string]option{
	"-c":  {1, nothing},
	"-f":  {1, nothing},
	"-t":  {0, func(d *draft, _ []string) error { d.Check = true; return nil }},
	"-d":  {0, func(d *draft, _ []string) error { d.Foreground = true; return nil }},
	"-v":  {0, func(d *draft, _ []string) error { d.Verbose = min(d.Verbose+1, 2); return nil }},
	"-vv": {0, func(d *draft, _ []string) error { d.Verbose = 2; return nil }},
	"-P":  set("pid_file"),
	"-i":  set("ext_ifname"),
	"-I":  set("ext_ifname6"),
	"-a":  set("listening_ip"),
	"-o":  {1, func(d *draft, words []string) error { return d.setAnnounced(words[0]) }},
	"-A":  {1, func(d *draft, words []string) error { return d.addRule(words[0]) }},
	"-N":  fix("enable_natpmp", "yes"),
	"-S":  {0, nothing},
	"-S0": fix("secure_mode", "no"),
	"-4":  fix("ipv6", "no"),
	"-1":  fix("igd_version", "1"),
	"-p":  set("http_port"),
	"-r":  {1, nothing},
	"-U":  fix("system_uptime", "yes"),
	"-B": {2, func(d *draft, words []string) error {
		return errors.Join(d.take("bitrate_down", words[0]), d.take("bitrate_up", words[1]))
	}},
	"-u": set("uuid"),
	"-s": set("serial"),
	"-m": set("model_number"),
	"-z": set("friendly_name"),
	"-w": set("presentation_url"),
	"-b": set("bootid"),
}

func nothing(*draft, []string) error { return nil }

// set makes the option that gives a key the word that follows.
func set(key string) option {
	return option{1, func(d *draft, words []string) error { return d.take(key, words[0]) }}
}

// fix makes the option that gives a key a value.
func fix(key, text string) option {
	return option{0, func(d *draft, _ []string) error { return d.take(key, text) }}
}

// setAnnounced takes an external address, or the server that tells it.
func (d *draft) setAnnounced(s string) error {
	if server, found := strings.CutPrefix(s, "STUN:"); found {
		return d.setSTUN(server)
	}
	return d.take("ext_ip", s)
}

// flag is one flag of the command line with the words that belong to it.
type flag struct {
	name  string
	words []string
}

// split takes the command line apart. It returns an Info if that is all that
// was asked for.
func split(args []string) ([]flag, error) {
	if slices.Contains(args, "-h") || slices.Contains(args, "--help") {
		return nil, Help
	}
	var flags []flag
	for len(args) > 0 {
		name := args[0]
		o, known := options[name]
		switch {
		case name == "--version" || name == "version":
			return nil, Version
		case !known:
			return nil, fmt.Errorf("unknown option %q", name)
		case len(args) <= o.words:
			return nil, fmt.Errorf("option %s: a value is missing", name)
		}
		flags = append(flags, flag{name, args[1 : 1+o.words]})
		args = args[1+o.words:]
	}
	return flags, nil
}

// apply lets the flags override the settings. What is wrong in a file is
// skipped; what is wrong here was typed by somebody who can mend it.
func (d *draft) apply(flags []flag) error {
	for _, f := range flags {
		if err := options[f.name].do(d, f.words); err != nil {
			return fmt.Errorf("option %s: %w", f.name, err)
		}
	}
	return nil
}
