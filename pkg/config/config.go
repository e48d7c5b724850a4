// Package config turns rc.conf, miniupnpd.conf and arguments into one complete,
// checked value.
package config

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"igdd/pkg/portmap"
)

// Config is the complete configuration of the service. Parse returns it with all
// values checked and all defaults set.
type Config struct {
	Check      bool // -t: print the settings and exit
	Foreground bool // -d or -D
	Supervised bool // -D: a supervisor starts the process again when it ends
	Verbose    int  // -v: 1 informational, 2 everything
	PIDFile    string

	WAN        []string   // external interfaces, the announced one first; "ppp+" is a pattern
	WAN6       string     // external interface of IPv6
	ExternalIP netip.Addr // announced instead of the interface's; the zero Addr: none
	STUN       string     // host:port of the STUN server for the announced address; "": none
	LANs       []LAN      // at least one, unless no protocol is enabled
	Routes     []Route    // networks behind other routers on the LANs

	NATPMP, PCP, UPnP bool
	IPv6              bool
	IPv6Auto          bool // IPv6 follows the system, since no setting enables or disables it
	Hairpin           bool // hosts of a LAN reach mappings by the external address
	Hidden            bool // hosts that may have no port get no answer
	ThirdParty        bool // PCP clients may act for other hosts (RFC 6887, section 13.1)
	Peer              bool // PCP PEER is enabled
	Map               bool // PCP MAP is granted if the rules allow it
	Policy            portmap.Policy
	Outbound          Outbound // of which mappings the host sends by the external port, too
	Upstream          Upstream // how the router in front is asked for the ports, too

	HTTPPort       uint16        // 0: any free one
	NotifyInterval time.Duration // between the SSDP announcements
	BitrateUp      uint64        // of the uplink in bit/s, 0: the interface's own
	BitrateDown    uint64
	SystemUptime   bool   // report the uptime of the system, not of the service
	BootID         uint32 // UPnP BOOTID, 0: the service chooses
	IGDVersion     IGDVersion
	Device         Device

	LeaseFile        string // "": leases are not saved
	SaveDelay        time.Duration
	NATChain         string
	ForwardChain     string
	PostroutingChain string
	ControlSocket    string        // for miniupnpctl; "": none
	NotifyCmd        string        // program to run for every change; "": none
	Withdraw         time.Duration // how long to keep mappings of hosts that left the LAN, 0: until their leases end
	Sandbox          bool          // drop privileges that are not needed, or do not start
	DHCPLeases       string        // dnsmasq's file, for the names of hosts; "": none
	Warnings         []string      // what was skipped: file, line or variable, reason
	BadRules         int           // number of invalid permission rules
	BadSwitches      int           // number of switches with an unknown value
	BadEntries       int           // number of warnings about lists with invalid entries

	places   map[string]string // where each key was set
	borrowed string            // where the second external interface was set, if in another file; "": it was not
}

// Place returns where a key was set, as the beginning of a message, "" if it was
// not. The key of a LAN is "listening_ip=" and the LAN.
func (c *Config) Place(key string) string {
	if place := c.places[key]; place != "" {
		return place + ": "
	}
	return ""
}

// LAN is a listening interface, given by its name, or by the router's address
// and network there, or by the network's own address.
type LAN struct {
	Interface string
	Prefix    netip.Prefix // invalid if there is an Interface
	// Bits is the minimum prefix length of the interface's IPv4 networks: hosts
	// outside are not clients. 0: the networks as they are.
	Bits int
}

// IsNetwork reports whether the LAN is given by its network's own address, or by
// an address that is all of its network.
func (l LAN) IsNetwork() bool { return l.Prefix.IsValid() && l.Prefix == l.Prefix.Masked() }

// String returns the LAN as it is configured.
func (l LAN) String() string {
	switch {
	case l.Interface == "":
		return l.Prefix.String()
	case l.Bits > 0:
		return fmt.Sprintf("%s/%d", l.Interface, l.Bits)
	}
	return l.Interface
}

// Device is how the router describes itself (UDA 1.1, section 2.3).
type Device struct {
	UUID             string // of the root device, in the form of RFC 4122
	FriendlyName     string
	Manufacturer     string
	ManufacturerURL  string
	ModelName        string
	ModelDescription string
	ModelURL         string
	ModelNumber      string
	Serial           string
	PresentationURL  string // "": the router's own page
}

// IGDVersion is the version of the InternetGatewayDevice to offer.
type IGDVersion uint8

// The versions; with Both, version 2 only to clients that search for it.
const (
	Both IGDVersion = iota
	V1
	V2
)

// String returns the version as it is configured.
func (v IGDVersion) String() string {
	return [...]string{Both: "both", V1: "1", V2: "2"}[v]
}

// Outbound says of which mappings the host sends by the external port, too.
type Outbound uint8

// The choices.
const (
	OutboundAuto   Outbound = iota // of those whose external port is not the internal one
	OutboundAlways                 // of all
	OutboundNever                  // of none
)

// String returns the choice as it is configured.
func (o Outbound) String() string {
	return [...]string{OutboundAuto: automatic, OutboundAlways: yesNo(true), OutboundNever: yesNo(false)}[o]
}

// Upstream says whether, and how, the router in front is asked for the external ports.
type Upstream uint8

// The choices.
const (
	UpstreamNo   Upstream = iota // it is not asked
	UpstreamAuto                 // by any protocol, where the uplink has a private or shared address
	UpstreamPCP                  // always, as the following
	UpstreamNATPMP
	UpstreamIGD
)

// String returns the choice as it is configured.
func (u Upstream) String() string {
	return [...]string{
		UpstreamNo: yesNo(false), UpstreamAuto: automatic, UpstreamPCP: "pcp", UpstreamNATPMP: "natpmp", UpstreamIGD: "igd",
	}[u]
}

// SameService reports whether c and o differ only in what a running service can
// change: the administrator's policy and the verbosity of the log.
func (c *Config) SameService(o *Config) bool {
	return reflect.DeepEqual(c.service(), o.service())
}

// Chains returns the names of the chains in the settings. Without settings, for nil,
// they are the default names.
func (c *Config) Chains() (nat, forward, postrouting string) {
	if c == nil {
		return natChain, natChain, postroutingChain
	}
	return c.NATChain, c.ForwardChain, c.PostroutingChain
}

// SameChains reports whether a service with the settings o uses the same chains
// and jumps as one with c.
func (c *Config) SameChains(o *Config) bool {
	return slices.Equal(c.WAN, o.WAN) && c.NATChain == o.NATChain && c.ForwardChain == o.ForwardChain &&
		c.PostroutingChain == o.PostroutingChain && (c.Outbound == OutboundNever) == (o.Outbound == OutboundNever) && c.IPv6 == o.IPv6 && c.WAN6 == o.WAN6
}

// SameUpstream reports whether a service with the settings o asks the router in front as
// one with c does, and takes over what that forwards: it has the same mappings, and the
// nonces that are made of the UUID.
func (c *Config) SameUpstream(o *Config) bool {
	return c.Upstream == o.Upstream && slices.Equal(c.WAN, o.WAN) && c.LeaseFile == o.LeaseFile && c.Device.UUID == o.Device.UUID
}

// service returns c without what a running service can change or does not use.
func (c *Config) service() Config {
	s := *c
	s.Policy, s.Verbose, s.Warnings, s.Check = portmap.Policy{}, 0, nil, false
	s.BadRules, s.BadSwitches, s.BadEntries = 0, 0, 0
	s.places, s.borrowed = nil, ""
	return s
}
