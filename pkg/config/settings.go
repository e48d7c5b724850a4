package config

import (
	"slices"
	"time"
)

// setting is a setting with a single value, and its name in each kind of file.
type setting struct {
	key      string // in miniupnpd.conf
	variable string // in rc.conf; "": none
	place    func(*draft) value
}

// settings are all settings with a single value, in the order of the report.
var settings = []setting{
	{"ext_ifname", "EXTIF", func(d *draft) value { return &uplink{d, 0} }},
	{"ext_ifname2", "EXT2IF", func(d *draft) value { return &uplink{d, 1} }},
	{"ext_ifname6", "", func(d *draft) value { return (*device)(&d.WAN6) }},
	{"ext_ip", "UPNP_EXT_IP", func(d *draft) value { return (*ipv4)(&d.ExternalIP) }},
	{"ext_perform_stun", "", func(d *draft) value { return (*performSTUN)(&d.stun) }},
	{"ext_stun_host", "", func(d *draft) value { return (*stunHost)(&d.stun) }},
	{"ext_stun_port", "", func(d *draft) value { return &number[uint16]{&d.stun.port, 0, maxPort} }},
	{"enable_natpmp", "UPNP_ENABLE_NATPMP", func(d *draft) value { return (*yes)(&d.NATPMP) }},
	{"enable_pcp", "", func(d *draft) value { return &pcpSwitch{d} }},
	{"enable_upnp", "UPNP_ENABLE_UPNP", func(d *draft) value { return (*yes)(&d.UPnP) }},
	{"ipv6", "UPNP_IPV6", func(d *draft) value { return (*ipv6Switch)(d) }},
	{"pcp_allow_thirdparty", "UPNP_PCP_THIRD_PARTY", func(d *draft) value { return (*yes)(&d.ThirdParty) }},
	{"pcp_peer", "UPNP_PCP_PEER", func(d *draft) value { return (*yes)(&d.Peer) }},
	{"pcp_map", "UPNP_PCP_MAP", func(d *draft) value { return (*unlessNo)(&d.Map) }},
	{"pcp_lenient_nonce", "UPNP_PCP_LENIENT_NONCE", func(d *draft) value { return (*yes)(&d.Policy.LenientNonce) }},
	{"hidden", "UPNP_HIDDEN", func(d *draft) value { return (*yes)(&d.Hidden) }},
	{"outbound", "UPNP_OUTBOUND", func(d *draft) value { return (*outbound)(&d.Outbound) }},
	{"upstream", "UPNP_UPSTREAM", func(d *draft) value { return (*upstream)(&d.Upstream) }},
	{"hairpin", "UPNP_HAIRPIN", func(d *draft) value { return (*yes)(&d.Hairpin) }},
	{"secure_mode", "UPNP_SECURE_MODE", func(d *draft) value { return (*unlessNo)(&d.Policy.Secure) }},
	{externalPortsKey, "UPNP_EXT_PORTS", func(d *draft) value { return externalPorts{&d.Policy.ExternalPorts} }},
	{"min_lifetime", "UPNP_MIN_LIFETIME", func(d *draft) value { return lifetime(&d.Policy.MinLifetime) }},
	{"max_lifetime", "UPNP_MAX_LIFETIME", func(d *draft) value { return lifetime(&d.Policy.MaxLifetime) }},
	{"max_per_host", "UPNP_MAX_PER_HOST", func(d *draft) value { return count(&d.Policy.MaxPerHost) }},
	{"max_per_lan", "UPNP_MAX_PER_LAN", func(d *draft) value { return count(&d.Policy.MaxPerLAN) }},
	{"max_total", "UPNP_MAX_TOTAL", func(d *draft) value { return count(&d.Policy.MaxTotal) }},
	{"pcp_max_filters", "UPNP_PCP_MAX_FILTERS", func(d *draft) value { return count(&d.Policy.MaxFilters) }},
	{"http_port", "UPNP_HTTP_PORT", func(d *draft) value { return &number[uint16]{&d.HTTPPort, 0, maxPort} }},
	{"notify_interval", "UPNP_NOTIFY_INTERVAL", func(d *draft) value { return seconds(&d.NotifyInterval, time.Second) }},
	{"bitrate_up", "UPNP_BITRATE_UP", func(d *draft) value { return (*bitrate)(&d.BitrateUp) }},
	{"bitrate_down", "UPNP_BITRATE_DOWN", func(d *draft) value { return (*bitrate)(&d.BitrateDown) }},
	{"system_uptime", "", func(d *draft) value { return (*yes)(&d.SystemUptime) }},
	{"igd_version", "UPNP_IGD_VERSION", func(d *draft) value { return (*igdVersion)(&d.IGDVersion) }},
	{"uuid", "UUID", func(d *draft) value { return (*uuid)(&d.Device.UUID) }},
	{"friendly_name", "UPNP_FRIENDLY_NAME", func(d *draft) value { return (*text)(&d.Device.FriendlyName) }},
	{"manufacturer_name", "UPNP_MANUFACTURER", func(d *draft) value { return (*text)(&d.Device.Manufacturer) }},
	{"manufacturer_url", "UPNP_MANUFACTURER_URL", func(d *draft) value { return (*text)(&d.Device.ManufacturerURL) }},
	{"model_name", "UPNP_MODEL_NAME", func(d *draft) value { return (*text)(&d.Device.ModelName) }},
	{"model_description", "UPNP_MODEL_DESCRIPTION", func(d *draft) value { return (*text)(&d.Device.ModelDescription) }},
	{"model_url", "UPNP_MODEL_URL", func(d *draft) value { return (*text)(&d.Device.ModelURL) }},
	{"model_number", "UPNP_MODEL_NUMBER", func(d *draft) value { return (*text)(&d.Device.ModelNumber) }},
	{"serial", "UPNP_SERIAL", func(d *draft) value { return (*text)(&d.Device.Serial) }},
	{"presentation_url", "UPNP_PRESENTATION_URL", func(d *draft) value { return (*text)(&d.Device.PresentationURL) }},
	{"lease_file", "UPNP_LEASE_FILE", func(d *draft) value { return &path{&d.LeaseFile, d.machine} }},
	{"save_delay", "UPNP_SAVE_DELAY", func(d *draft) value { return &span{&d.SaveDelay, time.Millisecond, time.Millisecond, time.Minute} }},
	{"upnp_nat_chain", "", func(d *draft) value { return (*chain)(&d.NATChain) }},
	{"upnp_forward_chain", "", func(d *draft) value { return (*chain)(&d.ForwardChain) }},
	{"upnp_nat_postrouting_chain", "", func(d *draft) value { return (*chain)(&d.PostroutingChain) }},
	{"notify_cmd", "UPNP_NOTIFY_CMD", func(d *draft) value { return (*commandLine)(&d.NotifyCmd) }},
	{"withdraw_after", "UPNP_WITHDRAW_AFTER", func(d *draft) value { return seconds(&d.Withdraw, 0) }},
	{"dhcp_leases", "UPNP_DHCP_LEASES", func(d *draft) value { return &path{&d.DHCPLeases, d.machine} }},
	{"control_socket", "UPNP_CONTROL_SOCKET", func(d *draft) value { return &path{&d.ControlSocket, d.machine} }},
	{"sandbox", "UPNP_SANDBOX", func(d *draft) value { return (*unlessNo)(&d.Sandbox) }},
	{"pid_file", "", func(d *draft) value { return &path{&d.PIDFile, d.machine} }},
	{"bootid", "", func(d *draft) value { return &number[uint32]{&d.BootID, 0, 1<<31 - 1} }}, // UDA 1.1, section 1.2.2
}

const maxPort = 1<<16 - 1

// count is a maximum number; 0 means no limit.
func count(n *int) value { return &number[int]{n, 0, 1<<31 - 1} }

// lookup returns the setting with this key.
func lookup(key string) (setting, bool) {
	i := slices.IndexFunc(settings, func(s setting) bool { return s.key == key })
	if i < 0 {
		return setting{}, false
	}
	return settings[i], true
}
