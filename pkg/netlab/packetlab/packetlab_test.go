package packetlab_test

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"igdd/pkg/netlab"
	"igdd/pkg/netlab/packetlab"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { os.Exit(netlab.Main(m.Run)) }

// rules end packets in each way.
const rules = `*nat
-A PREROUTING -p tcp -m tcp --dport 80 -j DNAT --to-destination TO:8080
-A PREROUTING -p udp -m udp --dport 80 -j REDIRECT --to-ports 53
-A POSTROUTING -p udp -m udp --dport 10 -j MASQUERADE --to-ports 4010
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
-A INPUT -p tcp -m tcp --dport 22 -j REJECT
-A INPUT -m conntrack ! --ctstate NEW -j DROP
-A FORWARD -p udp -m udp --dport 9 -j DROP
COMMIT
`

// families are the same networks in both families.
var families = []struct{ prefix, source, router, lan, masqueraded, elsewhere string }{
	{"", "198.51.100.7", "11.22.33.1", "192.168.77.10", "192.168.77.1", "203.0.113.1"},
	{"6", "2001:db8:ffff::7", "2001:db8:33::1", "2001:db8:77::10", "2001:db8:77::1", "2001:db8:eeee::1"},
}

// newLab makes a router with two networks.
func newLab(t *testing.T) *packetlab.Lab {
	prefixes := func(texts ...string) (list []netip.Prefix) {
		for _, text := range texts {
			list = append(list, netip.MustParsePrefix(text))
		}
		return list
	}
	lab := packetlab.New(t,
		packetlab.Device{Name: "wan0", Addresses: prefixes("11.22.33.1/24", "2001:db8:33::1/64")},
		packetlab.Device{Name: "lan0", Addresses: prefixes("192.168.77.1/24", "2001:db8:77::1/64")})
	for _, gateway := range []string{"11.22.33.254", "2001:db8:33::fe"} {
		lab.Router.IP(t, "route", "add", "default", "via", gateway)
	}
	return lab
}

// restore loads rules into the router.
func restore(t *testing.T, n *netlab.Namespace, program, text string) {
	t.Helper()
	err := n.Do(func() error {
		cmd := exec.Command(program)
		cmd.Env, cmd.Stdin, cmd.Stderr = n.Env(), strings.NewReader(text), t.Output()
		return cmd.Run()
	})
	if err != nil {
		t.Fatal(program, err)
	}
}

func TestTheKernelSaysWhereAPacketComesOut(t *testing.T) {
	for _, variant := range netlab.Variants {
		for _, f := range families {
			t.Run(variant+f.prefix, func(t *testing.T) {
				t.Parallel()
				lab := newLab(t)
				to := netip.MustParseAddr(f.lan).String()
				if f.prefix != "" {
					to = "[" + to + "]"
				}
				restore(t, lab.Router, filepath.Join(netlab.Tools(t, variant), "ip"+f.prefix+"tables-restore"), strings.ReplaceAll(rules, "TO", to))
				router, lan := netip.MustParseAddr(f.router), netip.MustParseAddr(f.lan)
				source := netip.AddrPortFrom(netip.MustParseAddr(f.source), 4000)
				packet := func(protocol int, to string, port uint16) packetlab.Packet {
					return packetlab.Packet{In: "wan0", Protocol: protocol, Source: source, Destination: netip.AddrPortFrom(netip.MustParseAddr(to), port)}
				}
				local := func(port uint16) packetlab.Arrival {
					return packetlab.Arrival{Local: true, To: netip.AddrPortFrom(router, port)}
				}
				masqueraded := netip.AddrPortFrom(netip.MustParseAddr(f.masqueraded), 4010)
				forwarded := func(out string, a netip.Addr, port uint16, from netip.AddrPort) packetlab.Arrival {
					return packetlab.Arrival{Out: out, To: netip.AddrPortFrom(a, port), From: from}
				}
				var packets []packetlab.Packet
				var want []packetlab.Arrival
				// Twice, because a second packet of a connection would be ESTABLISHED.
				for range 2 {
					packets = append(packets, packet(unix.IPPROTO_TCP, f.router, 22), packet(unix.IPPROTO_TCP, f.router, 25),
						packet(unix.IPPROTO_TCP, f.router, 80), packet(unix.IPPROTO_UDP, f.router, 80), packet(unix.IPPROTO_UDP, f.router, 25),
						packet(unix.IPPROTO_UDP, f.lan, 9), packet(unix.IPPROTO_UDP, f.lan, 10), packet(unix.IPPROTO_TCP, f.elsewhere, 9))
					want = append(want, packetlab.Arrival{}, local(25),
						forwarded("lan0", lan, 8080, source), local(53), local(25),
						packetlab.Arrival{}, forwarded("lan0", lan, 10, masqueraded), forwarded("wan0", netip.MustParseAddr(f.elsewhere), 9, source))
				}
				got, err := lab.Send(packets...)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got, want) {
					t.Errorf("got\n%v, want\n%v", got, want)
				}
			})
		}
	}
}

func TestTheRouterSendsPackets(t *testing.T) {
	for _, variant := range netlab.Variants {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			lab := newLab(t)
			restore(t, lab.Router, filepath.Join(netlab.Tools(t, variant), "iptables-restore"), strings.ReplaceAll(rules, "TO", "192.168.77.10")+
				"*filter\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -p udp -m udp --dport 9 -j DROP\nCOMMIT\n")
			own, to := netip.MustParseAddrPort("11.22.33.1:4000"), netip.MustParseAddr("203.0.113.1")
			var packets []packetlab.Packet
			for _, port := range []uint16{9, 10, 11, 10} {
				packets = append(packets, packetlab.Packet{Protocol: unix.IPPROTO_UDP, Source: own, Destination: netip.AddrPortFrom(to, port)})
			}
			got, err := lab.Send(packets...)
			translated := packetlab.Arrival{Out: "wan0", To: packets[1].Destination, From: netip.MustParseAddrPort("11.22.33.1:4010")}
			want := []packetlab.Arrival{{}, translated, {Out: "wan0", To: packets[2].Destination, From: own}, translated}
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("got\n%v, %v, want\n%v", got, err, want)
			}
		})
	}
}

func TestUnknownDevice(t *testing.T) {
	if _, err := newLab(t).Send(packetlab.Packet{In: "eth9"}); err == nil {
		t.Error("no error")
	}
}

func BenchmarkSend(b *testing.B) {
	lab := packetlab.New(b, packetlab.Device{Name: "wan0", Addresses: []netip.Prefix{netip.MustParsePrefix("11.22.33.1/24")}})
	p := packetlab.Packet{In: "wan0", Protocol: unix.IPPROTO_UDP, Source: netip.MustParseAddrPort("11.22.33.2:1"), Destination: netip.MustParseAddrPort("11.22.33.1:2")}
	for b.Loop() {
		if _, err := lab.Send(p); err != nil {
			b.Fatal(err)
		}
	}
}
