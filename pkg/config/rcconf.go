package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"igdd/pkg/portmap"
)

// network names the variables of one of the router's networks.
type network struct{ device, address, mask string }

// networks are those that UPNP_LISTEN can name by their device, in the order
// in which they are served.
var networks = []network{
	{"INTIF", "INTIP", "INTNM"},
	{"INT2IF", "INT2IP", "INT2NM"},
	{"INT3IF", "INT3IP", "INT3NM"},
	{"INT4IF", "INT4IP", "INT4NM"},
	{"DMZIF", "DMZIP", "DMZNM"},
}

// variables returns the names of all variables of rc.conf that mean something.
func variables() []string {
	names := []string{"UPNP_LISTEN", "UPNP_ALLOW", "UPNP_STUN_HOST", "IPV6"}
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

// readRC takes the settings of an rc.conf. A variable that is empty is as one
// that is not set, and one that cannot be used is skipped with a warning.
func (d *draft) readRC(path string) error {
	const limit = 5 * time.Second
	vars, complaints, err := shell{d.machine.shell, limit}.readPlain(path, variables())
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

// setAstLinuxDefaults sets the defaults that AstLinux's init script writes down.
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

// takeRC takes the variables of the rc.conf at path.
func (d *draft) takeRC(path string, vars map[string]string) {
	check := func(variable string, err error) {
		if err != nil {
			d.warn(path+": "+variable, err)
		}
	}
	d.IPv6, d.IPv6Auto = vars["IPV6"] == "yes", false
	for _, s := range settings {
		if text := vars[s.variable]; text != "" {
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
	if allow := vars["UPNP_ALLOW"]; allow != "" {
		for _, entry := range fields(allow) {
			check("UPNP_ALLOW", d.allow(entry))
		}
	} else {
		for _, n := range served(vars) {
			check(n.address+", "+n.mask, d.allowNetwork(vars[n.address], vars[n.mask]))
		}
	}
	d.Policy.Rules = append(d.Policy.Rules, denyAll)
}

// served returns the networks that UPNP_LISTEN names and that there are.
func served(vars map[string]string) []network {
	listen := fields(vars["UPNP_LISTEN"])
	var list []network
	for _, n := range networks {
		device := vars[n.device]
		isThere := device != "" && device != "none" && vars[n.address] != "" && vars[n.mask] != ""
		if isThere && slices.Contains(listen, n.device) {
			list = append(list, n)
		}
	}
	return list
}

// listen adds the networks that are served. Its error names all words of
// UPNP_LISTEN that mean nothing.
func (d *draft) listen(vars map[string]string) error {
	var errs []error
	there := served(vars)
	for _, word := range fields(vars["UPNP_LISTEN"]) {
		named := func(n network) bool { return n.device == word }
		switch i := slices.IndexFunc(networks, named); {
		case i < 0:
			errs = append(errs, fmt.Errorf("%q is none of INTIF, INT2IF, INT3IF, INT4IF and DMZIF, ignored", word))
		case !slices.ContainsFunc(there, named):
			errs = append(errs, fmt.Errorf("%s is not served: %[1]s=%q %s=%q %s=%q are no network", word,
				vars[word], networks[i].address, vars[networks[i].address], networks[i].mask, vars[networks[i].mask]))
		}
	}
	for _, n := range there {
		errs = append(errs, d.addLAN(vars[n.device]))
	}
	if err := errors.Join(errs...); err != nil {
		return essential{err}
	}
	return nil
}

// allowNetwork lets a network have all ports that are not reserved to servers.
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
var everyPort = portmap.PortRange{Last: maxPort}

// denyAll is the last rule of AstLinux.
var denyAll = portmap.Rule{External: everyPort, Network: netip.IPv4Unspecified(), Internal: everyPort}

// fields splits a value where an unquoted variable is split. File names are
// not looked for: a word with *, ? or [ is no address, and no network.
func fields(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(" \t\n", r) })
}

// allow appends the rule for an entry of UPNP_ALLOW.
func (d *draft) allow(entry string) error {
	rule, unused := allowed(entry)
	err := d.addRule(rule)
	if err == nil && unused != "" {
		err = fmt.Errorf("rule %q: %q is no port and no range of ports, and means nothing", rule, unused)
	}
	return err
}

// allowed returns the rule for an entry of UPNP_ALLOW:
// address[/bits][~port[-port]], where anything but digits and dashes behind
// the first ~, or nothing, means all ports from 1024 on, and what of it is not
// used. A mask of 32 is right for IPv4 alone.
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
