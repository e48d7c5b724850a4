package upnp

import "slices"

// wanIPConnection is WANIPConnection:1 and :2. Optional actions that a router
// cannot honour are left out: RequestTermination and the disconnect times.
// WANPPPConnection:1 is the same to clients that know a PPP uplink; some call
// it without having seen it.
var wanIPConnection = &Service{
	Name: "WANIPConnection", ID: "WANIPConn1", Version: 2,
	scpd: "/WANIPCn", control: "/ctl/IPConn", event: "/evt/IPConn",
	eventDiffers: true, // version 1 has no SystemUpdateID
	aliases:      []string{"urn:schemas-upnp-org:service:WANPPPConnection:1"},
	Actions: []Action{
		{Name: "SetConnectionType", In: []Argument{{"NewConnectionType", connectionType}}},
		{Name: "GetConnectionTypeInfo", Out: []Argument{
			{"NewConnectionType", connectionType},
			{"NewPossibleConnectionTypes", possibleConnectionTypes},
		}},
		{Name: "RequestConnection"},
		{Name: "ForceTermination"},
		{Name: "GetStatusInfo", Out: []Argument{
			{"NewConnectionStatus", connectionStatus},
			{"NewLastConnectionError", lastConnectionError},
			{"NewUptime", uptime},
		}},
		{Name: "GetNATRSIPStatus", Out: []Argument{{"NewRSIPAvailable", rsipAvailable}, {"NewNATEnabled", natEnabled}}},
		{Name: "GetGenericPortMappingEntry", In: []Argument{{"NewPortMappingIndex", mappingIndex}}, Out: mapping},
		{Name: "GetSpecificPortMappingEntry", In: mappingKey, Out: mappingValue},
		{Name: "AddPortMapping", In: mapping},
		{Name: "DeletePortMapping", In: mappingKey},
		{Name: "GetExternalIPAddress", Out: []Argument{{"NewExternalIPAddress", externalIPAddress}}},
		{Name: "DeletePortMappingRange", In: mappingRange, Only: V2},
		{Name: "GetListOfPortMappings", In: slices.Concat(mappingRange, []Argument{{"NewNumberOfPorts", numberOfEntries}}),
			Out: []Argument{{"NewPortListing", portListing}}, Only: V2},
		{Name: "AddAnyPortMapping", In: mapping, Out: []Argument{{"NewReservedPort", externalPort}}, Only: V2},
	},
	Variables: []*Variable{
		connectionType, possibleConnectionTypes, connectionStatus, uptime, lastConnectionError,
		rsipAvailable, natEnabled, externalIPAddress, numberOfEntries, mappingEnabled,
		leaseDuration1, leaseDuration, remoteHost, externalPort, internalPort, mappingProtocol,
		internalClient, mappingDescription, systemUpdateID, manage, portListing,
	},
}

// The arguments that several actions share.
var (
	mappingKey = []Argument{
		{"NewRemoteHost", remoteHost},
		{"NewExternalPort", externalPort},
		{"NewProtocol", mappingProtocol},
	}
	mappingValue = []Argument{
		{"NewInternalPort", internalPort},
		{"NewInternalClient", internalClient},
		{"NewEnabled", mappingEnabled},
		{"NewPortMappingDescription", mappingDescription},
		{"NewLeaseDuration", leaseDuration},
	}
	mapping      = slices.Concat(mappingKey, mappingValue)
	mappingRange = []Argument{
		{"NewStartPort", externalPort},
		{"NewEndPort", externalPort},
		{"NewProtocol", mappingProtocol},
		{"NewManage", manage},
	}
)

var connectionTypes = []string{"Unconfigured", "IP_Routed", "IP_Bridged"}

var (
	connectionType          = &Variable{Name: "ConnectionType", Type: String, Default: "IP_Routed", Allowed: connectionTypes}
	possibleConnectionTypes = &Variable{Name: "PossibleConnectionTypes", Type: String, Evented: true, Allowed: connectionTypes}
	connectionStatus        = &Variable{Name: "ConnectionStatus", Type: String, Evented: true, Allowed: []string{
		"Unconfigured", "Connecting", "Connected", "PendingDisconnect", "Disconnecting", "Disconnected"}}
	uptime              = &Variable{Name: "Uptime", Type: UI4}
	lastConnectionError = &Variable{Name: "LastConnectionError", Type: String, Default: "ERROR_NONE", Allowed: []string{
		"ERROR_NONE", "ERROR_COMMAND_ABORTED", "ERROR_NOT_ENABLED_FOR_INTERNET", "ERROR_USER_DISCONNECT", "ERROR_ISP_DISCONNECT",
		"ERROR_IDLE_DISCONNECT", "ERROR_FORCED_DISCONNECT", "ERROR_NO_CARRIER", "ERROR_IP_CONFIGURATION", "ERROR_UNKNOWN"}}
	rsipAvailable     = &Variable{Name: "RSIPAvailable", Type: Boolean, Default: "0"}
	natEnabled        = &Variable{Name: "NATEnabled", Type: Boolean, Default: "1"}
	externalIPAddress = &Variable{Name: "ExternalIPAddress", Type: String, Evented: true}
	numberOfEntries   = &Variable{Name: "PortMappingNumberOfEntries", Type: UI2, Evented: true}
	mappingIndex      = &Variable{Name: numberOfEntries.Name, Type: UI2, beyond: NoSuchIndex}
	mappingEnabled    = &Variable{Name: "PortMappingEnabled", Type: Boolean, optional: true, omitted: "1"}
	// Version 1 lets a mapping last for ever and for any time (IGD:1, 2.2.16).
	leaseDuration1 = &Variable{Name: "PortMappingLeaseDuration", Type: UI4, Only: V1}
	leaseDuration  = &Variable{Name: "PortMappingLeaseDuration", Type: UI4, Default: "3600", Max: 604800, Only: V2,
		optional: true, omitted: "0"}
	// The wildcard is "". "*" is that of ports in version 1, 0.0.0.0 that of TR-064.
	remoteHost         = &Variable{Name: "RemoteHost", Type: String, optional: true, wildcard: []string{"*", "0.0.0.0"}}
	externalPort       = &Variable{Name: "ExternalPort", Type: UI2}
	internalPort       = &Variable{Name: "InternalPort", Type: UI2, Min: 1, Max: 65535}
	mappingProtocol    = &Variable{Name: "PortMappingProtocol", Type: String, Allowed: []string{"TCP", "UDP"}}
	internalClient     = &Variable{Name: "InternalClient", Type: String}
	mappingDescription = &Variable{Name: "PortMappingDescription", Type: String, optional: true}
	systemUpdateID     = &Variable{Name: "SystemUpdateID", Type: UI4, Evented: true, Only: V2}
	manage             = &Variable{Name: "A_ARG_TYPE_Manage", Type: Boolean, Only: V2}
	portListing        = &Variable{Name: "A_ARG_TYPE_PortListing", Type: String, Only: V2}
)
