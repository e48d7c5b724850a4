package ssdp_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"igdd/pkg/ssdp"
)

var (
	group   = ssdp.IPv4.Addr()
	unicast = netip.MustParseAddr("192.168.50.1")
)

func TestParseSearch(t *testing.T) {
	root := ssdp.Target{Kind: ssdp.RootDevice}
	tests := []struct {
		name, text string
		to         netip.Addr
		want       ssdp.Search
	}{
		{"as in the standard", "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 2\r\nST: ssdp:all\r\nUSER-AGENT: x\r\n\r\n",
			group, ssdp.Search{Target: ssdp.Target{Kind: ssdp.All}, MaxWait: 2 * time.Second}},
		{"no blanks, lower case, any order", "M-SEARCH * HTTP/1.1\r\nst:upnp:rootdevice\r\nman:\"ssdp:discover\"\r\nmx:3\r\n\r\n",
			group, ssdp.Search{Target: root, MaxWait: 3 * time.Second}},
		{"many blanks", "M-SEARCH * HTTP/1.1\r\nST: \t upnp:rootdevice \t\r\nMAN:\t\"ssdp:discover\" \r\nMX:  0005 \r\n\r\n",
			group, ssdp.Search{Target: root, MaxWait: 5 * time.Second}},
		{"line feeds alone", "M-SEARCH * HTTP/1.1\nMAN: \"ssdp:discover\"\nMX: 1\nST: upnp:rootdevice\n\n",
			group, ssdp.Search{Target: root, MaxWait: time.Second}},
		{"more empty lines", "M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: upnp:rootdevice\r\n\r\n\r\n\r\n",
			group, ssdp.Search{Target: root, MaxWait: time.Second}},
		{"no empty line", "M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: upnp:rootdevice\r\n",
			group, ssdp.Search{Target: root, MaxWait: time.Second}},
		{"what follows the empty line", "M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: upnp:rootdevice\r\n\r\nST: ssdp:all\r\n",
			group, ssdp.Search{Target: root, MaxWait: time.Second}},
		{"unknown fields, even odd ones", "M-SEARCH * HTTP/1.1\r\nX\r\n: y\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: upnp:rootdevice\r\nX-\x00\xff: z\r\n\r\n",
			group, ssdp.Search{Target: root, MaxWait: time.Second}},
		{"long wait", "M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\nMX: 120\r\nST: upnp:rootdevice\r\n\r\n",
			group, ssdp.Search{Target: root, MaxWait: ssdp.MaxWait}},
		{"endless wait", "M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\nMX: 99999999999999999999999\r\nST: upnp:rootdevice\r\n\r\n",
			group, ssdp.Search{Target: root, MaxWait: ssdp.MaxWait}},
		{"no wait", "M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\nMX: 0\r\nST: upnp:rootdevice\r\n\r\n",
			group, ssdp.Search{Target: root}},
		{"to one device, without MX", "M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\nST: upnp:rootdevice\r\n\r\n",
			unicast, ssdp.Search{Target: root}},
		{"to one device, with MX", "M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\nMX: 3\r\nST: upnp:rootdevice\r\n\r\n",
			unicast, ssdp.Search{Target: root}},
	}
	for _, tt := range tests {
		if got, err := ssdp.ParseSearch([]byte(tt.text), tt.to); err != nil || got != tt.want {
			t.Errorf("%s: got %+v, %v, want %+v", tt.name, got, err, tt.want)
		}
	}
}

func TestParseSearchIgnores(t *testing.T) {
	const good = "M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: upnp:rootdevice\r\n\r\n"
	replace := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	tests := map[string]string{
		"nothing":              "",
		"one line":             "M-SEARCH * HTTP/1.1",
		"noise":                "\x00\x01\x02\xff\n\n",
		"other method":         replace("M-SEARCH", "NOTIFY"),
		"method in lower case": replace("M-SEARCH", "m-search"),
		"other target":         replace("* ", "/ "),
		"HTTP/1.0":             replace("/1.1", "/1.0"),
		"text behind version":  replace("/1.1", "/1.1 x"),
		"an answer":            replace("M-SEARCH * HTTP/1.1", "HTTP/1.1 200 OK"),
		"no MAN":               replace("MAN", "WOMAN"),
		"MAN without quotes":   replace("\"ssdp:discover\"", "ssdp:discover"),
		"other MAN":            replace("discover", "other"),
		"no MX":                replace("MX: 1\r\n", ""),
		"empty MX":             replace("MX: 1", "MX:"),
		"MX in words":          replace("MX: 1", "MX: soon"),
		"negative MX":          replace("MX: 1", "MX: -1"),
		"signed MX":            replace("MX: 1", "MX: +1"),
		"fraction":             replace("MX: 1", "MX: 1.5"),
		"no ST":                replace("ST: upnp:rootdevice\r\n", ""),
		"empty ST":             replace("upnp:rootdevice", ""),
		"ST cut off":           strings.TrimSuffix(good, "\r\n\r\n"),
		"ST twice":             replace("ST: ", "ST: ssdp:all\r\nst: "),
		"ST empty, then not":   replace("ST: ", "ST:\r\nST: "),
		"ST behind empty line": replace("ST: ", "\r\nST: "),
		"folded line":          replace("upnp:rootdevice", "upnp:rootdevice\r\n x"),
		"blank before colon":   replace("ST:", "ST :"),
		"too long":             replace("ST:", "X: "+strings.Repeat("x", ssdp.MaxLen)+"\r\nST:"),
	}
	for name, text := range tests {
		if got, err := ssdp.ParseSearch([]byte(text), group); err != ssdp.ErrIgnore {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	if _, err := ssdp.ParseSearch([]byte(good), group); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

// FuzzParseSearch demands that what is read can be worded and read again.
func FuzzParseSearch(f *testing.F) {
	for _, v := range load(f) {
		if v.Trigger == "datagram" {
			f.Add(v.octets(), strings.HasPrefix(v.To, "multicast"))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, multicast bool) {
		to := unicast
		if multicast {
			to = group
		}
		s, err := ssdp.ParseSearch(b, to)
		if err != nil {
			return
		}
		mx := ""
		if multicast {
			mx = "\r\nMX: " + string(rune('0'+s.MaxWait/time.Second))
		}
		again, err := ssdp.ParseSearch([]byte("M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\""+mx+"\r\nST: "+s.Target.String()+"\r\n\r\n"), to)
		if err != nil || again != s || s.MaxWait > ssdp.MaxWait {
			t.Errorf("%+v became %+v, %v", s, again, err)
		}
		if face, items := ssdp.Match([]*ssdp.Face{face1, face2}, s.Target); (face == nil) != (len(items) == 0) || len(items) > 11 {
			t.Errorf("%v finds %v", s.Target, items)
		}
	})
}
