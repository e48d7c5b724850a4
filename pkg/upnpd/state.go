package upnpd

import (
	"math"
	"strconv"
	"sync"
	"time"

	"igdd/pkg/upnp"
)

// routed is the connection type of a router.
const routed = "IP_Routed"

// state returns the values of the gateway's state variables at one moment.
type state struct {
	*Server
	uplink func() Uplink // called at most once
}

func (s *Server) state() state { return state{s, sync.OnceValue(s.opts.Uplink)} }

// connected reports whether the uplink works as far as the gateway can see.
func (s state) connected() bool {
	u := s.uplink()
	return u.Up && !u.Since.IsZero()
}

// value returns the value of a state variable for clients with the description of
// version v. Variables that only give the type of an argument have no value.
func (s state) value(name string, v upnp.Version) (value string, ok bool) {
	switch name {
	case "DefaultConnectionService":
		return s.description(v).ConnectionService(), true

	case "WANAccessType":
		return "Ethernet", true
	case "Layer1UpstreamMaxBitRate":
		return bitRate(s.opts.Traffic().UpstreamRate), true
	case "Layer1DownstreamMaxBitRate":
		return bitRate(s.opts.Traffic().DownstreamRate), true
	case "PhysicalLinkStatus":
		return s.linkStatus(), true
	case "TotalBytesSent":
		return counter(s.opts.Traffic().BytesSent), true
	case "TotalBytesReceived":
		return counter(s.opts.Traffic().BytesReceived), true
	case "TotalPacketsSent":
		return counter(s.opts.Traffic().PacketsSent), true
	case "TotalPacketsReceived":
		return counter(s.opts.Traffic().PacketsReceived), true

	case "ConnectionType", "PossibleConnectionTypes":
		return routed, true
	case "ConnectionStatus":
		return s.connectionStatus(), true
	case "Uptime":
		return s.connectedFor(), true
	case "LastConnectionError":
		return s.lastError(), true
	case "RSIPAvailable":
		return upnp.FormatBoolean(false), true
	case "NATEnabled":
		return upnp.FormatBoolean(true), true
	case "ExternalIPAddress":
		return s.externalAddress(), true
	case "PortMappingNumberOfEntries":
		mappings, _ := s.opts.Table.Count()
		return strconv.Itoa(min(mappings, math.MaxUint16)), true
	case "SystemUpdateID":
		_, updates := s.opts.Table.Count()
		return strconv.FormatUint(uint64(updates), 10), true

	case "FirewallEnabled", "InboundPinholeAllowed":
		return upnp.FormatBoolean(true), true
	}
	return "", false
}

func (s state) linkStatus() string {
	if s.uplink().Up {
		return "Up"
	}
	return "Down"
}

func (s state) connectionStatus() string {
	if s.connected() {
		return "Connected"
	}
	return "Disconnected"
}

// connectedFor returns Uptime, in seconds; 0 unless connected.
func (s state) connectedFor() string {
	if !s.connected() {
		return "0"
	}
	return counter(uint64(max(0, time.Since(s.uplink().Since)) / time.Second))
}

// lastError returns why the uplink is not connected.
func (s state) lastError() string {
	switch {
	case s.connected():
		return "ERROR_NONE"
	case !s.uplink().Up:
		return "ERROR_NO_CARRIER"
	}
	return "ERROR_IP_CONFIGURATION"
}

// externalAddress returns the address, "" if there is none: clients take any text
// for an address.
func (s state) externalAddress() string {
	if a := s.opts.Table.External(); a.IsValid() {
		return a.String()
	}
	return ""
}

// bitRate formats a rate in bit/s; the highest that fits stands for all above.
func bitRate(r uint64) string { return strconv.FormatUint(min(r, math.MaxUint32), 10) }

// counter formats a counter as ui4, which wraps around (WANCommonInterfaceConfig:1,
// section 2.2.8).
func counter(n uint64) string { return strconv.FormatUint(uint64(uint32(n)), 10) }

// decimal16 formats a port or a UniqueID.
func decimal16(n uint16) string { return strconv.Itoa(int(n)) }
