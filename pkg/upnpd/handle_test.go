package upnpd

import (
	"net/netip"
	"testing"
)

// estate is a LAN where the router has addresses of all kinds.
type estate struct{ home }

func (estate) Prefixes() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("192.168.50.1/24"), netip.MustParsePrefix("2001:db8::1/64"), netip.MustParsePrefix("fe80::1/64"),
	}
}

func TestAddressed(t *testing.T) {
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
				if r.addressed(estate{}) != want {
					t.Errorf("Host %q, HTTP/%s: %v", host, version, !want)
				}
			}
		}
	}
}
