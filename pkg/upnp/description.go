package upnp

import (
	"hash/fnv"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Gateway is the administrator's configuration of the gateway. Its texts may have any
// characters; too long ones are truncated (UDA 1.1, section 2.3).
type Gateway struct {
	UUID             UUID // of the root device
	FriendlyName     string
	Manufacturer     string
	ManufacturerURL  string
	ModelDescription string
	ModelName        string
	ModelNumber      string
	ModelURL         string
	SerialNumber     string
	// PresentationURL is the web page of the gateway; "" means the root page
	// at the router's address that a client uses.
	PresentationURL string
	// Pinholes offers the IPv6 firewall control wherever version 2 is offered.
	Pinholes bool
}

// Maximum lengths in bytes, for the buffers of old clients; the standard counts
// characters (section 2.3, device description).
const (
	maxName        = 63 // friendlyName, manufacturer and serialNumber
	maxModel       = 31 // modelName and modelNumber
	maxDescription = 127
	maxURL         = 127
)

// Description is one of the descriptions of the gateway.
type Description struct {
	Version  Version
	ConfigID uint32   // changes with the content of the documents; below 2^24
	Devices  []Device // the root first, each the parent of the next
	gateway  *Gateway
}

// Device is a device of a description.
type Device struct {
	Name     string // InternetGatewayDevice
	Version  Version
	UUID     UUID
	Services []*Service
}

// Descriptions returns the descriptions of the given versions. Beside version 2,
// version 1 has the IPv6 firewall control too: many clients use only the first
// description that they find.
func (g *Gateway) Descriptions(versions ...Version) (descriptions []*Description) {
	pinholes := g.Pinholes && slices.Contains(versions, V2)
	for _, v := range versions {
		descriptions = append(descriptions, g.description(v, pinholes))
	}
	return descriptions
}

// Description returns the description of version v alone.
func (g *Gateway) Description(v Version) *Description { return g.Descriptions(v)[0] }

func (g *Gateway) description(v Version, pinholes bool) *Description {
	connection := []*Service{wanIPConnection}
	if pinholes {
		connection = append(connection, wanIPv6FirewallControl)
	}
	f := &Description{Version: v, gateway: g, Devices: []Device{
		{"InternetGatewayDevice", v, g.UUID, []*Service{layer3Forwarding}},
		{"WANDevice", v, g.UUID.embedded(1), []*Service{wanCommonInterfaceConfig}},
		{"WANConnectionDevice", v, g.UUID.embedded(2), connection},
	}}
	f.ConfigID = f.hash()
	return f
}

// hash returns a checksum of the content of all documents.
func (f *Description) hash() uint32 {
	h := fnv.New32a()
	h.Write(f.Append(nil, netip.IPv4Unspecified()))
	for _, d := range f.Devices {
		for _, s := range d.Services {
			h.Write(s.AppendSCPD(nil, f.Version))
		}
	}
	return h.Sum32()>>24 ^ h.Sum32()&(1<<24-1)
}

// Path returns the path of the description document.
func (f *Description) Path() string { return versionedPath("/rootDesc", f.Version) }

// Append appends the device description for a client that uses the router's
// address local.
func (f *Description) Append(b []byte, local netip.Addr) []byte {
	b = append(b, `<?xml version="1.0"?>`+"\n"+`<root xmlns="urn:schemas-upnp-org:device-1-0" configId="`...)
	b = strconv.AppendUint(b, uint64(f.ConfigID), 10)
	b = append(b, `"><specVersion><major>1</major><minor>1</minor></specVersion>`...)
	b = f.appendDevices(b, f.gateway.FriendlyName, f.Devices, f.gateway.presentationURL(local))
	return append(b, "</root>\n"...)
}

// appendDevices appends the first of some devices with the others nested in it. The
// order of elements is the standard's: some clients require it.
func (f *Description) appendDevices(b []byte, friendlyName string, devices []Device, presentationURL string) []byte {
	d, g := devices[0], f.gateway
	b = appendStart(b, "device")
	b = appendElement(b, "deviceType", d.Type())
	b = appendElement(b, "friendlyName", label(friendlyName, maxName))
	b = appendElement(b, "manufacturer", label(g.Manufacturer, maxName))
	b = appendURL(b, "manufacturerURL", g.ManufacturerURL)
	b = appendOptional(b, "modelDescription", label(g.ModelDescription, maxDescription))
	b = appendElement(b, "modelName", label(g.ModelName, maxModel))
	b = appendOptional(b, "modelNumber", label(g.ModelNumber, maxModel))
	b = appendURL(b, "modelURL", g.ModelURL)
	b = appendOptional(b, "serialNumber", label(g.SerialNumber, maxName))
	b = appendElement(b, "UDN", "uuid:"+d.UUID.String())
	b = appendStart(b, "serviceList")
	for _, s := range d.Services {
		b = s.appendReference(b, f.Version)
	}
	b = appendEnd(b, "serviceList")
	if inside := devices[1:]; len(inside) > 0 {
		b = appendStart(b, "deviceList")
		b = f.appendDevices(b, inside[0].Name, inside, "")
		b = appendEnd(b, "deviceList")
	}
	b = appendURL(b, "presentationURL", presentationURL)
	return appendEnd(b, "device")
}

// appendReference appends the reference to a service. Paths are absolute, short, and need
// no escaping: some clients have 128 bytes for a URL, and decode no entities.
func (s *Service) appendReference(b []byte, v Version) []byte {
	b = appendStart(b, "service")
	b = appendElement(b, "serviceType", s.Type(v))
	b = appendElement(b, "serviceId", "urn:upnp-org:serviceId:"+s.ID)
	b = appendElement(b, "SCPDURL", s.SCPDPath(v))
	b = appendElement(b, "controlURL", s.ControlPath(v))
	b = appendElement(b, "eventSubURL", s.EventPath(v))
	return appendEnd(b, "service")
}

func appendOptional(b []byte, name, text string) []byte {
	if text == "" {
		return b
	}
	return appendElement(b, name, text)
}

// appendURL appends a URL, unless it is invalid or too long: a truncated one would lead
// elsewhere.
func appendURL(b []byte, name, url string) []byte {
	for i := range len(url) {
		if url[i] <= ' ' || url[i] >= 0x7f {
			return b
		}
	}
	if len(url) > maxURL {
		return b
	}
	return appendOptional(b, name, url)
}

// presentationURL returns the URL for clients that use the router's address local.
func (g *Gateway) presentationURL(local netip.Addr) string {
	if g.PresentationURL != "" {
		return g.PresentationURL
	}
	host := local.WithZone("").String()
	if local.Is6() {
		host = "[" + host + "]"
	}
	return "http://" + host + "/"
}

// Type returns the device type.
func (d Device) Type() string {
	return "urn:schemas-upnp-org:device:" + d.Name + ":" + string('0'+rune(d.Version))
}

// ConnectionService returns the value of DefaultConnectionService: the
// WANConnectionDevice and its service (IGD:1 Layer3Forwarding, 2.2.1).
func (f *Description) ConnectionService() string {
	d := f.Devices[len(f.Devices)-1]
	return "uuid:" + d.UUID.String() + ":" + d.Name + ":" + string('0'+rune(d.Version)) +
		",urn:upnp-org:serviceId:" + wanIPConnection.ID
}

// CheckConnectionService reports as a Fault what is wrong with a value that a
// client sets DefaultConnectionService to; nil if it names the one service,
// by either version of the device.
func (f *Description) CheckConnectionService(value string) error {
	device, service, ok := strings.Cut(strings.TrimSpace(value), ",")
	own, ownService, _ := strings.Cut(f.ConnectionService(), ",")
	last := len(own) - 1 // the version
	switch {
	case !ok || !strings.HasPrefix(device, "uuid:"):
		return InvalidArgs
	case len(device) != len(own) || !strings.EqualFold(device[:last], own[:last]):
		return InvalidDeviceUUID
	case device[last] != '1' && device[last] != '2':
		return InvalidDeviceUUID
	case service != ownService:
		return InvalidServiceID
	}
	return nil
}

// NeedsVersion1 reports whether a client with this User-Agent fails on version 2:
// Windows, the Xbox and their service discovery.
func NeedsVersion1(userAgent string) bool {
	agent := strings.ToLower(userAgent)
	return strings.Contains(agent, "microsoft") || strings.Contains(agent, "fdssdp")
}
