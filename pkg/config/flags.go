package config

import (
	"errors"
	"fmt"
	"net/netip"
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

// Error implements error, so that Parse can return an Info.
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
  -f FILE     settings are keys of this file (without /etc/rc.conf by default
              /etc/miniupnpd.conf or /etc/miniupnpd/miniupnpd.conf)
  -t          check the settings, print them, and exit
  -t SECONDS  interval of the UPnP announcements
  -d          stay in the foreground and log everything to standard error
  -D          stay in the foreground for a supervisor, such as systemd or init
  -v, -vv     log informational messages too, or everything
  -P FILE     keep the process ID here (default /var/run/miniupnpd.pid)

  -i IF       external interface
  -I IF       external interface of IPv6, if it is another one
  -a LAN      listen here: an interface, the router's address there or that of
              the network, each with an optional /mask;
              may be repeated, and adds to those of the file
  -o ADDRESS  announce this external address, or query STUN:HOST[:PORT] for it
  -A RULE     append a permission rule; may be repeated
  -N          enable NAT-PMP and PCP
  -S0         let clients map ports to other hosts than themselves
  -4          disable IPv6
  -1          describe the router as version 1 of an InternetGatewayDevice

  -p PORT     HTTP port (0: any free one)
  -U          report the uptime of the system
  -B DOWN UP  bit rates of the uplink, in bit/s
  -u UUID     -s SERIAL   -m MODEL-NUMBER   -z FRIENDLY-NAME
  -w URL      presentation URL
  -b BOOTID   UPnP BOOTID
  -H, -L, -l, -n, -Q, -q, -r, -S, -T   accepted for compatibility, no effect

  -h, --help  this text
  --version   the version
`

// option is the meaning of a flag.
type option struct {
	words int // number of arguments
	do    func(*draft, flag) error
	// strict means that the service does not start with an invalid value,
	// because miniupnpd does not, or because it would serve other networks than
	// intended.
	strict bool
}

// options are the flags. Some do nothing here: -c and -f are evaluated before,
// -S and -r are accepted for scripts, and others are for other firewalls.
var options = map[string]option{
	"-c":  {words: 1, do: nothing},
	"-f":  {words: 1, do: nothing},
	"-t":  set("notify_interval"),
	"-d":  {do: stayInForeground},
	"-D":  {do: serveSupervisor},
	"-v":  {do: func(d *draft, f flag) error { d.Verbose = min(d.Verbose+1+len(f.rest), 2); return nil }},
	"-P":  set("pid_file"),
	"-i":  setStrict("ext_ifname"),
	"-I":  setStrict("ext_ifname6"),
	"-a":  setStrict("listening_ip"),
	"-o":  {words: 1, do: func(d *draft, f flag) error { return d.setAnnounced(f.words[0]) }, strict: true},
	"-A":  {words: 1, do: func(d *draft, f flag) error { return d.addOfOption(f.words[0]) }, strict: true},
	"-N":  fix("enable_natpmp", "yes"),
	"-S":  {do: nothing},
	"-S0": fix("secure_mode", "no"),
	"-4":  fix("ipv6", "no"),
	"-1":  fix("igd_version", "1"),
	"-p":  set("http_port"),
	"-r":  {words: 1, do: nothing},
	"-U":  fix("system_uptime", "yes"),
	"-B": {words: 2, do: func(d *draft, f flag) error {
		return errors.Join(d.take("bitrate_down", f.words[0]), d.take("bitrate_up", f.words[1]))
	}},
	"-u": set("uuid"),
	"-s": set("serial"),
	"-m": set("model_number"),
	"-z": set("friendly_name"),
	"-w": set("presentation_url"),
	"-b": set("bootid"),
	"-H": {words: 1, do: useless},
	"-L": {do: useless},
	"-l": {words: 1, do: useless},
	"-n": {words: 1, do: useless},
	"-Q": {words: 1, do: useless},
	"-q": {words: 1, do: useless},
	"-T": {words: 1, do: useless},
}

// checking is -t without a number.
var checking = option{do: func(d *draft, _ flag) error { d.Check = true; return nil }}

func nothing(*draft, flag) error { return nil }

func useless(*draft, flag) error { return errors.New("has no effect with iptables, ignored") }

// stayInForeground requires the flag to be a word of its own, as miniupnpd does.
func stayInForeground(d *draft, f flag) error {
	d.Foreground = d.Foreground || f.rest == ""
	return nil
}

// serveSupervisor is stayInForeground for a process that a supervisor has started.
func serveSupervisor(d *draft, f flag) error {
	d.Supervised = d.Supervised || f.rest == ""
	return stayInForeground(d, f)
}

// set returns an option that sets a key to its argument.
func set(key string) option {
	return option{words: 1, do: func(d *draft, f flag) error { return d.take(key, strings.Join(f.words, " ")) }}
}

// setStrict is set for a strict option.
func setStrict(key string) option {
	o := set(key)
	o.strict = true
	return o
}

// fix returns an option without arguments that sets a key to a value.
func fix(key, text string) option {
	return option{do: func(d *draft, _ flag) error { return d.take(key, text) }}
}

// setAnnounced sets the external address, or the STUN server to query for it.
func (d *draft) setAnnounced(s string) error {
	const prefix = "STUN:"
	if hasPrefixFold(s, prefix) {
		return d.setSTUN(s[len(prefix):])
	}
	return d.take("ext_ip", s)
}

// flag is a flag of the command line with its arguments.
type flag struct {
	name  string
	words []string
	rest  string // what follows the flag in the same word, without a meaning
	check bool   // -t without a number
}

// option returns the meaning of the flag.
func (f flag) option() (o option, known bool) {
	if f.check {
		return checking, true
	}
	o, known = options[f.name]
	return o, known
}

// split parses the command line. The error is an Info for -h and --version.
func split(args []string) ([]flag, error) {
	if slices.Contains(args, "-h") || slices.Contains(args, "--help") {
		return nil, Help
	}
	var flags []flag
	for len(args) > 0 {
		if args[0] == "--version" || args[0] == "version" {
			return nil, Version
		}
		f, rest, err := next(args)
		if err != nil {
			return nil, err
		}
		flags, args = append(flags, f), rest
	}
	return flags, nil
}

// next returns the first flag with its arguments, and the remaining words.
func next(args []string) (f flag, rest []string, err error) {
	f = named(args)
	o, known := f.option()
	if !known {
		return f, nil, unknownError(args[0])
	}
	rest = args[1:]
	if f.rest != "" && o.words > 0 {
		rest = append([]string{f.rest}, rest...)
		f.rest = ""
	}
	if len(rest) < o.words {
		return f, nil, fmt.Errorf("option %s: missing value", f.name)
	}
	f.words, rest = slices.Clip(rest[:o.words]), rest[o.words:]
	for f.name == "-a" && len(rest) > 0 && isAddress(rest[0]) { // in older versions the external address follows
		f.words, rest = append(f.words, rest[0]), rest[1:]
	}
	return f, rest, nil
}

// unknownError returns the error of a word that is no flag.
func unknownError(word string) error {
	if len(word) > 1 && word[0] == '-' {
		return fmt.Errorf("unknown option %q", word)
	}
	return fmt.Errorf("unexpected argument %q", word)
}

// named returns the first flag without its arguments. Like miniupnpd it
// recognizes a flag by the first letter of a word.
func named(args []string) flag {
	f := flag{name: args[0]}
	if _, known := options[f.name]; !known && len(f.name) > 2 && f.name[:2] != "-S" {
		f.name, f.rest = f.name[:2], f.name[2:]
	}
	value := f.rest
	if value == "" && len(args) > 1 {
		value = args[1]
	}
	f.check = f.name == "-t" && !isDigit(value)
	return f
}

// isDigit reports whether a word begins with a digit.
func isDigit(word string) bool { return word != "" && word[0] >= '0' && word[0] <= '9' }

// isAddress reports whether a word is an address.
func isAddress(word string) bool {
	_, err := netip.ParseAddr(word)
	return err == nil
}

// apply applies the flags, which override the file. An invalid value is skipped
// with a warning, unless the option is strict.
func (d *draft) apply(flags []flag) error {
	for _, f := range flags {
		o, _ := f.option()
		d.where = "option " + f.name
		err := o.do(d, f)
		if err != nil && o.strict && !isRemark(err) {
			return fmt.Errorf("option %s: %w", f.name, err)
		}
		if f.rest != "" && o.words == 0 && f.name != "-v" {
			err = errors.Join(err, fmt.Errorf("ignored %q after it", f.rest))
		}
		if err != nil {
			d.warn(d.where, err)
		}
	}
	return nil
}
