package ssdpd

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"igdd/pkg/clock"
	"igdd/pkg/lan"
	"igdd/pkg/ssdp"
)

// fakeLAN is an interface with the addresses in own.
type fakeLAN struct{}

func (fakeLAN) Name() string             { return "lan0" }
func (fakeLAN) Index() int               { return 7 }
func (fakeLAN) Prefixes() []netip.Prefix { return own }

// testDescription is a description with one device.
var testDescription = &ssdp.Description{Path: "/rootDesc.xml", Devices: []ssdp.Device{{UUID: "1", Type: "urn:schemas-upnp-org:device:InternetGatewayDevice:1"}}}

// newSocketlessListener returns a listener without sockets, which can only queue
// replies.
func newSocketlessListener() *Listener {
	return &Listener{
		server:  New(Options{Descriptions: []*ssdp.Description{testDescription}, Port: 5000, Log: slog.New(slog.DiscardHandler)}),
		on:      fakeLAN{},
		limiter: newRateLimiter(),
		wakeup:  make(chan struct{}, 1),
	}
}

// TestHandle checks which datagrams are answered: the reply is queued, not sent at once.
// Announcements and responses are no searches, from whatever port they come.
func TestHandle(t *testing.T) {
	const search = "M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: upnp:rootdevice\r\n\r\n"
	sender, item := &ssdp.Sender{HTTP: netip.MustParseAddrPort("192.168.50.2:5000")}, testDescription.Items()[0]
	tests := []struct {
		name, from, to string
		payload        []byte
		source         string // address that the reply is sent from; empty: no reply
	}{
		{"search", "192.168.50.10:4000", "239.255.255.250", []byte(search), "192.168.50.1"},
		{"search from the port of the service", "192.168.50.10:1900", "239.255.255.250", []byte(search), "192.168.50.1"},
		{"search of the router from port 1900", "192.168.50.10:1900", "192.168.50.1", []byte(search), "192.168.50.1"},
		{"search of the link", "[fe80::2%7]:1900", "ff02::c", []byte(search), "fe80::1"},
		{"search of the link by a global address", "[2001:db8::2]:4000", "ff02::c", []byte(search), "fe80::1"},
		{"search of a link-local address", "[fe80::2%7]:4000", "fe80::1", []byte(search), "fe80::1"},
		{"search of the site by a link-local address", "[fe80::2%7]:4000", "ff05::c", []byte(search), "2001:db8::1"},
		{"search by broadcast", "192.168.50.10:4000", "255.255.255.255", []byte(search), "192.168.50.1"},
		{"search by broadcast from a second network", "10.1.2.3:4000", "255.255.255.255", []byte(search), "10.1.0.1"},
		{"search by broadcast without MX", "192.168.50.10:4000", "255.255.255.255", []byte(strings.Replace(search, "MX: 1\r\n", "", 1)), ""},
		{"alive", "192.168.50.2:1900", "239.255.255.250", sender.AppendAlive(nil, ssdp.IPv4, testDescription, item), ""},
		{"byebye", "192.168.50.2:1900", "239.255.255.250", sender.AppendByebye(nil, ssdp.IPv4, testDescription, item), ""},
		{"update", "192.168.50.2:1900", "239.255.255.250", sender.AppendUpdate(nil, ssdp.IPv4, testDescription, item, 2), ""},
		{"answer", "192.168.50.2:1900", "192.168.50.1", sender.AppendReply(nil, testDescription, item, time.Time{}), ""},
	}
	for _, tt := range tests {
		l := newSocketlessListener()
		from, before := netip.MustParseAddrPort(tt.from), time.Now()
		l.handle(nil, lan.Datagram{From: from, Host: "host", To: addr(tt.to), Payload: tt.payload})
		var got reply
		if list := l.replies.replies; len(list) > 0 {
			got = list[0]
		}
		switch {
		case tt.source == "":
			if got.to.IsValid() || len(l.wakeup) != 0 {
				t.Errorf("%s: %+v", tt.name, got)
			}
		case got.to != from || got.from != addr(tt.source) || got.due.Before(before.Add(replyInterval)) || len(l.wakeup) != 1:
			t.Errorf("%s: %+v, want a reply from %s", tt.name, got, tt.source)
		}
	}
}

// TestFloodIsBounded handles searches of many hosts while nothing can be sent: the
// queue is bounded.
func TestFloodIsBounded(t *testing.T) {
	l, from := newSocketlessListener(), addr("10.1.0.1")
	search := []byte("M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: ssdp:all\r\n\r\n")
	for range 4 * maxHosts {
		from = from.Next()
		l.handle(nil, lan.Datagram{From: netip.AddrPortFrom(from, ssdp.Port), Host: lan.Host(from.String()), To: ssdp.IPv4.Addr(), Payload: search})
	}
	if n := len(l.replies.replies); n == 0 || n > maxReplies {
		t.Errorf("%d replies are queued", n)
	}
	if len(l.wakeup) != 1 {
		t.Errorf("%d wakeups", len(l.wakeup))
	}
}

// TestDateOfAResponse demands a date from the moment on from which the clock counts as
// set, and none before.
func TestDateOfAResponse(t *testing.T) {
	set := time.Unix(clock.Earliest, 0)
	if got := dateOrZero(set.Add(-time.Second)); !got.IsZero() {
		t.Errorf("before %v: %v", set, got)
	}
	if got := dateOrZero(set); !got.Equal(set) {
		t.Errorf("at %v: %v", set, got)
	}
}
