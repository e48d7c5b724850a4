package upnp

// layer3Forwarding is Layer3Forwarding:1. Here and below the paths are those of
// miniupnpd, which clients remember.
var layer3Forwarding = &Service{
	Name: "Layer3Forwarding", ID: "L3Forwarding1", Version: 1,
	scpd: "/L3F", control: "/ctl/L3F", event: "/evt/L3F",
	controlDiffers: true, eventDiffers: true, // DefaultConnectionService names a device by the type in the description
	Actions: []Action{
		{Name: "SetDefaultConnectionService", In: []Argument{{"NewDefaultConnectionService", defaultConnectionService}}},
		{Name: "GetDefaultConnectionService", Out: []Argument{{"NewDefaultConnectionService", defaultConnectionService}}},
	},
	Variables: []*Variable{defaultConnectionService},
}

var defaultConnectionService = &Variable{Name: "DefaultConnectionService", Type: String, Evented: true}

// wanCommonInterfaceConfig is WANCommonInterfaceConfig:1. SetEnabledForInternet,
// by which a client could disconnect the uplink, is omitted.
var wanCommonInterfaceConfig = &Service{
	Name: "WANCommonInterfaceConfig", ID: "WANCommonIFC1", Version: 1,
	scpd: "/WANCfg", control: "/ctl/CmnIfCfg", event: "/evt/CmnIfCfg",
	Actions: []Action{
		{Name: "GetCommonLinkProperties", Out: []Argument{
			{"NewWANAccessType", wanAccessType},
			{"NewLayer1UpstreamMaxBitRate", upstreamMaxBitRate},
			{"NewLayer1DownstreamMaxBitRate", downstreamMaxBitRate},
			{"NewPhysicalLinkStatus", physicalLinkStatus},
		}},
		{Name: "GetTotalBytesSent", Out: []Argument{{"NewTotalBytesSent", totalBytesSent}}},
		{Name: "GetTotalBytesReceived", Out: []Argument{{"NewTotalBytesReceived", totalBytesReceived}}},
		{Name: "GetTotalPacketsSent", Out: []Argument{{"NewTotalPacketsSent", totalPacketsSent}}},
		{Name: "GetTotalPacketsReceived", Out: []Argument{{"NewTotalPacketsReceived", totalPacketsReceived}}},
	},
	Variables: []*Variable{
		wanAccessType, upstreamMaxBitRate, downstreamMaxBitRate, physicalLinkStatus,
		totalBytesSent, totalBytesReceived, totalPacketsSent, totalPacketsReceived,
	},
}

var (
	wanAccessType        = &Variable{Name: "WANAccessType", Type: String, Allowed: []string{"DSL", "POTS", "Cable", "Ethernet"}}
	upstreamMaxBitRate   = &Variable{Name: "Layer1UpstreamMaxBitRate", Type: UI4}
	downstreamMaxBitRate = &Variable{Name: "Layer1DownstreamMaxBitRate", Type: UI4}
	physicalLinkStatus   = &Variable{Name: "PhysicalLinkStatus", Type: String, Evented: true,
		Allowed: []string{"Up", "Down", "Initializing", "Unavailable"}}
	totalBytesSent       = &Variable{Name: "TotalBytesSent", Type: UI4}
	totalBytesReceived   = &Variable{Name: "TotalBytesReceived", Type: UI4}
	totalPacketsSent     = &Variable{Name: "TotalPacketsSent", Type: UI4}
	totalPacketsReceived = &Variable{Name: "TotalPacketsReceived", Type: UI4}
)

// wanIPv6FirewallControl is WANIPv6FirewallControl:1, which came with version 2
// of the gateway. GetOutboundPinholeTimeout is omitted: the firewall has
// no such timeout for a flow that has not begun.
var wanIPv6FirewallControl = &Service{
	Name: "WANIPv6FirewallControl", ID: "WANIPv6Firewall1", Version: 1,
	scpd: "/WANIP6FC", control: "/ctl/IP6FCtl", event: "/evt/IP6FCtl",
	Actions: []Action{
		{Name: "GetFirewallStatus", Out: []Argument{
			{"FirewallEnabled", firewallEnabled},
			{"InboundPinholeAllowed", inboundPinholeAllowed},
		}},
		{Name: "AddPinhole", In: []Argument{
			{"RemoteHost", pinholeRemote},
			{"RemotePort", pinholePort},
			{"InternalClient", pinholeAddress},
			{"InternalPort", pinholePort},
			{"Protocol", pinholeProtocol},
			{"LeaseTime", pinholeLease},
		}, Out: []Argument{{"UniqueID", pinholeID}}},
		{Name: "UpdatePinhole", In: []Argument{{"UniqueID", pinholeID}, {"NewLeaseTime", pinholeLease}}},
		{Name: "DeletePinhole", In: []Argument{{"UniqueID", pinholeID}}},
		{Name: "GetPinholePackets", In: []Argument{{"UniqueID", pinholeID}}, Out: []Argument{{"PinholePackets", pinholePackets}}},
		{Name: "CheckPinholeWorking", In: []Argument{{"UniqueID", pinholeID}}, Out: []Argument{{"IsWorking", pinholeBoolean}}},
	},
	Variables: []*Variable{
		firewallEnabled, inboundPinholeAllowed, pinholeAddress, pinholePort, pinholeProtocol,
		pinholeID, pinholeLease, pinholePackets, pinholeBoolean,
	},
}

var (
	firewallEnabled       = &Variable{Name: "FirewallEnabled", Type: Boolean, Evented: true}
	inboundPinholeAllowed = &Variable{Name: "InboundPinholeAllowed", Type: Boolean, Evented: true}
	pinholeAddress        = &Variable{Name: "A_ARG_TYPE_IPv6Address", Type: String}
	pinholeRemote         = &Variable{Name: "A_ARG_TYPE_IPv6Address", Type: String, wildcard: []string{"*"}}
	pinholePort           = &Variable{Name: "A_ARG_TYPE_Port", Type: UI2}
	pinholeProtocol       = &Variable{Name: "A_ARG_TYPE_Protocol", Type: UI2, words: map[string]uint32{"TCP": 6, "UDP": 17}}
	pinholeID             = &Variable{Name: "A_ARG_TYPE_UniqueID", Type: UI2}
	pinholeLease          = &Variable{Name: "A_ARG_TYPE_LeaseTime", Type: UI4, Min: 1, Max: 86400}
	pinholePackets        = &Variable{Name: "A_ARG_TYPE_PinholePackets", Type: UI4}
	pinholeBoolean        = &Variable{Name: "A_ARG_TYPE_Boolean", Type: Boolean}
)
