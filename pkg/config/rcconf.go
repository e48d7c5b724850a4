package config

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"igdd/pkg/portmap"
)

// network is the names of the variables of one of the router's networks.
type network struct{ device, address, mask string }

// networks are the networks that UPNP_LISTEN can name by their device, in the
// order in which they are served.
var networks = []network{
	{"INTIF", "INTIP", "INTNM"},
	{"INT2IF", "INT2IP", "INT2NM"},
	{"INT3IF", "INT3IP", "INT3NM"},
	{"INT4IF", "INT4IP", "INT4NM"},
	{"DMZIF", "DMZIP", "DMZNM"},
}

// variables returns the names of all variables of rc.conf that are read.
func variables() []string {
	names := []string{"UPNP_LISTEN", "UPNP_LAN_ROUTES", "UPNP_ALLOW", "UPNP_RULES", "STATICHOSTS", "UPNP_STUN_HOST", "IPV6"}
	for _, n := range networks {
		names = append(names, n.device, n.address, n.mask)
	}
	for _, s := range settings {
		if s.variable != "" {
			names = append(names, s.variable)
		}
	}
	return names
}

// ReadLimit is how long an rc.conf may take.
const ReadLimit = 5 * time.Second

// readRC reads the settings of an rc.conf. An empty variable counts as unset, but for
// UPNP_EXT_PORTS, and an invalid one is skipped with a warning.
func (d *draft) readRC(path string) error {
	vars, complaints, err := shell{d.machine.shell, ReadLimit, d.machine.dir}.readPlain(path, variables())
	if err != nil {
		return err
	}
	for _, place := range complaints {
		d.warn(place, errors.New("the shell objects to this line and goes on"))
	}
	d.setAstLinuxDefaults()
	d.takeRC(path, vars)
	return nil
}

// setAstLinuxDefaults sets the defaults of AstLinux's init script.
func (d *draft) setAstLinuxDefaults() {
	const name = "AstLinux Router"
	release := d.machine.releaseName()
	d.UPnP = false
	d.HTTPPort = 5000
	d.NotifyInterval = time.Minute
	d.BitrateUp, d.BitrateDown = 1_000_000, 10_000_000
	d.SystemUptime = true
	d.LeaseFile = "/mnt/kd/upnp.leases"
	d.Device.FriendlyName, d.Device.ModelName, d.Device.Serial = name, name, "000001"
	d.Device.ModelDescription, d.Device.ModelNumber = release, release
}

// takeRC applies the variables of the rc.conf at path.
func (d *draft) takeRC(path string, vars map[string]string) {
	check := func(variable string, err error) {
		if err != nil {
			d.warn(path+": "+variable, err)
		}
	}
	d.IPv6, d.IPv6Auto = vars["IPV6"] == "yes", false
	for _, s := range settings {
		if text, isSet := vars[s.variable]; text != "" || isSet && s.key == externalPortsKey {
			d.places[s.key] = path + ": " + s.variable
			check(s.variable, s.place(d).Set(text))
		}
	}
	if server := vars["UPNP_STUN_HOST"]; server != "" {
		d.where = path + ": UPNP_STUN_HOST"
		check("UPNP_STUN_HOST", d.setSTUN(server))
	}
	d.where = path + ": UPNP_LISTEN"
	check("UPNP_LISTEN", d.listen(vars))
	d.where = path + ": UPNP_RULES"
	d.takeWords(vars)
	d.where = path + ": UPNP_LAN_ROUTES"
	for _, entry := range strings.FieldsFunc(withoutComments(vars["UPNP_LAN_ROUTES"]), isBetweenRoutes) {
		check("UPNP_LAN_ROUTES", d.route(vars, entry))
	}
	d.takeAllowed(vars, check)
	d.Policy.Rules = append(d.Policy.Rules, denyAll)
}

// takeWords adds the rules of UPNP_RULES, which may use the names of AstLinux's hosts and
// the variables that name interfaces.
func (d *draft) takeWords(vars map[string]string) {
	d.bindStatic(vars["STATICHOSTS"])
	d.devices = make(map[string]string)
	for _, n := range networks {
		d.devices[n.device] = vars[n.device]
	}
	d.addWords(vars["UPNP_RULES"])
}

// takeAllowed adds the rules of UPNP_ALLOW, without it those for every host that is
// served; finishRoutes adds those of routed networks.
func (d *draft) takeAllowed(vars map[string]string, check func(variable string, err error)) {
	allow := vars["UPNP_ALLOW"]
	for _, entry := range fields(allow) {
		check("UPNP_ALLOW", d.allow(entry))
	}
	if allow != "" {
		return
	}
	for _, n := range served(vars) {
		check(n.address+", "+n.mask, d.allowNetwork(vars[n.address], vars[n.mask]))
	}
	d.routeRules = len(d.Policy.Rules)
}

// served returns the networks that UPNP_LISTEN names and that are configured.
func served(vars map[string]string) []network {
	listen := fields(vars["UPNP_LISTEN"])
	var list []network
	for _, n := range networks {
		device := vars[n.device]
		isConfigured := device != "" && device != "none" && vars[n.address] != "" && vars[n.mask] != ""
		if isConfigured && slices.Contains(listen, n.device) {
			list = append(list, n)
		}
	}
	return list
}

// listen adds the networks that are served. Its error names all invalid words of
// UPNP_LISTEN.
func (d *draft) listen(vars map[string]string) error {
	var errs []error
	configured := served(vars)
	announced := make(map[network]string) // the router's address, where one is given
	for _, word := range fields(vars["UPNP_LISTEN"]) {
		if a, err := netip.ParseAddr(word); err == nil {
			errs = append(errs, setAnnounced(announced, configured, vars, a))
			continue
		}
		named := func(n network) bool { return n.device == word }
		switch i := slices.IndexFunc(networks, named); {
		case i < 0:
			errs = append(errs, fmt.Errorf("invalid word %q, ignored: use INTIF, INT2IF, INT3IF, INT4IF or DMZIF", word))
		case !slices.ContainsFunc(configured, named):
			errs = append(errs, fmt.Errorf("%s is not served: %[1]s=%q %s=%q %s=%q is not a network", word,
				vars[word], networks[i].address, vars[networks[i].address], networks[i].mask, vars[networks[i].mask]))
		}
	}
	d.announcing = make(map[string]string)
	for _, n := range configured {
		if a := announced[n]; a != "" {
			d.announcing[a], _ = withoutLabel(vars[n.device])
		}
		errs = append(errs, d.addLAN(cmp.Or(announced[n], vars[n.device])))
	}
	if err := errors.Join(errs...); err != nil {
		return essential{err}
	}
	return nil
}

// setAnnounced notes that a is the router's address to announce in one of the networks,
// such as a virtual one, in the form that addLAN accepts.
func setAnnounced(announced map[network]string, configured []network, vars map[string]string, a netip.Addr) error {
	for _, n := range configured {
		of, _ := networkOf(vars[n.address], vars[n.mask]) // an invalid one contains no address
		switch {
		case !of.Contains(a):
		case announced[n] != "":
			return fmt.Errorf("%v, ignored: %s announces %s", a, n.device, announced[n])
		default:
			announced[n] = netip.PrefixFrom(a, of.Bits()).String()
			return nil
		}
	}
	return fmt.Errorf("%v, ignored: it is in none of the networks that are served", a)
}

// isBetweenRoutes reports whether a character ends an entry of UPNP_LAN_ROUTES.
func isBetweenRoutes(r rune) bool { return strings.ContainsRune(",;\n", r) }

// route adds the network of an entry of UPNP_LAN_ROUTES, "10.1.0.0/16 via INTIF", which
// names the interface as UPNP_LISTEN does or by its own name.
func (d *draft) route(vars map[string]string, entry string) error {
	words := strings.Fields(entry)
	if len(words) == 0 {
		return nil
	}
	last := &words[len(words)-1]
	if i := slices.IndexFunc(networks, func(n network) bool { return strings.EqualFold(n.device, *last) }); i >= 0 {
		if !slices.Contains(served(vars), networks[i]) {
			return badEntry{fmt.Errorf("%q, ignored: %s is not served", entry, networks[i].device)}
		}
		*last = vars[networks[i].device]
	}
	text := strings.Join(words, " ")
	if r, err := parseRoute(text); err == nil || isRemark(err) {
		for _, n := range networks {
			of, _ := networkOf(vars[n.address], vars[n.mask]) // an invalid one overlaps with none
			if of.Overlaps(r.Network) {
				return badEntry{fmt.Errorf("%v, ignored: it overlaps with %v, the network of %s", r, of, n.device)}
			}
		}
	}
	return d.addRoute(text)
}

// allowNetwork allows a network all ports from 1024 on.
func (d *draft) allowNetwork(address, mask string) error {
	network, err := networkOf(address, mask)
	if !network.IsValid() {
		d.BadRules++
	} else {
		err = errors.Join(err, d.allow(network.String()))
	}
	return err
}

// everyPort is the range of all ports.
var everyPort = portmap.Ports{{Last: maxPort}}

// denyAll is the rule that AstLinux puts after all others.
var denyAll = portmap.Rule{External: everyPort, Network: netip.IPv4Unspecified(), Internal: everyPort}

// fields splits a value like the shell splits an unquoted variable. It does not
// expand file names: a word with *, ? or [ is neither an address nor a network.
func fields(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(" \t\n", r) })
}

// allow appends the rule for an entry of UPNP_ALLOW.
func (d *draft) allow(entry string) error {
	rule, unused := allowed(entry)
	err := d.addRule(rule)
	if err == nil && unused != "" {
		err = fmt.Errorf("rule %q: ignored %q, which is neither a port nor a range of ports", rule, unused)
	}
	return err
}

// allowed returns the rule for an entry of UPNP_ALLOW,
// address[/bits][~port[-port]], and the part of the entry that is not used.
// Without digits and dashes after the first ~ the rule is for all ports from
// 1024 on. The default mask of 32 is right for IPv4 only.
func allowed(entry string) (rule, unused string) {
	const usual = "1024-65535"
	address, unused, _ := strings.Cut(entry, "~")
	ports := usual
	if first, rest, _ := strings.Cut(unused, "~"); first != "" && strings.Trim(first, "0123456789-") == "" {
		ports, unused = first, rest
	}
	if !strings.ContainsAny(address, "/:") {
		address += "/32"
	}
	return "allow " + usual + " " + address + " " + ports, unused
}
