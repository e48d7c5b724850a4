package ssdp_test

import (
	"net/netip"
	"strings"
	"testing"

	"igdd/pkg/ssdp"
)

var gatewayType = ssdp.Target{Kind: ssdp.DeviceType, Name: deviceURN + "InternetGatewayDevice", Version: 2}

// TestAppendSearch compares with section 1.3.2, and with what our own gateway takes.
func TestAppendSearch(t *testing.T) {
	got := ssdp.AppendSearch(nil, netip.AddrPortFrom(unicast, ssdp.Port), gatewayType)
	want := "M-SEARCH * HTTP/1.1\r\nHOST: 192.168.50.1:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\n" +
		"ST: urn:schemas-upnp-org:device:InternetGatewayDevice:2\r\n\r\n"
	if string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if s, err := ssdp.ParseSearch(got, unicast); err != nil || s.Target != gatewayType {
		t.Errorf("parsed as %+v, %v", s, err)
	}
}

// reply is a response as miniupnpd writes it.
const reply = "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:2\r\n" +
	"USN: uuid:11111111-2222-3333-4444-5555555555aa::urn:schemas-upnp-org:device:InternetGatewayDevice:2\r\nEXT:\r\n" +
	"SERVER: Debian/12 UPnP/1.1 MiniUPnPd/2.3.1\r\nLOCATION: http://192.168.50.1:5000/rootDesc.xml\r\n\r\n"

func TestParseReply(t *testing.T) {
	replace := func(old, new string) string { return strings.Replace(reply, old, new, 1) }
	want := ssdp.Reply{Target: gatewayType, Location: "http://192.168.50.1:5000/rootDesc.xml"}
	for name, text := range map[string]string{
		"as miniupnpd writes it":  reply,
		"names in lower case":     strings.NewReplacer("ST:", "st:", "LOCATION:", "Location:").Replace(reply),
		"no blanks":               strings.ReplaceAll(reply, ": ", ":"),
		"an old version":          replace("HTTP/1.1", "HTTP/1.0"),
		"another word for OK":     replace("200 OK", "200 Fine by me"),
		"no word for OK":          replace("200 OK", "200"),
		"line feeds alone":        strings.ReplaceAll(reply, "\r", ""),
		"no empty line":           strings.TrimSuffix(reply, "\r\n"),
		"zeros at the end":        reply + "\x00\x00",
		"the same location twice": replace("EXT:", "LOCATION: http://192.168.50.1:5000/rootDesc.xml\r\nEXT:"),
	} {
		if got, ok := ssdp.ParseReply([]byte(text)); !ok || got != want {
			t.Errorf("%s: got %+v, %v", name, got, ok)
		}
	}
}

func TestParseReplyIgnores(t *testing.T) {
	replace := func(old, new string) string { return strings.Replace(reply, old, new, 1) }
	for name, text := range map[string]string{
		"nothing":               "",
		"noise":                 "\x00\x01\xff\n\n",
		"a search":              proper,
		"a notice":              replace("HTTP/1.1 200 OK", "NOTIFY * HTTP/1.1"),
		"an error":              replace("200 OK", "404 Not Found"),
		"a status that is long": replace("200 OK", "2000 OK"),
		"another protocol":      replace("HTTP/1.1", "HTTP/2"),
		"no location":           replace("LOCATION", "ALLOCATION"),
		"an empty location":     replace("http://192.168.50.1:5000/rootDesc.xml", ""),
		"two locations":         replace("EXT:", "LOCATION: http://192.168.50.9/\r\nEXT:"),
		"no target":             replace("ST:", "NT:"),
		"a target that is none": replace("ST: urn", "ST: burn"),
		"too long":              replace("EXT:", "X: "+strings.Repeat("x", ssdp.MaxLen)+"\r\nEXT:"),
	} {
		if got, ok := ssdp.ParseReply([]byte(text)); ok {
			t.Errorf("%s is taken for a response: %+v", name, got)
		}
	}
}

// FuzzParseReply demands that a response keeps its meaning when it is written again.
func FuzzParseReply(f *testing.F) {
	f.Add([]byte(reply))
	f.Add([]byte("HTTP/1.0 200\nst:ssdp:all\nlocation:\n http://192.168.50.1/\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, ok := ssdp.ParseReply(b)
		if !ok {
			return
		}
		again := "HTTP/1.1 200 OK\r\nST: " + r.Target.String() + "\r\nLOCATION: " + r.Location + "\r\n\r\n"
		if got, ok := ssdp.ParseReply([]byte(again)); !ok && len(again) <= ssdp.MaxLen || ok && got != r {
			t.Errorf("%q is %+v, written again %+v, %v", b, r, got, ok)
		}
	})
}
