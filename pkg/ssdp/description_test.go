package ssdp_test

import (
	"slices"
	"testing"

	"igdd/pkg/ssdp"
)

const (
	uuidRoot       = "11111111-2222-3333-4444-5555555555aa"
	uuidWAN        = "11111111-2222-3333-4444-5555555555ab"
	uuidConnection = "11111111-2222-3333-4444-5555555555ac"

	deviceURN  = "urn:schemas-upnp-org:device:"
	serviceURN = "urn:schemas-upnp-org:service:"
)

// The two descriptions of a gateway with IPv6.
var (
	description1 = &ssdp.Description{Path: "/rootDesc.xml", ConfigID: 1111, Devices: []ssdp.Device{
		{UUID: uuidRoot, Type: deviceURN + "InternetGatewayDevice:1", Services: []string{serviceURN + "Layer3Forwarding:1"}},
		{UUID: uuidWAN, Type: deviceURN + "WANDevice:1", Services: []string{serviceURN + "WANCommonInterfaceConfig:1"}},
		{UUID: uuidConnection, Type: deviceURN + "WANConnectionDevice:1", Services: []string{serviceURN + "WANIPConnection:1"}},
	}}
	description2 = &ssdp.Description{Path: "/rootDesc2.xml", ConfigID: 2222, Devices: []ssdp.Device{
		{UUID: uuidRoot, Type: deviceURN + "InternetGatewayDevice:2", Services: []string{serviceURN + "Layer3Forwarding:1"}},
		{UUID: uuidWAN, Type: deviceURN + "WANDevice:2", Services: []string{serviceURN + "WANCommonInterfaceConfig:1"}},
		{UUID: uuidConnection, Type: deviceURN + "WANConnectionDevice:2", Services: []string{
			serviceURN + "WANIPConnection:2", serviceURN + "WANIPv6FirewallControl:1"}},
	}}
)

// TestItems compares with the table of UDA 1.1, section 1.2.2.
func TestItems(t *testing.T) {
	want := []ssdp.Item{
		{Type: "upnp:rootdevice", UUID: uuidRoot},
		{Type: "uuid:" + uuidRoot, UUID: uuidRoot},
		{Type: deviceURN + "InternetGatewayDevice:2", UUID: uuidRoot},
		{Type: serviceURN + "Layer3Forwarding:1", UUID: uuidRoot},
		{Type: "uuid:" + uuidWAN, UUID: uuidWAN},
		{Type: deviceURN + "WANDevice:2", UUID: uuidWAN},
		{Type: serviceURN + "WANCommonInterfaceConfig:1", UUID: uuidWAN},
		{Type: "uuid:" + uuidConnection, UUID: uuidConnection},
		{Type: deviceURN + "WANConnectionDevice:2", UUID: uuidConnection},
		{Type: serviceURN + "WANIPConnection:2", UUID: uuidConnection},
		{Type: serviceURN + "WANIPv6FirewallControl:1", UUID: uuidConnection},
	}
	if got := description2.Items(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := description1.Items(); len(got) != 10 {
		t.Errorf("version 1 announces %v", got)
	}
}

func TestMatch(t *testing.T) {
	both, first, second := []*ssdp.Description{description1, description2}, []*ssdp.Description{description1}, []*ssdp.Description{description2}
	one := func(st, uuid string) []ssdp.Item { return []ssdp.Item{{Type: st, UUID: uuid}} }
	tests := []struct {
		name         string
		descriptions []*ssdp.Description
		st           string
		description  *ssdp.Description
		items        []ssdp.Item
	}{
		{"all of both", both, "ssdp:all", description1, description1.Items()},
		{"all of version 2", second, "ssdp:all", description2, description2.Items()},
		{"root of both", both, "upnp:rootdevice", description1, one("upnp:rootdevice", uuidRoot)},
		{"root of version 2", second, "upnp:rootdevice", description2, one("upnp:rootdevice", uuidRoot)},
		{"UUID", both, "uuid:" + uuidWAN, description1, one("uuid:"+uuidWAN, uuidWAN)},
		{"UUID in upper case", both, "uuid:11111111-2222-3333-4444-5555555555AB", description1,
			one("uuid:11111111-2222-3333-4444-5555555555AB", uuidWAN)},
		{"foreign UUID", both, "uuid:11111111-2222-3333-4444-555555555500", nil, nil},

		{"version 1 of both", both, deviceURN + "InternetGatewayDevice:1", description1, one(deviceURN+"InternetGatewayDevice:1", uuidRoot)},
		{"version 2 of both", both, deviceURN + "InternetGatewayDevice:2", description2, one(deviceURN+"InternetGatewayDevice:2", uuidRoot)},
		{"version 1 of version 2", second, deviceURN + "WANDevice:1", description2, one(deviceURN+"WANDevice:1", uuidWAN)},
		{"version 2 of version 1", first, deviceURN + "WANDevice:2", nil, nil},
		{"version above", both, deviceURN + "InternetGatewayDevice:3", nil, nil},
		{"service, version 1 of both", both, serviceURN + "WANIPConnection:1", description1, one(serviceURN+"WANIPConnection:1", uuidConnection)},
		{"service, version 2 of both", both, serviceURN + "WANIPConnection:2", description2, one(serviceURN+"WANIPConnection:2", uuidConnection)},
		{"service of both descriptions", both, serviceURN + "WANCommonInterfaceConfig:1", description1, one(serviceURN+"WANCommonInterfaceConfig:1", uuidWAN)},
		{"service that version 2 alone has", both, serviceURN + "WANIPv6FirewallControl:1", description2, one(serviceURN+"WANIPv6FirewallControl:1", uuidConnection)},
		{"the same, where there is only version 1", first, serviceURN + "WANIPv6FirewallControl:1", nil, nil},
		{"service by the name of a device", both, serviceURN + "WANDevice:1", nil, nil},
		{"service that does not exist", both, serviceURN + "WANPPPConnection:1", nil, nil},
		{"type of another domain", both, "urn:example-com:device:WANDevice:1", nil, nil},
	}
	for _, tt := range tests {
		target, ok := ssdp.ParseTarget(tt.st)
		if !ok {
			t.Fatalf("%s is no target", tt.st)
		}
		description, items := ssdp.Match(tt.descriptions, target)
		if description != tt.description || !slices.Equal(items, tt.items) {
			t.Errorf("%s: got %v of %v, want %v of %v", tt.name, items, description, tt.items, tt.description)
		}
	}
}
