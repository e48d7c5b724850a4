package upnp

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// described reads the description of a router.
func described(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata/description", name+".xml"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestConnections reads descriptions in the manner of well-known routers.
func TestConnections(t *testing.T) {
	tests := []struct {
		name, base string
		want       []Reference
	}{
		{"miniupnpd", "", []Reference{{wanip + "1", "/ctl/IPConn"}}},
		{"fritzbox", "", []Reference{{wanip + "1", "/igdupnp/control/WANIPConn1"}}},
		{"asus", "", []Reference{{wanip + "2", "/ctl/IPConn"}}},
		{"technicolor", "http://192.168.1.254:80/", []Reference{
			{wanppp, "/upnp/control/igd/wanpppcInternet"}, {wanip + "1", "upnp/control/igd/wanipc_1"}, {wanppp, "/upnp/control/igd/wanpppc_2"}}},
	}
	for _, tt := range tests {
		got, base, err := Connections(described(t, tt.name))
		if err != nil || base != tt.base || !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, base %q, %v, want %q, base %q", tt.name, got, base, err, tt.want, tt.base)
		}
	}
}

// TestOwnConnections reads the descriptions of our own gateway.
func TestOwnConnections(t *testing.T) {
	for _, v := range []Version{V1, V2} {
		got, base, err := Connections(testGateway().Description(v).Append(nil, netip.IPv4Unspecified()))
		if want := []Reference{{wanIPConnection.Type(v), wanIPConnection.ControlPath(v)}}; err != nil || base != "" || !slices.Equal(got, want) {
			t.Errorf("version %d: got %q, base %q, %v, want %q", v, got, base, err, want)
		}
	}
}

func TestConnectionsOfBrokenDescriptions(t *testing.T) {
	const whole = "<root><device><serviceList><service><serviceType>" + wanip + "1</serviceType><controlURL>/c</controlURL></service></serviceList></device></root>"
	replace := func(old, new string) string { return strings.Replace(whole, old, new, 1) }
	if got, _, err := Connections([]byte(whole)); err != nil || len(got) != 1 {
		t.Fatalf("got %q, %v", got, err)
	}
	for name, document := range map[string]string{
		"no control URL":       replace("<controlURL>/c</controlURL>", ""),
		"an empty control URL": replace("/c<", " <"),
		"two control URLs":     replace("<controlURL>", "<controlURL>/d</controlURL><controlURL>"),
		"two types":            replace("<serviceType>", "<serviceType>x</serviceType><serviceType>"),
		"another version":      replace(":1<", ":3<"),
		"another service":      replace("WANIPConnection", "WANCommonInterfaceConfig"),
		"another domain":       replace("schemas-upnp-org", "dslforum-org"),
		"no service":           strings.ReplaceAll(whole, "service>", "servant>"),
	} {
		if got, _, err := Connections([]byte(document)); err != nil || len(got) > 0 {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	for name, document := range map[string]string{
		"nothing": "", "cut off": whole[:len(whole)-20], "a document type": "<!DOCTYPE root>" + whole,
		"too many elements": replace("<device>", strings.Repeat("<x/>", maxDescribed)+"<device>"),
	} {
		if got, _, err := Connections([]byte(document)); err == nil {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

// FuzzConnections demands only services that map ports, each with a URL.
func FuzzConnections(f *testing.F) {
	for _, name := range []string{"miniupnpd", "fritzbox", "asus", "technicolor"} {
		f.Add(described(f, name))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		services, _, err := Connections(document)
		for _, s := range services {
			if err != nil || !isConnection(s.Type) || s.ControlURL == "" {
				t.Errorf("got %q, %v", s, err)
			}
		}
	})
}
