package upnpd

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestParseCallbacks(t *testing.T) {
	t.Parallel()
	tests := []struct {
		field string
		want  string // paths of those that can be used
	}{
		{"<http://192.168.50.10:49001/cb>", "/cb"},
		{"<http://192.168.50.10:49001>", "/"},
		{"<HTTP://192.168.50.10:49001/cb?a=b>", "/cb?a=b"},
		{"<http://192.168.50.10:49001?a=b>", "/?a=b"},
		{"<http://192.168.50.10:49001/cb#part>", "/cb"},
		{"<http://192.168.50.10:49001/%0d%0aX:>", "/%0d%0aX:"},
		{"<http://[2001:db8::10]:49001/six>", "/six"},
		{"<http://192.168.50.10:49001/a><http://192.168.50.10:49002/b>", "/a /b"},
		{"<http://192.168.50.10:49001/a> <http://192.168.50.10:49002/b> ", "/a /b"},
		{"<http://localhost:49001/a><http://192.168.50.10:49002/b>", "/b"},
		{"", ""},
		{"<>", ""},
		{"http://192.168.50.10:49001/cb", ""},
		{"<http://192.168.50.10:49001/cb", ""},
		{"<http://192.168.50.10:49001/a>x<http://192.168.50.10:49001/b>", ""},
		{"<https://192.168.50.10:49001/cb>", ""},
		{"<ftp://192.168.50.10:49001/cb>", ""},
		{"<http:192.168.50.10:49001/cb>", ""},
		{"<http://localhost:49001/cb>", ""},
		{"<http://192.168.50.10/cb>", "/cb"},
		{"<http://192.168.50.10:/cb>", "/cb"},
		{"<http://[2001:DB8::10]/six>", "/six"},
		{"<http://[2001:db8::10]:/six>", "/six"},
		{"<http://192.168.50.10:1/cb>", "/cb"},
		{"<http://192.168.50.10:65535/cb>", "/cb"},
		{"\"<http://192.168.50.10:49001/cb>\"", "/cb"},
		{"< http://192.168.50.10:49001/cb\t>", "/cb"},
		{"<http://192.168.50.10:49001/a>, <http://192.168.50.10:49002/b>;", "/a /b"},
		{"<http://192.168.50.10:49001/a>,\t\"<http://192.168.50.10:49002/b>\"", "/a /b"},
		{"<http://192.168.50.10:0/cb>", ""},
		{"<http://192.168.50.10:80/cb>", "/cb"},
		{"<http://192.168.50.10:1023/cb>", "/cb"},
		{"<http://192.168.50.10:65536/cb>", ""},
		{"<http://192.168.50.10:-1/cb>", ""},
		{"<http:///cb>", ""},
		{"<http://:80/cb>", ""},
		{"<http://[]:80/cb>", ""},
		{"<http://[192.168.50.10]:49001/cb>", ""},
		{"<http://2001:db8::10>", ""},
		{"<http://2001:db8::>", ""},
		{"<<http://192.168.50.10:49001/cb>>", ""},
		{"<http://192.168.50.10:49001/a> and <http://192.168.50.10:49001/b>", ""},
		{"<http://192.168.50.10:114537/cb>", ""},
		{"<http://192.168.50.10:+49001/cb>", ""},
		{"<http://192.168.050.10:49001/cb>", ""},
		{"<http://3232248330:49001/cb>", ""},
		{"<http://0xc0a8320a:49001/cb>", ""},
		{"<http://2001:db8::10:49001/cb>", ""},
		{"<http://[fe80::10%eth0]:49001/cb>", ""},
		{"<http://user@192.168.50.10:49001/cb>", ""},
		{"<http://192.168.50.10:49001/a b>", ""},
		{"<http://192.168.50.10:49001/a\tb>", ""},
		{"<http://192.168.50.10:49001/\xff>", ""},
		{"<http://192.168.50.10:49001/" + strings.Repeat("x", maxCallback) + ">", ""},
	}
	for _, tt := range tests {
		var got []string
		for _, c := range parseCallbacks(tt.field) {
			got = append(got, c.path)
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%q: %q, want %q", tt.field, got, tt.want)
		}
	}
}

// TestOwnCallbacks allows callbacks to the subscriber itself and to nobody else.
func TestOwnCallbacks(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]int{
		"<http://192.168.50.10:49001/>":                              1,
		"<http://192.168.50.11:49001/>":                              0,
		"<http://192.168.50.1:49001/>":                               0,
		"<http://127.0.0.1:49001/>":                                  0,
		"<http://11.22.33.1:49001/>":                                 0,
		"<http://[::ffff:192.168.50.10]:49001/>":                     0,
		"<http://11.22.33.1:49001/><http://192.168.50.10:49001/>":    1,
		"<http://192.168.50.10:49001/a><http://192.168.50.10:4000/>": 2,
		"<http://192.168.50.10:1/>,<http://192.168.50.10/>":          2,
		"<http://192.168.50.1:80/>":                                  0,
		"<http://192.168.50.11/>":                                    0,
	} {
		if got := ownCallbacks(parseCallbacks(url), netip.MustParseAddr("192.168.50.10")); len(got) != want {
			t.Errorf("%s: %v", url, got)
		}
	}
}

func TestGrantedTimeout(t *testing.T) {
	t.Parallel()
	for field, want := range map[string]time.Duration{
		"Second-1800": 1800 * time.Second, "second-3600": time.Hour, "Second-86400": 24 * time.Hour,
		"": shortestSubscription, "Second-60": shortestSubscription, "Second-0": shortestSubscription,
		"Second-infinite": shortestSubscription, "infinite": shortestSubscription, "Second-": shortestSubscription,
		"Second--1": shortestSubscription, "Second-+3600": shortestSubscription, "Second-3600 ": shortestSubscription,
		"Second-1e5": shortestSubscription, "for ever": shortestSubscription,
		"Second-86401": longestSubscription, "Second-4000000000": longestSubscription, "Second-4294967295999": longestSubscription,
		"Second-99999999999999999999999": longestSubscription,
	} {
		if got := grantedTimeout(parseTimeout(field)); got != want {
			t.Errorf("%q: %v, want %v", field, got, want)
		}
	}
}

// TestSubscriptionFields subscribes, renews and ends with fields as clients
// spell them.
func TestSubscriptionFields(t *testing.T) {
	t.Parallel()
	const callback = "CALLBACK: <http://192.168.77.10:1/>\r\n"
	for _, tt := range []struct {
		name, fields string
		status       int
	}{
		{"plain", callback + "NT: upnp:event\r\n", 200},
		{"another case and quotes", callback + "nt: \"UPnP:Event\"\r\nTimeout: infinite\r\n", 200},
		{"twice the same", callback + callback + "NT: upnp:event\r\nNT: upnp:event\r\n", 200},
		{"empty SID", callback + "NT: upnp:event\r\nSID:\r\n", 200},
		{"with a length", callback + "NT: upnp:event\r\nContent-Length: 7\r\n", 200},
		{"no NT", callback, 412},
		{"empty NT", callback + "NT: \r\n", 412},
		{"NT and more", callback + "NT: upnp:event2\r\n", 412},
		{"no CALLBACK", "NT: upnp:event\r\n", 412},
		{"of another host", "CALLBACK: <http://192.168.77.20:1/>\r\nNT: upnp:event\r\n", 412},
		{"renewed", "SID: {sid}\r\n", 200},
		{"renewed in quotes", "SID: \"{sid}\"\r\n", 200},
		{"renewed in upper case", "SID: {SID}\r\n", 200},
		{"renewed with an empty NT", "SID: {sid}\r\nNT:\r\nCALLBACK:\r\n", 200},
		{"renewed with NT", "SID: {sid}\r\nNT: upnp:event\r\n", 400},
		{"renewed with CALLBACK", "SID: {sid}\r\n" + callback, 400},
		{"renewed in part", "SID: {sid}0\r\n", 412},
		{"renewed without prefix", "SID: {uuid}\r\n", 412},
		{"renewed in empty quotes", "SID: \"\"\r\n", 412},
	} {
		h := testNet{}.newGateway(t, gatewayConfigOf("default"))
		first := h.answer("SUBSCRIBE /evt/IPConn HTTP/1.1\r\nNT: upnp:event\r\n" + callback + "\r\n")
		sid, _, _ := strings.Cut(strings.TrimPrefix(string(first.fields), "SID: "), "\r\n")
		fields := strings.NewReplacer("{sid}", sid, "{SID}", strings.ToUpper(sid), "{uuid}", strings.TrimPrefix(sid, "uuid:")).Replace(tt.fields)
		if got := h.answer("SUBSCRIBE /evt/IPConn HTTP/1.1\r\n" + fields + "\r\n").status; got != tt.status {
			t.Errorf("%s: status %d, want %d", tt.name, got, tt.status)
		}
		if !strings.Contains(tt.fields, "SID: ") {
			continue
		}
		if got := h.answer("UNSUBSCRIBE /evt/IPConn HTTP/1.1\r\n" + fields + "\r\n").status; got != tt.status {
			t.Errorf("%s, ended: status %d, want %d", tt.name, got, tt.status)
		}
	}
}

// FuzzSubscription demands that what is read can go into a message as it is.
func FuzzSubscription(f *testing.F) {
	for _, callback := range []string{
		"<http://192.168.50.10:49001/cb>", "<http://[2001:db8::10]:49001/a><http://192.168.50.10:2869/upnp/eventing/x?y=z#w>",
		"<http://10.0.0.1:1024?%0d%0a>\t<HTTP://10.0.0.1:65535>", "<https://x/>", "<http://a b:1/>", "<<>>", "", "\"< http://10.0.0.1 >,<http://[::1]:>\"",
	} {
		for _, timeout := range []string{"Second-1800", "Second-infinite", "second-99999999999", ""} {
			f.Add(callback, timeout)
		}
	}
	f.Fuzz(func(t *testing.T, field, timeout string) {
		if got := grantedTimeout(parseTimeout(timeout)); got < shortestSubscription || got > longestSubscription {
			t.Errorf("TIMEOUT %q: %v", timeout, got)
		}
		for _, c := range parseCallbacks(field) {
			if !strings.HasPrefix(c.path, "/") || strings.ContainsFunc(c.path+c.host, func(r rune) bool { return r <= ' ' || r >= 0x7f }) ||
				c.to.Port() == 0 || len(c.path) > maxCallback || !strings.Contains(field, c.host) {
				t.Errorf("CALLBACK %q: %+v", field, c)
			}
		}
	})
}
