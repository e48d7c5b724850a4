package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"igdd/pkg/portmap"
)

// parseInterfaces parses interfaces with commas between them. The error is a remark if
// there is a list.
func (d *draft) parseInterfaces(s string) (list []string, odd error) {
	for word := range strings.SplitSeq(s, ",") {
		name, err := d.parseInterface(word)
		if err != nil && !isRemark(err) {
			return nil, err
		}
		list, odd = append(list, name), cmp.Or(odd, err)
	}
	return list, odd
}

// parseInterface parses an interface: a device, or in rc.conf also the variable that
// names one. With a name the error is a remark. A variable that names none stands for
// itself until finishInterfaces.
func (d *draft) parseInterface(s string) (name string, err error) {
	variable := strings.ToUpper(s)
	device, isVariable := d.devices[variable]
	switch {
	case isVariable && (device == "" || device == "none"):
		return variable, remark{fmt.Errorf("%s names no interface, so the rule applies to no host there", variable)}
	case !isVariable:
		device = s
	}
	name, labelled := withoutLabel(device)
	if !isDevice(name) || hasShellSigns(name) {
		return "", fmt.Errorf("invalid interface name %q", device)
	}
	return name, labelled
}

// finishInterfaces takes interfaces that are not listened on out of the rules for them.
// A name that is none of the router's may be a typing error: that part is invalid.
func (d *draft) finishInterfaces() {
	rules := d.Policy.Rules
	d.Policy.Rules = nil
	for _, r := range rules {
		line, named := RuleText(r), r.Interfaces
		if i := slices.IndexFunc(named, d.isNoInterface); i >= 0 {
			r.Interfaces = nil
			d.warn(r.Place, d.takeRule(line, r, fmt.Errorf("%s is no interface that is listened on", named[i])))
			continue
		}
		if r.Interfaces = d.listenedOn(r); named == nil || r.Interfaces != nil {
			d.Policy.Rules = append(d.Policy.Rules, r)
		}
	}
}

// isNoInterface reports whether a name is neither that of a LAN nor one that rc.conf
// gives one of the router's networks.
func (d *draft) isNoInterface(name string) bool {
	_, isUnset := d.devices[name]
	return !isUnset && !d.mayListen(name) && !d.isDeviceOfRC(name)
}

// isDeviceOfRC reports whether rc.conf says that one of the router's networks is behind
// an interface.
func (d *draft) isDeviceOfRC(name string) bool {
	for _, device := range d.devices {
		if device, _ = withoutLabel(device); device == name && name != "none" {
			return true
		}
	}
	return false
}

// listenedOn returns the interfaces of a rule that hosts may be served on, and warns of
// the others, but for variables that name none: of these there is a warning.
func (d *draft) listenedOn(r portmap.Rule) (list []string) {
	for _, name := range r.Interfaces {
		switch _, isUnset := d.devices[name]; {
		case isUnset:
		case d.mayListen(name):
			list = append(list, name)
		default:
			d.warn(r.Place, fmt.Errorf("rule %q: %s is not listened on, so the rule applies to no host there", RuleText(r), name))
		}
	}
	return list
}

// mayListen reports whether an interface is that of a LAN, as far as the settings tell.
func (d *draft) mayListen(device string) bool {
	return slices.ContainsFunc(d.LANs, func(l LAN) bool {
		name := cmp.Or(l.Interface, d.announcing[l.String()])
		return name == "" || name == device
	})
}
