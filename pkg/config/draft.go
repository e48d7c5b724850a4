package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"igdd/pkg/portmap"
)

// draft is a configuration that is being read.
type draft struct {
	Config
	machine  machine
	pcpIsSet bool // if not, PCP is enabled together with NAT-PMP
	stun     stun
	names    map[string]string // hardware addresses by the names that rules in words use; "": more than one
	devices  map[string]string // interfaces by the variables that rules in words use
	// announcing holds the interfaces of LANs that rc.conf gives by the address to
	// announce there, by that address with its mask.
	announcing map[string]string
	routeRules int    // where among the rules those that allow routed networks belong; -1: nowhere
	where      string // what is being read: file and line, variable, or option
}

// Bounds of the lifetimes that PCP grants (RFC 6887, section 15).
const (
	shortest = 2 * time.Minute
	longest  = 24 * time.Hour
)

// Names of the chains that miniupnpd's own scripts and AstLinux's firewall create.
const (
	natChain         = "MINIUPNPD" // of table filter, too
	postroutingChain = "MINIUPNPD-POSTROUTING"
)

// newDraft returns the defaults, which are miniupnpd's where it has any.
func newDraft(m machine) *draft {
	return &draft{machine: m, routeRules: -1, Config: Config{
		places:  make(map[string]string),
		PIDFile: "/var/run/miniupnpd.pid",
		WAN:     make([]string, 2), // the two of rc.conf, until finish
		UPnP:    true,
		IPv6:    true, IPv6Auto: true,
		Map: true,
		Policy: portmap.Policy{
			Secure:      true,
			MinLifetime: shortest,
			MaxLifetime: longest,
			MaxPerHost:  2048,  // far more than a well-behaved host needs
			MaxPerLAN:   8192,  // four hosts that take all that they can over IPv4
			MaxTotal:    16384, // a quarter of the ports there are
			MaxFilters:  16,

			LenientNonce: true,
		},
		NotifyInterval: 15 * time.Minute, // half of the shortest max-age (UDA 1.1, section 1.2.2)
		Device: Device{
			FriendlyName: "Internet gateway",
			Manufacturer: "igdd",
			ModelName:    "igdd",
			ModelNumber:  "1",
			Serial:       "00000000",
		},
		SaveDelay:        200 * time.Millisecond,
		NATChain:         natChain,
		ForwardChain:     natChain,
		PostroutingChain: postroutingChain,
		ControlSocket:    "/var/run/miniupnpd.ctl",
		Sandbox:          true,
		DHCPLeases:       "/var/db/dnsmasq.leases",
	}}
}

// Bounds of the warnings about a file with many errors.
const (
	mostWarnings   = 50
	longestWarning = 300 // bytes
	tooMany        = "there are more warnings than are shown here"
)

// warn adds a warning, and counts switches with unknown values and lists with
// invalid entries.
func (d *draft) warn(where string, err error) {
	if _, is := errors.AsType[badSwitch](err); is {
		d.BadSwitches++
	}
	if _, is := errors.AsType[badEntry](err); is {
		d.BadEntries++
	}
	w := where + ": " + strings.ReplaceAll(err.Error(), "\n", "; ")
	if len(w) > longestWarning {
		w = strings.ToValidUTF8(w[:longestWarning], "") + "…"
	}
	var cause essential
	switch n := len(d.Warnings); {
	case n < mostWarnings, n < 2*mostWarnings && errors.As(err, &cause):
		d.Warnings = append(d.Warnings, w)
	case !slices.Contains(d.Warnings, tooMany):
		d.Warnings = append(d.Warnings, tooMany)
	}
}

// finish completes the draft. The error is the reason why the service cannot
// start with it.
func (d *draft) finish() error {
	d.WAN = slices.Compact(slices.DeleteFunc(d.WAN, func(name string) bool { return name == "" }))
	if len(d.WAN) == 0 {
		return errors.New("no external interface: set EXTIF in rc.conf, ext_ifname in miniupnpd.conf, or give -i")
	}
	if d.WAN6 == "" {
		d.WAN6 = d.WAN[0]
	}
	if !d.pcpIsSet {
		d.PCP = d.NATPMP
	}
	if len(d.LANs) == 0 && (d.NATPMP || d.PCP || d.UPnP) {
		return errors.New("no listening interface: set UPNP_LISTEN in rc.conf, listening_ip in miniupnpd.conf, or give -a")
	}
	d.finishLANs()
	d.finishRoutes()
	d.finishLifetimes()
	d.finishChains()
	d.finishInterfaces()
	d.finishRules()
	d.finishPorts()
	d.finishHidden()
	if d.Device.UUID == "" {
		d.Device.UUID = d.machine.uuid(d.LANs).String()
	}
	return d.finishSTUN()
}

// finishLANs warns of listening interfaces that are uplinks as well.
func (d *draft) finishLANs() {
	for _, lan := range d.LANs {
		named := func(uplink string) bool {
			prefix, isPattern := strings.CutSuffix(uplink, "+")
			return uplink == lan.Interface || isPattern && strings.HasPrefix(lan.Interface, prefix)
		}
		if lan.Interface != "" && (named(d.WAN6) || slices.ContainsFunc(d.WAN, named)) {
			where := d.places["listening_ip="+lan.String()]
			d.warn(where, fmt.Errorf("listening_ip: %v is an uplink as well: hosts in its network may map ports", lan))
		}
	}
}

// finishLifetimes makes sure that the maximum lifetime is not below the minimum.
func (d *draft) finishLifetimes() {
	p := &d.Policy
	if p.MaxLifetime < p.MinLifetime {
		d.warn("max_lifetime", fmt.Errorf("%v is below min_lifetime, %v is used", p.MaxLifetime, p.MinLifetime))
		p.MaxLifetime = p.MinLifetime
	}
}

// finishChains makes sure that the two chains of table nat are different:
// incoming packets pass one, outgoing packets the other.
func (d *draft) finishChains() {
	if d.PostroutingChain != d.NATChain {
		return
	}
	d.PostroutingChain = postroutingChain
	if d.NATChain == postroutingChain {
		d.PostroutingChain = natChain
	}
	where := cmp.Or(d.places["upnp_nat_postrouting_chain"], d.places["upnp_nat_chain"])
	d.warn(where, fmt.Errorf("upnp_nat_postrouting_chain: %s is upnp_nat_chain, %s is used", d.NATChain, d.PostroutingChain))
}

// finishRules denies everything if all rules are invalid: without rules
// everything would be allowed.
func (d *draft) finishRules() {
	if d.BadRules > 0 && len(d.Policy.Rules) == 0 {
		d.warn("permission rules", errors.New("all are invalid, so no mapping is allowed"))
		d.Policy.Rules = append(d.Policy.Rules, denyAll)
	}
}

// finishPorts warns if the rules permit nobody any of the ports that the provider forwards.
func (d *draft) finishPorts() {
	provided := d.Policy.ExternalPorts
	if provided != nil && provided.Len() > 0 && !provided.Intersects(d.Policy.PortsOfAnybody()) {
		d.warn(cmp.Or(d.places[externalPortsKey], externalPortsKey), fmt.Errorf("%s: the permission rules allow nobody any of these ports, so that no IPv4 port is granted", externalPortsKey))
	}
}

// finishHidden warns that hosts which may open ports for others are not hidden from.
func (d *draft) finishHidden() {
	cause := "secure_mode=no"
	if d.ThirdParty {
		cause = "pcp_allow_thirdparty=yes"
	}
	if d.Hidden && (d.ThirdParty || !d.Policy.Secure) {
		d.warn(cmp.Or(d.places["hidden"], "hidden"), fmt.Errorf("hidden: it has no effect with %s: every host may open ports for others", cause))
	}
}

// automatic enables IPv6 if it is enabled in the system.
const automatic = "auto"

// ipv6Switch is on, off, or automatic.
type ipv6Switch draft

func (v *ipv6Switch) Set(s string) error {
	if v.IPv6Auto = s == automatic; v.IPv6Auto {
		v.IPv6 = true
		return nil
	}
	return (*yes)(&v.IPv6).Set(s)
}

func (v *ipv6Switch) String() string {
	if v.IPv6Auto {
		return automatic
	}
	return yesNo(v.IPv6)
}

// uplink is one of the external interfaces.
type uplink struct {
	d *draft
	i int
}

func (v *uplink) Set(s string) error { return (*device)(&v.d.WAN[v.i]).Set(s) }

func (v *uplink) String() string {
	if v.i < len(v.d.WAN) {
		return v.d.WAN[v.i]
	}
	return ""
}

// pcpSwitch is on or off; until it is set PCP is enabled together with NAT-PMP.
type pcpSwitch struct{ d *draft }

func (v *pcpSwitch) Set(s string) error {
	v.d.pcpIsSet = true
	return (*yes)(&v.d.PCP).Set(s)
}

func (v *pcpSwitch) String() string { return yesNo(v.d.PCP) }
