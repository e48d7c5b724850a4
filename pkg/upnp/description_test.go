package upnp

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

const deviceNamespace = "urn:schemas-upnp-org:device-1-0"

func testGateway() *Gateway {
	return &Gateway{
		UUID:         UUIDOf("test"),
		FriendlyName: " A&B\n<x> ", Manufacturer: strings.Repeat("ü", 40), ManufacturerURL: "http://example.net/?a&b",
		ModelName: "model", ModelURL: "http://example.net/" + strings.Repeat("a", maxURL), Pinholes: true,
	}
}

// walk calls f for every element of that name below e.
func (e *element) walk(local string, f func(*element)) {
	if e.local == local {
		f(e)
	}
	for _, c := range e.children {
		c.walk(local, f)
	}
}

// texts returns the texts of all elements of that name.
func (e *element) texts(local string) (list []string) {
	e.walk(local, func(e *element) { list = append(list, e.text) })
	return list
}

func parse(t *testing.T, document []byte) *element {
	t.Helper()
	p := parser{rest: string(document), elements: -1 << 20, attributes: -1 << 20} // ours are larger than clients'
	if err := p.prolog(); err != nil {
		t.Fatal(err)
	}
	root, err := p.element()
	if err != nil {
		t.Fatalf("%v in %s", err, document)
	}
	return root
}

// TestDescription walks the descriptions: what they say of services is what
// the table says.
func TestDescription(t *testing.T) {
	g := testGateway()
	alone, both := func(v Version) *Description { return g.Description(v) }, func(v Version) *Description { return g.Descriptions(V1, V2)[v-V1] }
	for _, tt := range []struct {
		shown    func(Version) *Description
		version  Version
		pinholes bool
		services []string
	}{
		{alone, V1, true, []string{"Layer3Forwarding:1", "WANCommonInterfaceConfig:1", "WANIPConnection:1"}},
		{alone, V2, true, []string{"Layer3Forwarding:1", "WANCommonInterfaceConfig:1", "WANIPConnection:2", "WANIPv6FirewallControl:1"}},
		{alone, V2, false, []string{"Layer3Forwarding:1", "WANCommonInterfaceConfig:1", "WANIPConnection:2"}},
		{both, V1, true, []string{"Layer3Forwarding:1", "WANCommonInterfaceConfig:1", "WANIPConnection:1", "WANIPv6FirewallControl:1"}},
		{both, V1, false, []string{"Layer3Forwarding:1", "WANCommonInterfaceConfig:1", "WANIPConnection:1"}},
		{both, V2, true, []string{"Layer3Forwarding:1", "WANCommonInterfaceConfig:1", "WANIPConnection:2", "WANIPv6FirewallControl:1"}},
	} {
		g.Pinholes = tt.pinholes
		f := tt.shown(tt.version)
		root := parse(t, f.Append(nil, netip.MustParseAddr("192.168.1.1")))
		if root.space != deviceNamespace || root.attributes[0] != (attribute{"", "configId", fmt.Sprint(f.ConfigID)}) {
			t.Errorf("root %s %v", root.space, root.attributes)
		}
		var devices []string
		for _, name := range []string{"InternetGatewayDevice", "WANDevice", "WANConnectionDevice"} {
			devices = append(devices, fmt.Sprintf("urn:schemas-upnp-org:device:%s:%d", name, tt.version))
		}
		if got := root.texts("deviceType"); !slices.Equal(got, devices) {
			t.Errorf("version %d: devices %v", tt.version, got)
		}
		for i, got := range root.texts("serviceType") {
			if want := "urn:schemas-upnp-org:service:" + tt.services[i]; got != want {
				t.Errorf("version %d: service %s, want %s", tt.version, got, want)
			}
		}
		if got := len(root.texts("SCPDURL")); got != len(tt.services) {
			t.Errorf("version %d: %d services, want %d", tt.version, got, len(tt.services))
		}
		if udns := root.texts("UDN"); udns[0] != "uuid:"+g.UUID.String() || udns[1] == udns[0] || udns[2] == udns[1] || udns[2] == udns[0] {
			t.Errorf("UDNs %v", udns)
		}
	}
}

// TestURLs wants the URLs that clients of older gateways have kept on the description of
// version 1, and others on that of version 2 where the answers differ.
func TestURLs(t *testing.T) {
	descriptions := testGateway().Descriptions(V1, V2)
	for i, want := range []string{
		"/ctl/L3F /evt/L3F /ctl/CmnIfCfg /evt/CmnIfCfg /ctl/IPConn /evt/IPConn /ctl/IP6FCtl /evt/IP6FCtl",
		"/ctl/L3F2 /evt/L3F2 /ctl/CmnIfCfg /evt/CmnIfCfg /ctl/IPConn /evt/IPConn2 /ctl/IP6FCtl /evt/IP6FCtl",
	} {
		root := parse(t, descriptions[i].Append(nil, netip.Addr{}))
		var urls []string
		root.walk("service", func(e *element) { urls = append(urls, e.texts("controlURL")[0], e.texts("eventSubURL")[0]) })
		if got := strings.Join(urls, " "); got != want {
			t.Errorf("version %d: %s, want %s", descriptions[i].Version, got, want)
		}
	}
}

func TestDescriptionTexts(t *testing.T) {
	g := testGateway()
	f := g.Description(V1)
	document := f.Append(nil, netip.MustParseAddr("fe80::1%eth0"))
	root := parse(t, document)
	for name, want := range map[string]string{
		"friendlyName":    "A&B <x>",
		"manufacturer":    strings.Repeat("ü", 31),
		"manufacturerURL": "http://example.net/?a&b",
		"presentationURL": "http://[fe80::1]/",
	} {
		if got := root.texts(name); got[0] != want {
			t.Errorf("%s %q, want %q", name, got[0], want)
		}
	}
	for _, name := range []string{"modelURL", "serialNumber", "modelDescription", "URLBase"} {
		if got := root.texts(name); got != nil {
			t.Errorf("%s %q, want none", name, got)
		}
	}
	g.PresentationURL = "http://router.example/"
	if got := parse(t, g.Description(V1).Append(nil, netip.Addr{})).texts("presentationURL"); got[0] != g.PresentationURL {
		t.Errorf("presentationURL %v", got)
	}
	if len(document) >= 8<<10 {
		t.Errorf("%d octets, small clients have 8 KiB", len(document))
	}
}

// TestConfigID wants a number that stands for the documents.
func TestConfigID(t *testing.T) {
	g := testGateway()
	one, two := g.Description(V1).ConfigID, g.Description(V2).ConfigID
	if one != g.Description(V1).ConfigID {
		t.Error("the same documents have different numbers")
	}
	if beside := g.Descriptions(V1, V2); beside[0].ConfigID == one || beside[1].ConfigID != two {
		t.Errorf("numbers %d and %d side by side, %d and %d alone", beside[0].ConfigID, beside[1].ConfigID, one, two)
	}
	g.FriendlyName = "other"
	if other := g.Description(V1).ConfigID; one == two || one == other || max(one, two, other) >= 1<<24 {
		t.Errorf("numbers %d, %d, %d", one, two, other)
	}
}

// allServices returns what the gateway has at most.
func allServices() (all []*Service) {
	for _, d := range testGateway().Description(V2).Devices {
		all = append(all, d.Services...)
	}
	return all
}

// TestSCPD compares the service descriptions with the table, both ways: what
// is described can be called with these arguments, and nothing else can.
func TestSCPD(t *testing.T) {
	for _, s := range allServices() {
		for v := V1; v <= s.Version; v++ {
			document := s.AppendSCPD(nil, v)
			root := parse(t, document)
			variables := make(map[string]string)
			root.walk("stateVariable", func(e *element) {
				name := e.texts("name")[0]
				variables[name] = e.texts("dataType")[0]
				if !s.Has(name, v) {
					t.Errorf("%s:%d has no variable %s", s.Name, v, name)
				}
				if e.attributes[0].value == "yes" != slices.Contains(s.Evented(v), name) {
					t.Errorf("%s:%d: %s is evented: %s", s.Name, v, name, e.attributes[0].value)
				}
			})
			described := 0
			root.walk("action", func(e *element) {
				described++
				checkAction(t, s, v, e, variables)
			})
			for _, a := range s.Actions {
				if v.has(a.Only) {
					described--
				}
			}
			if described != 0 || len(document) >= 32<<10 {
				t.Errorf("%s:%d: %d actions too many, %d octets", s.Name, v, described, len(document))
			}
		}
	}
}

// checkAction calls an action with the arguments that its description has.
func checkAction(t *testing.T, s *Service, v Version, described *element, variables map[string]string) {
	name := described.texts("name")[0]
	var in strings.Builder
	var out []string
	described.walk("argument", func(e *element) {
		argument, variable := e.texts("name")[0], e.texts("relatedStateVariable")[0]
		sample := map[string]string{"string": "TCP", "ui2": "1", "ui4": "1", "boolean": "1"}[variables[variable]]
		if variable == "ConnectionType" {
			sample = "IP_Routed"
		}
		if sample == "" {
			t.Errorf("%s: argument %s is of variable %s, which is not described", name, argument, variable)
		}
		if e.texts("direction")[0] == "in" {
			fmt.Fprintf(&in, "<%s>%s</%s>", argument, sample, argument)
		} else {
			out = append(out, argument)
		}
	})
	c, err := s.ParseCall(s.Type(v)+"#"+name, []byte(envelope(s.Type(v), name, in.String())), V2)
	if err != nil {
		t.Errorf("%s:%d: %s with its arguments: %v", s.Name, v, name, err)
		return
	}
	if len(c.In)+len(out) != len(described.texts("argument")) {
		t.Errorf("%s:%d: %s has %d arguments in", s.Name, v, name, len(c.In))
	}
	answer := parse(t, c.AppendReply(nil, make([]string, len(c.Out))...)).children[0].children[0]
	for i, e := range answer.children {
		if i >= len(out) || e.local != out[i] {
			t.Errorf("%s:%d: %s answers %s, described are %v", s.Name, v, name, e.local, out)
		}
	}
}

// TestDefaults wants default values and ranges that the types have.
func TestDefaults(t *testing.T) {
	for _, s := range allServices() {
		for _, v := range s.Variables {
			if _, err := v.parse(v.Default); v.Default != "" && err != nil {
				t.Errorf("%s: default %q: %v", v.Name, v.Default, err)
			}
			if v.Max != 0 && (v.Type != UI2 && v.Type != UI4 || v.Min > v.Max || v.Type == UI2 && v.Max > 65535) {
				t.Errorf("%s: %s from %d to %d", v.Name, v.Type, v.Min, v.Max)
			}
		}
	}
}

func TestCheckConnectionService(t *testing.T) {
	f := testGateway().Description(V2)
	own := f.ConnectionService()
	udn, service, _ := strings.Cut(own, ",")
	for _, tt := range []struct {
		value string
		want  error
	}{
		{own, nil},
		{strings.ToUpper(udn[5:41]), InvalidArgs},
		{strings.Replace(own, ":2,", ":1,", 1), nil},
		{"uuid:" + strings.ToUpper(udn[5:41]) + udn[41:] + "," + service, nil},
		{"", InvalidArgs},
		{udn, InvalidArgs},
		{"urn:x," + service, InvalidArgs},
		{strings.Replace(own, ":2,", ":3,", 1), InvalidDeviceUUID},
		{"uuid:" + UUIDOf("other").String() + udn[41:] + "," + service, InvalidDeviceUUID},
		{"uuid:," + service, InvalidDeviceUUID},
		{udn + ",urn:upnp-org:serviceId:WANPPPConn1", InvalidServiceID},
	} {
		if got := f.CheckConnectionService(tt.value); got != tt.want {
			t.Errorf("%q: %v, want %v", tt.value, got, tt.want)
		}
	}
}

func TestNeedsVersion1(t *testing.T) {
	for agent, want := range map[string]bool{
		"Microsoft-Windows/10.0 UPnP/1.0": true, "MICROSOFT-Windows": true, "FDSSDP": true,
		"": false, "Transmission/4 UPnP/1.1 MiniUPnPc/2": false,
	} {
		if got := NeedsVersion1(agent); got != want {
			t.Errorf("%q: %v", agent, got)
		}
	}
}

func TestUUID(t *testing.T) {
	const text = "3d3cec3a-8cf0-11e0-98ee-001a6bd2d0ff"
	for _, in := range []string{text, "uuid:" + text, strings.ToUpper(text)} {
		if u, err := ParseUUID(in); err != nil || u.String() != text {
			t.Errorf("%q: %v, %v", in, u, err)
		}
	}
	for _, in := range []string{"", text[1:], text + "0", strings.ReplaceAll(text, "-", ""), "x" + text[1:], strings.Replace(text, "-", "0", 1)} {
		if u, err := ParseUUID(in); err == nil {
			t.Errorf("%q: %v", in, u)
		}
	}
	u, _ := ParseUUID(text)
	if one, two := u.embedded(1).String(), u.embedded(2).String(); one != text[:34]+"00" || two != text[:34]+"01" {
		t.Errorf("embedded %s, %s", one, two)
	}
	if a, b := UUIDOf("02:00:00:00:00:01"), UUIDOf("02:00:00:00:00:02"); a == b || a != UUIDOf("02:00:00:00:00:01") || a[6]>>4 != 5 || a[8]>>6 != 2 {
		t.Errorf("UUIDs of names %v, %v", a, b)
	}
}
