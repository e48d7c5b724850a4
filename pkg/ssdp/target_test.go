package ssdp_test

import (
	"testing"

	"igdd/pkg/ssdp"
)

func TestTarget(t *testing.T) {
	tests := []struct {
		st   string
		want ssdp.Target
	}{
		{"ssdp:all", ssdp.Target{Kind: ssdp.All}},
		{"upnp:rootdevice", ssdp.Target{Kind: ssdp.RootDevice}},
		{"uuid:2fac1234-31f8-11b4-a222-08002b34c003", ssdp.Target{Kind: ssdp.UUID, Name: "2fac1234-31f8-11b4-a222-08002b34c003"}},
		{"urn:schemas-upnp-org:device:WANDevice:1", ssdp.Target{Kind: ssdp.DeviceType, Name: "urn:schemas-upnp-org:device:WANDevice", Version: 1}},
		{"urn:schemas-upnp-org:service:WANIPConnection:2", ssdp.Target{Kind: ssdp.ServiceType, Name: "urn:schemas-upnp-org:service:WANIPConnection", Version: 2}},
		{"urn:example-com:service:Lamp:999", ssdp.Target{Kind: ssdp.ServiceType, Name: "urn:example-com:service:Lamp", Version: 999}},
	}
	for _, tt := range tests {
		got, ok := ssdp.ParseTarget(tt.st)
		if !ok || got != tt.want {
			t.Errorf("%s: got %+v, %v, want %+v", tt.st, got, ok, tt.want)
		}
		if got.String() != tt.st {
			t.Errorf("%s became %s", tt.st, got)
		}
	}
}

func TestTargetMalformed(t *testing.T) {
	const device = "urn:schemas-upnp-org:device:"
	for _, st := range []string{
		"", ":", "x", "uuid:", "UUID:1", "ssdp:ALL", "SSDP:all", "ssdp:all ", "upnp:rootdevices", "UPNP:ROOTDEVICE",
		device, device + "WANDevice", device + "WANDevice:", device + "WANDevice:0", device + "WANDevice:01",
		device + "WANDevice:+1", device + "WANDevice:-1", device + "WANDevice:1x", device + "WANDevice: 1",
		device + "WANDevice:1 ", device + "WANDevice:1000", device + "WANDevice:99999999999999999999",
		device + "WANDevice:1:1", device + ":1", device + "WANDevice:\u0661",
		"urn::device:WANDevice:1", "URN:schemas-upnp-org:device:WANDevice:1", "urn:schemas-upnp-org:thing:WANDevice:1",
		"urn:schemas-upnp-org:device:1", "urn:device:WANDevice:1",
	} {
		if got, ok := ssdp.ParseTarget(st); ok {
			t.Errorf("%q is taken for %+v", st, got)
		}
	}
}
