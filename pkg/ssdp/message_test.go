package ssdp_test

import (
	"net/netip"
	"testing"
	"time"

	"igdd/pkg/ssdp"
)

var (
	sender = &ssdp.Sender{
		Server: "AstLinux/5.4 UPnP/1.1 igdd/1.0",
		HTTP:   netip.MustParseAddrPort("192.168.50.1:5000"),
		BootID: 1700000000,
		MaxAge: 1800 * time.Second,
	}
	sender6 = &ssdp.Sender{
		Server: "AstLinux/5.4 UPnP/1.1 igdd/1.0",
		HTTP:   netip.MustParseAddrPort("[fe80::1%lan0]:5000"),
		BootID: 1700000000,
		MaxAge: 3600 * time.Second,
	}
	device = ssdp.Item{Type: "urn:schemas-upnp-org:device:WANDevice:1", UUID: uuidWAN}
	date   = time.Date(2024, 2, 29, 13, 4, 5, 0, time.FixedZone("", 3600))
)

func TestMessages(t *testing.T) {
	tests := []struct {
		name string
		got  []byte
		want string
	}{
		{"reply", sender.AppendReply(nil, description1, device, date),
			"HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=1800\r\nDATE: Thu, 29 Feb 2024 12:04:05 GMT\r\nEXT:\r\n" +
				"LOCATION: http://192.168.50.1:5000/rootDesc.xml\r\nSERVER: AstLinux/5.4 UPnP/1.1 igdd/1.0\r\n" +
				"ST: urn:schemas-upnp-org:device:WANDevice:1\r\n" +
				"USN: uuid:11111111-2222-3333-4444-5555555555ab::urn:schemas-upnp-org:device:WANDevice:1\r\n" +
				"BOOTID.UPNP.ORG: 1700000000\r\nCONFIGID.UPNP.ORG: 1111\r\n\r\n"},
		{"reply before the clock is set", sender.AppendReply(nil, description2, description2.Items()[0], time.Time{}),
			"HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=1800\r\nEXT:\r\n" +
				"LOCATION: http://192.168.50.1:5000/rootDesc2.xml\r\nSERVER: AstLinux/5.4 UPnP/1.1 igdd/1.0\r\n" +
				"ST: upnp:rootdevice\r\nUSN: uuid:11111111-2222-3333-4444-5555555555aa::upnp:rootdevice\r\n" +
				"BOOTID.UPNP.ORG: 1700000000\r\nCONFIGID.UPNP.ORG: 2222\r\n\r\n"},
		{"alive", sender.AppendAlive(nil, ssdp.IPv4, description1, description1.Items()[1]),
			"NOTIFY * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nCACHE-CONTROL: max-age=1800\r\n" +
				"LOCATION: http://192.168.50.1:5000/rootDesc.xml\r\nSERVER: AstLinux/5.4 UPnP/1.1 igdd/1.0\r\n" +
				"NT: uuid:11111111-2222-3333-4444-5555555555aa\r\nNTS: ssdp:alive\r\n" +
				"USN: uuid:11111111-2222-3333-4444-5555555555aa\r\n" +
				"BOOTID.UPNP.ORG: 1700000000\r\nCONFIGID.UPNP.ORG: 1111\r\n\r\n"},
		{"alive on IPv6", sender6.AppendAlive(nil, ssdp.LinkLocal, description1, device),
			"NOTIFY * HTTP/1.1\r\nHOST: [FF02::C]:1900\r\nCACHE-CONTROL: max-age=3600\r\n" +
				"LOCATION: http://[fe80::1]:5000/rootDesc.xml\r\nSERVER: AstLinux/5.4 UPnP/1.1 igdd/1.0\r\n" +
				"NT: urn:schemas-upnp-org:device:WANDevice:1\r\nNTS: ssdp:alive\r\n" +
				"USN: uuid:11111111-2222-3333-4444-5555555555ab::urn:schemas-upnp-org:device:WANDevice:1\r\n" +
				"OPT: \"http://schemas.upnp.org/upnp/1/0/\"; ns=01\r\n01-NLS: 1700000000\r\n" +
				"BOOTID.UPNP.ORG: 1700000000\r\nCONFIGID.UPNP.ORG: 1111\r\n\r\n"},
		{"byebye", sender.AppendByebye(nil, ssdp.IPv4, description1, device),
			"NOTIFY * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n" +
				"NT: urn:schemas-upnp-org:device:WANDevice:1\r\nNTS: ssdp:byebye\r\n" +
				"USN: uuid:11111111-2222-3333-4444-5555555555ab::urn:schemas-upnp-org:device:WANDevice:1\r\n" +
				"BOOTID.UPNP.ORG: 1700000000\r\nCONFIGID.UPNP.ORG: 1111\r\n\r\n"},
		{"update", sender.AppendUpdate(nil, ssdp.IPv4, description1, device, 1700000001),
			"NOTIFY * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n" +
				"LOCATION: http://192.168.50.1:5000/rootDesc.xml\r\n" +
				"NT: urn:schemas-upnp-org:device:WANDevice:1\r\nNTS: ssdp:update\r\n" +
				"NEXTBOOTID.UPNP.ORG: 1700000001\r\n" +
				"USN: uuid:11111111-2222-3333-4444-5555555555ab::urn:schemas-upnp-org:device:WANDevice:1\r\n" +
				"BOOTID.UPNP.ORG: 1700000000\r\nCONFIGID.UPNP.ORG: 1111\r\n\r\n"},
	}
	for _, tt := range tests {
		if string(tt.got) != tt.want {
			t.Errorf("%s:\ngot  %q\nwant %q", tt.name, tt.got, tt.want)
		}
		// Two gateways never answer each other, although searches come from the
		// port of the service too.
		for _, to := range []netip.Addr{group, unicast} {
			if s, err := ssdp.ParseSearch(tt.got, to); err != ssdp.ErrIgnore {
				t.Errorf("%s is taken for a search: %+v, %v", tt.name, s, err)
			}
		}
	}
}

// TestMaxAge keeps to the least that is allowed, whatever is configured.
func TestMaxAge(t *testing.T) {
	s := *sender
	s.MaxAge = 120 * time.Second
	if got, want := string(s.AppendAlive(nil, ssdp.IPv4, description1, device)), string(sender.AppendAlive(nil, ssdp.IPv4, description1, device)); got != want {
		t.Errorf("got %q", got)
	}
}

func TestGroups(t *testing.T) {
	for group, want := range map[ssdp.Group]string{
		ssdp.IPv4: "239.255.255.250", ssdp.LinkLocal: "ff02::c", ssdp.SiteLocal: "ff05::c",
	} {
		if got := group.Addr(); got != netip.MustParseAddr(want) {
			t.Errorf("group %d is %v, want %s", group, got, want)
		}
	}
}

// TestAllocations holds that a reply costs its buffer and nothing else.
func TestAllocations(t *testing.T) {
	b := make([]byte, 0, 1500)
	if n := testing.AllocsPerRun(100, func() { sender6.AppendReply(b, description2, device, date) }); n > 0 {
		t.Errorf("a reply allocates %v times", n)
	}
}

func BenchmarkReply(b *testing.B) {
	buffer := make([]byte, 0, 1500)
	for b.Loop() {
		sender.AppendReply(buffer, description1, device, date)
	}
}

func BenchmarkSearch(b *testing.B) {
	datagram := []byte("M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 2\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n")
	descriptions := []*ssdp.Description{description1, description2}
	for b.Loop() {
		s, err := ssdp.ParseSearch(datagram, group)
		if _, items := ssdp.Match(descriptions, s.Target); err != nil || len(items) != 1 {
			b.Fatal(err, items)
		}
	}
}
