package ssdpd

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"igdd/pkg/lan"
	"igdd/pkg/ssdp"
)

// descriptionOf returns the description of a version of the gateway.
func descriptionOf(version int) *ssdp.Description {
	const device, service = "urn:schemas-upnp-org:device:%s:%d", "urn:schemas-upnp-org:service:%s:%d"
	uuid := func(n int) string { return fmt.Sprintf("3d3cec3a-8cf0-11e0-98ee-001a6bd2d07%d", n) }
	connection := []string{fmt.Sprintf(service, "WANIPConnection", version), fmt.Sprintf(service, "WANIPv6FirewallControl", 1)}
	return &ssdp.Description{Path: fmt.Sprintf("/rootDescriptionOfVersion%d.xml", version), ConfigID: 1<<24 - 1, Devices: []ssdp.Device{
		{UUID: uuid(0), Type: fmt.Sprintf(device, "InternetGatewayDevice", version), Services: []string{fmt.Sprintf(service, "Layer3Forwarding", 1), fmt.Sprintf(service, "DeviceProtection", 1)}},
		{UUID: uuid(1), Type: fmt.Sprintf(device, "WANDevice", version), Services: []string{fmt.Sprintf(service, "WANCommonInterfaceConfig", 1)}},
		{UUID: uuid(2), Type: fmt.Sprintf(device, "WANConnectionDevice", version), Services: connection},
	}}
}

// octetsOf handles a burst of searches from one host, and returns the octets of the
// searches and of the responses.
func octetsOf(l *Listener, to netip.Addr, search string, n int) (asked, answered int) {
	from, now := netip.MustParseAddrPort("192.168.50.10:4000"), time.Now()
	if to.Is6() {
		from = netip.MustParseAddrPort("[2001:db8::2]:4000")
	}
	for range n {
		asked += len(search)
		l.handle(nil, lan.Datagram{From: from, Host: "host", To: to, Payload: []byte(search)})
		for len(l.replies.replies) > 0 {
			now = now.Add(replyInterval)
			if r, ok := l.replies.take(now); ok {
				answered += len(l.server.sender(r.from).AppendReply(nil, r.description, r.items[0], now))
			}
		}
	}
	return asked, answered
}

// TestAmplification searches in bursts from one host, in the usual form and in the
// shortest ones that are answered: the responses have at most ten times the octets.
func TestAmplification(t *testing.T) {
	const burst, most = 200, 10
	for name, form := range map[string]string{
		"usual":               "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: %s\r\n\r\n",
		"shortest":            "M-SEARCH*HTTP/1.1\nMAN:ssdp:discover\nMX:1\nST:%s",
		"shortest by unicast": "M-SEARCH*HTTP/1.1\nMAN:ssdp:discover\nST:%s",
	} {
		destinations := []string{"192.168.50.1", "fe80::1", "2001:db8::1"}
		if !strings.Contains(name, "unicast") {
			destinations = append(destinations, "239.255.255.250", "ff02::c", "ff05::c")
		}
		for _, version := range []int{1, 2} {
			description := descriptionOf(version)
			targets := []string{"ssdp:all"}
			for _, i := range description.Items() {
				targets = append(targets, i.Type)
			}
			for _, target := range targets {
				for _, to := range destinations {
					l := newSocketlessListener()
					l.server.opts.Descriptions = []*ssdp.Description{description}
					l.server.opts.Product, l.server.opts.Interval = "Linux/6.1.170 UPnP/1.1 MiniUPnPd/2.3.9", 15*time.Minute
					search := fmt.Sprintf(form, target)
					search += strings.Repeat("\x00", max(0, minSearchLen-len(search)))
					asked, answered := octetsOf(l, addr(to), search, burst)
					if answered == 0 || answered > most*asked {
						t.Errorf("%s: version %d, %s to %s: %d octets of searches, %d of responses", name, version, target, to, asked, answered)
					}
				}
			}
		}
	}
	const tooShort = "M-SEARCH*HTTP/1.1\nMAN:ssdp:discover\nST:ssdp:all"
	if _, answered := octetsOf(newSocketlessListener(), addr("192.168.50.1"), tooShort, 1); answered > 0 {
		t.Errorf("a search of %d octets is answered", len(tooShort))
	}
}
