package upstream

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"igdd/pkg/upnp"
)

// TestDiscover finds the service, and prefers version 2.
func TestDiscover(t *testing.T) {
	for version, want := range map[upnp.Version]string{upnp.V1: "WANIPConnection:1", upnp.V2: "WANIPConnection:2"} {
		f := newFakeIGD(t, version)
		r, err := discoverAt(t.Context(), onLoopback, f.search)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(r.serviceType, want) || r.control.at != f.http.at || r.control.path != "/ctl/IPConn" {
			t.Errorf("version %d: found %s at %v", version, r.serviceType, r.control)
		}
	}
}

// TestLocations keeps to the router's own address, and sorts by what was found.
func TestLocations(t *testing.T) {
	reply := func(target, location string) []byte {
		return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nST: %s\r\nLOCATION: %s\r\n\r\n", target, location)
	}
	l := locations{router: onLoopback.Address}
	for _, r := range []struct{ target, location string }{
		{"upnp:rootdevice", "http://127.0.0.1:49000/tr64desc.xml"},
		{searchTargets[2], "http://127.0.0.1:49000/igddesc.xml"},
		{searchTargets[0], "http://127.0.0.1:49000/igd2desc.xml"},
		{searchTargets[3], "http://127.0.0.1:49000/igddesc.xml"},
		{searchTargets[2], "http://127.0.0.3:49000/igddesc.xml"},
	} {
		if !l.add(reply(r.target, r.location)) {
			t.Errorf("%s, %s is no reply", r.target, r.location)
		}
	}
	if l.add(reply("nonsense", "http://127.0.0.1/")) {
		t.Error("a reply for no target")
	}
	var got []string
	for _, e := range l.sorted() {
		got = append(got, e.path)
	}
	if text := strings.Join(got, " "); text != "/igd2desc.xml /igddesc.xml /tr64desc.xml" {
		t.Errorf("sorted %s", text)
	}
	demandRefusal(t, l.refused, foreign, "127.0.0.3")
}

// TestDiscoverRefuses names what is wrong with a router.
func TestDiscoverRefuses(t *testing.T) {
	service := func(control string) []byte {
		return fmt.Appendf(nil, "<root><device><serviceList><service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>"+
			"<controlURL>%s</controlURL></service></serviceList></device></root>", control)
	}
	tests := []struct {
		name, location string
		description    []byte
		cause          cause
		words          string
	}{
		{"description of another host", "http://127.0.0.3:5000/rootDesc.xml", nil, foreign, "127.0.0.3"},
		{"description of a name", "http://router.example/rootDesc.xml", nil, foreign, "router.example"},
		{"no description there", "http://127.0.0.1:1/rootDesc.xml", nil, silent, "connection refused"},
		{"no XML", "", []byte("hello"), foreign, "XML"},
		{"no service", "", []byte("<root/>"), foreign, "no UPnP service that forwards ports"},
		{"control of another host", "", service("http://127.0.0.3/ctl"), foreign, "127.0.0.3"},
		{"a huge description", "", make([]byte, httpLen), foreign, "longer than 64 kB"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFakeIGD(t, upnp.V1)
			f.change(func() { f.location, f.description = tt.location, tt.description })
			_, err := discoverAt(t.Context(), onLoopback, f.search)
			demandRefusal(t, err, tt.cause, tt.words)
		})
	}
}

// TestNoIGD is told by the kernel at once that nobody listens.
func TestNoIGD(t *testing.T) {
	_, err := discoverAt(t.Context(), onLoopback, 1)
	demandRefusal(t, err, foreign, "does not offer UPnP")
}

// TestSilentIGD ends with its context.
func TestSilentIGD(t *testing.T) {
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(onLoopback.Address, 0)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		c.Read(make([]byte, 100))
		cancel()
	}()
	if _, err := discoverAt(ctx, onLoopback, c.LocalAddr().(*net.UDPAddr).AddrPort().Port()); err != context.Canceled {
		t.Errorf("got %v", err)
	}
}

// TestURLBase resolves control URLs by it, unless it is that of another host.
func TestURLBase(t *testing.T) {
	for base, want := range map[string]string{
		"http://127.0.0.1:81/base/": "127.0.0.1:81 /base/ctl",
		"http://127.0.0.3:81/base/": "/igd/ctl",
		"":                          "/igd/ctl",
	} {
		e := raw(t, func(c net.Conn) {
			c.Read(make([]byte, 1024))
			io.WriteString(c, "HTTP/1.0 200 OK\n\n<root><URLBase>"+base+"</URLBase><service><serviceType>"+
				"urn:schemas-upnp-org:service:WANPPPConnection:1</serviceType><controlURL>ctl</controlURL></service></root>")
		})
		e.path = "/igd/desc.xml"
		c, err := onLoopback.describe(t.Context(), e)
		if got := c.control.at.String() + " " + c.control.path; err != nil || got != want && got != e.at.String()+" "+want {
			t.Errorf("base %q: control at %s, %v, want %s", base, got, err, want)
		}
	}
}

// TestConnectedService takes the service whose uplink is connected.
func TestConnectedService(t *testing.T) {
	status := map[string]string{"/a": "Disconnected", "/b": "Connected", "/c": "Connected"}
	e := raw(t, func(c net.Conn) {
		b := make([]byte, 2048)
		n, _ := c.Read(b)
		_, path, _ := strings.Cut(string(b[:n]), " ")
		path, _, _ = strings.Cut(path, " ")
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\n\r\n<e:Envelope><e:Body><u:GetStatusInfoResponse><NewConnectionStatus>%s</NewConnectionStatus>"+
			"</u:GetStatusInfoResponse></e:Body></e:Envelope>", status[path])
	})
	const wanip, wanppp = "urn:schemas-upnp-org:service:WANIPConnection:1", "urn:schemas-upnp-org:service:WANPPPConnection:1"
	for _, tt := range []struct {
		services []upnp.Reference
		want     string
	}{
		{[]upnp.Reference{{Type: wanip, ControlURL: "/a"}, {Type: wanppp, ControlURL: "/b"}, {Type: wanppp, ControlURL: "/c"}}, "/b"},
		{[]upnp.Reference{{Type: wanppp, ControlURL: "/b"}, {Type: wanip, ControlURL: "/c"}}, "/c"},
		{[]upnp.Reference{{Type: wanppp, ControlURL: "/a"}, {Type: wanip, ControlURL: "/x"}}, "/x"},
		{[]upnp.Reference{{Type: wanppp, ControlURL: "/a"}}, "/a"},
	} {
		list, err := onLoopback.connections(e, tt.services)
		if err != nil {
			t.Fatal(err)
		}
		if c := connected(t.Context(), list); c.control.path != tt.want {
			t.Errorf("%v: took %s, want %s", tt.services, c.control.path, tt.want)
		}
	}
}
