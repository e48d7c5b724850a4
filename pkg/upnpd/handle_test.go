package upnpd

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"igdd/pkg/clock"
)

// answer has a gateway answer a request that comes from c1, or 400 if it cannot
// be read.
func (h *testGateway) answer(text string) response {
	r, err := read(text)
	if err != nil {
		return response{status: 400}
	}
	r.client, r.local, r.device = netip.MustParseAddr(hosts["c1"]), netip.MustParseAddr(hosts["gw1"]), "lo"
	return h.server.handle(r, h.testNet).complete()
}

// respellings are ways to write a path that clients have been seen to use, or
// that mean the same by the standard.
var respellings = map[string]func(string) string{
	"upper case":      strings.ToUpper,
	"lower case":      strings.ToLower,
	"doubled slashes": func(p string) string { return strings.ReplaceAll(p, "/", "//") },
	"slash in front":  func(p string) string { return "//" + p },
	"slash behind":    func(p string) string { return p + "/" },
	"behind another":  func(p string) string { return "/rootDesc.xml" + p },
	"dot segments":    func(p string) string { return "/./x/.." + p },
	"query":           func(p string) string { return p + "?/ctl/L3F" },
	"fragment":        func(p string) string { return p + "#a?b" },
	"percent-encoded": func(p string) string {
		var out strings.Builder
		for i := range len(p) {
			fmt.Fprintf(&out, "%%%02x", p[i])
		}
		return out.String()
	},
	"percent-encoded in another case":  func(p string) string { return strings.ReplaceAll(strings.ToUpper(p), "C", "%63") },
	"absolute":                         func(p string) string { return "http://" + hosts["gw1"] + ":5555" + p },
	"absolute, doubled slashes":        func(p string) string { return "HTTP://" + hosts["gw1"] + "//" + p },
	"absolute, IPv6, another case":     func(p string) string { return "http://[" + strings.ToUpper(hosts["gwv6"]) + "]" + strings.ToUpper(p) },
	"doubled slashes, percent-encoded": func(p string) string { return strings.ReplaceAll(p, "/", "/%2F") },
}

// TestPaths wants the same answer at every path, however it is spelled.
func TestPaths(t *testing.T) {
	t.Parallel()
	h := testNet{}.newGateway(t, gatewayConfigOf("both"))
	for _, published := range h.server.paths {
		for _, method := range []string{"GET", "POST", "UNSUBSCRIBE"} {
			const rest = " HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
			want := h.answer(method + " " + published + rest)
			if want.status == 404 {
				t.Errorf("%s %s: status 404", method, published)
			}
			for name, respell := range respellings {
				got := h.answer(method + " " + respell(published) + rest)
				if got.status != want.status || string(got.body) != string(want.body) || string(got.fields) != string(want.fields) {
					t.Errorf("%s: %s %s: status %d, want %d", name, method, respell(published), got.status, want.status)
				}
			}
		}
	}
}

// TestOtherPaths finds nothing where nothing is.
func TestOtherPaths(t *testing.T) {
	t.Parallel()
	h := testNet{}.newGateway(t, gatewayConfigOf("both"))
	for _, path := range []string{
		"/", "//", "/ctl", "/ctl/", "/ctlIPConn", "/ctl/IPConn2", "/ctl/IPConn/x", "/x/ctl/IPConn", "/rootDesc.xml/x/ctl/IPConn", "/rootDesc.xmlx/ctl/IPConn", "/rootDesc.xml/rootDesc.xml/ctl/IPConn", "/ctl/IPConn/..", "/ctl/evt/IPConn",
		"/rootDesc", "/rootDesc.xml.", "/root Desc.xml", "/%2e%2e/etc/passwd", "/ctl%5cIPConn", "/ctl;a/IPConn", "/?/ctl/IPConn", "/#/rootDesc.xml",
	} {
		for _, method := range []string{"GET", "POST", "SUBSCRIBE"} {
			if got := h.answer(method + " " + path + " HTTP/1.1\r\nContent-Length: 0\r\n\r\n").status; got != 404 && got != 400 {
				t.Errorf("%s %s: status %d", method, path, got)
			}
		}
	}
}

// estate is a LAN where the router has addresses of all kinds.
type estate struct{ fakeLAN }

func (estate) Prefixes() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("192.168.50.1/24"), netip.MustParsePrefix("2001:db8::1/64"), netip.MustParsePrefix("fe80::1/64"),
	}
}

func TestHostIsOurs(t *testing.T) {
	t.Parallel()
	tests := map[bool][]string{
		true: {
			"", " ", "192.168.50.1", "192.168.50.1:5000", "192.168.50.1:", "192.168.50.1:80", "\t192.168.50.1:5000 ",
			"[2001:db8::1]", "[2001:db8::1]:5000", "[2001:DB8:0::0001]:5000", "[2001:db8::1]:", "2001:db8::1", "2001:DB8::1",
			"[fe80::1]:5000", "[fe80::1%25eth0]:5000", "[fe80::1%eth0]:5000", "[FE80::1%25eth0]", "fe80::1%eth0", "[::ffff:192.168.50.1]:5000",
		},
		false: {
			"router", "evil.example", "evil.example:5000", "192.168.50.2", "192.168.50.1.", "192.168.50.1.evil.example", "192.168.050.1",
			"192.168.50.1:5000.evil.example", "192.168.50.1@evil.example", "evil.example@192.168.50.1", "user:[2001:db8::1]",
			"192.168.50.1 evil.example", "192.168.50.1, evil.example", "192.168.50.1/evil.example", "192.168.50.1#", "192.168.50.1:+80",
			"192.168.50.1:80:80", "3232248321", "0xc0a83201", "192.168.12801", "localhost", "127.0.0.1", "[::1]:5000", "0.0.0.0", "[::]",
			"[2001:db8::1", "2001:db8::1]", "[2001:db8::2]:5000", "[2001:db8::1].evil.example", "[evil.example]", "%5b2001:db8::1%5d",
			":", ":5000", "[]", "[]:5000", ".", "*", "null", "http://192.168.50.1",
		},
	}
	for want, hosts := range tests {
		for _, host := range hosts {
			for _, version := range []string{"1.0", "1.1"} {
				r, err := read("GET / HTTP/" + version + "\r\nHost:" + host + "\r\n\r\n")
				if err != nil {
					t.Fatal(err)
				}
				if r.hostIsOurs(estate{}) != want {
					t.Errorf("Host %q, HTTP/%s: %v", host, version, !want)
				}
			}
		}
	}
}

// addAt words an AddPortMapping that is posted to a path.
func addAt(path, fields string) string {
	const body = `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>` +
		`<u:AddPortMapping xmlns:u="urn:schemas-upnp-org:service:WANIPConnection:1"><NewRemoteHost></NewRemoteHost>` +
		`<NewExternalPort>4000</NewExternalPort><NewProtocol>TCP</NewProtocol><NewInternalPort>4000</NewInternalPort>` +
		`<NewInternalClient>192.168.77.10</NewInternalClient><NewEnabled>1</NewEnabled><NewPortMappingDescription></NewPortMappingDescription>` +
		`<NewLeaseDuration>0</NewLeaseDuration></u:AddPortMapping></s:Body></s:Envelope>`
	return fmt.Sprintf("POST %s HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s", path, fields, len(body), body)
}

// TestActionAtEventURL takes an action that is posted to the event URL of its
// service, with every check that holds at the control URL.
func TestActionAtEventURL(t *testing.T) {
	t.Parallel()
	const action = "SOAPACTION: \"urn:schemas-upnp-org:service:WANIPConnection:1#AddPortMapping\"\r\n"
	for _, tt := range []struct {
		name, path, fields string
		status, mappings   int
	}{
		{"event URL", "/evt/IPConn", action, 200, 1},
		{"event URL, spelled otherwise", "//EVT//ipconn", action, 200, 1},
		{"of another service", "/evt/L3F", action, 500, 0},
		{"no action", "/evt/IPConn", "", 400, 0},
		{"page's script", "/evt/IPConn", action + "Origin: http://evil.example\r\n", 403, 0},
		{"browser", "/evt/IPConn", action + "Sec-Fetch-Mode: cors\r\nSec-Fetch-Site: cross-site\r\n", 403, 0},
		{"name of the router", "/evt/IPConn", action + "Host: evil.example\r\n", 403, 0},
		{"name of the router in the target", "http://evil.example/evt/IPConn", action, 403, 0},
		{"document", "/WANIPCn.xml", action, 405, 0},
	} {
		h := testNet{}.newGateway(t, gatewayConfigOf("both"))
		got := h.answer(addAt(tt.path, tt.fields))
		if mappings, _ := h.table.Count(); got.status != tt.status || mappings != tt.mappings {
			t.Errorf("%s: status %d, %d mappings: %s", tt.name, got.status, mappings, got.body)
		}
	}
}

// TestUnreadBodies wants what stands where no body is read never taken for a
// request.
func TestUnreadBodies(t *testing.T) { bothWays(t, testUnreadBodies) }

func testUnreadBodies(t *testing.T, atOnce bool) {
	t.Parallel()
	for request, status := range map[string]int{
		"GET /rootDesc.xml": 200, "HEAD /rootDesc.xml": 200, "GET /none": 404, "HEAD /none": 404, "GET /ctl/IPConn": 405, "SUBSCRIBE /ctl/IPConn": 405,
		"SUBSCRIBE /evt/IPConn": 412, "UNSUBSCRIBE /evt/IPConn": 412, "SUBSCRIBE /none": 404, "PUT /rootDesc.xml": 501, "OPTIONS *": 501,
	} {
		chunk := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(getRoot), getRoot)
		for _, rest := range []string{
			fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(getRoot), getRoot), "Content-Length: 1\r\n\r\n" + getRoot,
			"Content-Length: 90000\r\nExpect: 100-continue\r\n\r\n" + getRoot, "Transfer-Encoding: chunked\r\n\r\n" + chunk,
		} {
			v := newPipeConn(t, newConnLimiter(), atOnce)
			go io.WriteString(v, request+" HTTP/1.1\r\nConnection: keep-alive\r\n"+rest)
			b := bufio.NewReader(v)
			method, _, _ := strings.Cut(request, " ")
			if got, closes := v.read(t, b, method); got != status || !closes {
				t.Errorf("%s: status %d, want %d; closes %v", request, got, status, closes)
			}
			if rest, err := io.ReadAll(b); err != nil || len(rest) > 0 {
				t.Errorf("%s: behind the reply: %q, %v", request, rest, err)
			}
		}
	}
}

// TestNoDateWithoutClock demands that a response has no date while the clock is not set:
// in the bubble it is the year 2000.
func TestNoDateWithoutClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := fieldNames(new(Server).appendHead(nil, new(request), response{status: 200}))
		if want := []string{"Server", "Content-Length"}; !slices.Equal(got, want) {
			t.Errorf("fields %v, want %v", got, want)
		}
		time.Sleep(time.Until(time.Unix(clock.Earliest, 0)))
		got = fieldNames(new(Server).appendHead(nil, new(request), response{status: 200}))
		if want := []string{"Server", "Date", "Content-Length"}; !slices.Equal(got, want) {
			t.Errorf("from 2024 on: fields %v, want %v", got, want)
		}
	})
}

// fieldNames returns the names of the fields in a message, as they are spelled.
func fieldNames(message []byte) (names []string) {
	head, _, _ := strings.Cut(string(message), "\r\n\r\n")
	for _, line := range strings.Split(head, "\r\n")[1:] {
		name, _, _ := strings.Cut(line, ":")
		names = append(names, name)
	}
	return names
}

// TestFieldNames spells those of HTTP as most servers do, and those of UPnP in
// capitals.
func TestFieldNames(t *testing.T) {
	t.Parallel()
	h := testNet{}.newGateway(t, gatewayConfigOf("both"))
	common := []string{"Server", "Date", "Content-Length"}
	for _, tt := range []struct {
		request string
		want    []string
	}{
		{"GET /rootDesc.xml HTTP/1.1\r\nConnection: keep-alive\r\n\r\n", []string{"Content-Type"}},
		{"GET /rootDesc.xml HTTP/1.0\r\n\r\n", []string{"Connection", "Content-Type"}},
		{"GET /ctl/IPConn HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", []string{"Connection", "Allow"}},
		{addAt("/ctl/IPConn", "Connection: keep-alive\r\nSOAPACTION: \"urn:schemas-upnp-org:service:WANIPConnection:1#AddPortMapping\"\r\n"), []string{"EXT", "Content-Type"}},
		{"SUBSCRIBE /evt/L3F HTTP/1.1\r\nConnection: keep-alive\r\nNT: upnp:event\r\nCALLBACK: <http://192.168.77.10:1/>\r\n\r\n", []string{"SID", "TIMEOUT"}},
	} {
		r, err := read(tt.request)
		if err != nil {
			t.Fatal(err)
		}
		if got := fieldNames(h.server.appendHead(nil, r, h.answer(tt.request))); !slices.Equal(got, slices.Concat(common, tt.want)) {
			t.Errorf("%.20s: fields %v, want %v more", tt.request, got, tt.want)
		}
	}
	notice := new(subscription).notifyMessage(callback{host: "192.168.77.10", path: "/"}, 1, []byte("x"))
	want := []string{"Host", "Content-Type", "Content-Length", "NT", "NTS", "SID", "SEQ", "Connection"}
	if got := fieldNames(notice); !slices.Equal(got, want) {
		t.Errorf("event: fields %v, want %v", got, want)
	}
	if _, err := http.ReadRequest(bufio.NewReader(strings.NewReader(string(notice)))); err != nil {
		t.Error(err)
	}
}
