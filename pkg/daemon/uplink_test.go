package daemon_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
	"igdd/pkg/vectors"
)

// foreground starts the daemon so that its log goes to a file, at the finest
// level. It serves when foreground returns.
func (r *rig) foreground(t testing.TB, more ...string) {
	t.Helper()
	r.configure(t, more...)
	r.serve(t, "-f", r.path("miniupnpd.conf"))
}

// serve is foreground with arguments of its own.
func (r *rig) serve(t testing.TB, args ...string) {
	t.Helper()
	log, err := os.Create(r.path("log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := r.Router.Command(r.program, append(args, "-d", "-P", r.path("pid"))...)
	cmd.Env, cmd.Stderr = r.env, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go cmd.Wait()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", r.log(t))
		}
	})
	await(t, "the daemon to listen", func() bool { return strings.Contains(r.log(t), "Listening for NAT-PMP/PCP") })
}

// log returns what a daemon in the foreground has logged.
func (r *rig) log(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(r.path("log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// heard is a datagram that a listener got.
type heard struct {
	from   netip.AddrPort
	octets []byte
}

// listen hears what the first client gets at an address, for as long as the
// test lasts.
func (r *rig) listen(t testing.TB, at string) <-chan heard {
	t.Helper()
	var c *net.UDPConn
	err := r.Clients[0].Do(func() error {
		eth0, err := net.InterfaceByName("eth0")
		if err == nil {
			c, err = net.ListenMulticastUDP("udp4", eth0, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(at)))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return hear(c)
}

// hear returns what arrives at a socket until it is closed.
func hear(c *net.UDPConn) <-chan heard {
	all := make(chan heard, 4096)
	go func() {
		defer close(all)
		for {
			b := make([]byte, 2048)
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			select {
			case all <- heard{from, b[:n]}:
			default: // the test does not read on
			}
		}
	}()
	return all
}

// TestAnnouncements plays the vectors whose packets come unasked: the first
// three of each series. What an event before it has set off may come first.
func TestAnnouncements(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	group := r.listen(t, "224.0.0.1:5350")
	for _, v := range append(vectors.Load(t, "natpmp"), vectors.Load(t, "pcp")...) {
		if !v.Expect.Capture {
			continue
		}
		t.Run(v.ID, func(t *testing.T) {
			for len(group) > 0 {
				<-group
			}
			r.start(t)
			defer r.clear(t)
			client, packets := r.socket(t), group
			for _, step := range v.Before {
				switch step.Op {
				case "send":
					if _, err := client.WriteToUDPAddrPort(step.Request, netip.AddrPortFrom(step.Destination, 5351)); err != nil {
						t.Fatal(err)
					}
					packets = hear(client)
					if answer := <-packets; result(answer.octets) != step.Result {
						t.Fatalf("set-up request: %x", answer.octets)
					}
				case "wan":
					r.moveUplink(t, step.Addr)
				}
			}
			demand(t, v.Expect, packets)
		})
	}
}

// socket returns a UDP socket of the first client.
func (r *rig) socket(t testing.TB) (c *net.UDPConn) {
	t.Helper()
	err := r.Clients[0].Do(func() (err error) {
		c, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(client1, 0)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// demand waits for three packets in a row that are as expected.
func demand(t testing.TB, want vectors.Expectation, packets <-chan heard) {
	t.Helper()
	deadline := time.After(patience)
	var last []string
	for n := 0; n < 3; {
		select {
		case p := <-packets:
			differences := want.Check(p.octets)
			if p.from != netip.AddrPortFrom(netlab.RouterLAN.Addr(), want.SourcePort) {
				differences = append(differences, fmt.Sprintf("sent by %v", p.from))
			}
			if len(differences) == 0 {
				n++
			} else {
				last = append(differences, fmt.Sprintf("%x", p.octets))
			}
		case <-deadline:
			t.Fatalf("%d of 3 packets came, instead of another: %q", n, last)
		}
	}
}

// externalAddr returns the external address as clients are told: NAT-PMP's
// result code and the address.
func (r *rig) externalAddr(t testing.TB) (result byte, a netip.Addr, epoch uint32) {
	t.Helper()
	reply, _ := exchange(t, r.Clients[0], client1, netlab.RouterLAN.Addr(), []byte{0, 0}, patience)
	if len(reply) != 12 {
		t.Fatalf("reply %x to a request for the address", reply)
	}
	return reply[3], netip.AddrFrom4([4]byte(reply[8:])), binary.BigEndian.Uint32(reply[4:])
}

// awaitExternalAddr waits until clients are told the address, or that there is none,
// and logs how long it took. It returns the epoch that they are told with it.
func (r *rig) awaitExternalAddr(t testing.TB, want netip.Addr) (epoch uint32) {
	t.Helper()
	began := time.Now()
	await(t, fmt.Sprintf("clients to be told %v", want), func() bool {
		result, a, e := r.externalAddr(t)
		epoch = e
		return want.IsValid() && result == 0 && a == want || !want.IsValid() && result == 3
	})
	t.Logf("told %v after %v", want, time.Since(began).Round(time.Millisecond))
	return epoch
}

// at returns an IPv4 address, the zero Addr for "".
func at(text string) netip.Addr {
	a, _ := netip.ParseAddr(text)
	return a
}

// TestUplinkChanges changes the uplink as providers and administrators do. Clients
// are told at once, and no mapping is lost.
func TestUplinkChanges(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	r.foreground(t, "enable_upnp=yes")
	group := r.listen(t, "224.0.0.1:5350")
	r.Router.Sysctl(t, "net/ipv4/conf/wan0/promote_secondaries", "1")
	r.Clients[0].Echo(t, "tcp", "192.168.50.10:4000")
	r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
	had := netlab.RouterWAN.Addr()
	for _, step := range []struct {
		what, does string
		told       string // the address, "" for none
	}{
		{"the address is lost", "-4 address flush dev wan0", ""},
		{"it is gained", "address add 11.22.33.44/24 dev wan0", "11.22.33.44"},
		{"the link goes down", "link set wan0 down", ""},
		{"it comes up", "link set wan0 up", "11.22.33.44"},
		{"a second address comes", "address add 11.22.33.46/24 dev wan0", "11.22.33.44"},
		{"the first one goes", "address del 11.22.33.44/24 dev wan0", "11.22.33.46"},
		{"the interface gets another name", "link set wan0 down; link set wan0 name other; link set other up", ""},
		{"it gets its name back", "link set other down; link set other name wan0; link set wan0 up", "11.22.33.46"},
		{"it gets a private address", "-4 address flush dev wan0; address add 10.1.2.3/24 dev wan0", "10.1.2.3"},
		{"it is deleted", "link del wan0", ""},
		{"it is made anew", "link add wan0 type veth peer name far0; link set far0 up; link set wan0 up; address add 11.22.33.47/24 dev wan0", "11.22.33.47"},
		{"it bounces", strings.Repeat("-4 address flush dev wan0; address add 11.22.33.48/24 dev wan0; ", 49) +
			"-4 address flush dev wan0; address add 11.22.33.48/24 dev wan0", "11.22.33.48"},
	} {
		t.Run(step.what, func(t *testing.T) {
			for len(group) > 0 {
				<-group
			}
			for command := range strings.SplitSeq(step.does, "; ") {
				r.Router.IP(t, strings.Fields(command)...)
			}
			told := at(step.told)
			epoch := r.awaitExternalAddr(t, told)
			if told.IsValid() && told != had {
				if epoch > 15 {
					t.Errorf("epoch %d with a new address, want a new one", epoch)
				}
				r.awaitAnnouncement(t, group, told)
			}
			if told.IsValid() {
				had = told
			}
			r.awaitAddress(t, step.told)
			r.demandKept(t, told)
		})
	}
	if n := strings.Count(r.log(t), "Reserved / private IP address 10.1.2.3"); n != 1 {
		t.Errorf("the private address is logged %d times, want once", n)
	}
}

// awaitAnnouncement waits for the announcement of an address.
func (r *rig) awaitAnnouncement(t testing.TB, group <-chan heard, a netip.Addr) {
	t.Helper()
	for deadline := time.After(patience); ; {
		select {
		case p := <-group:
			if len(p.octets) == 12 && p.octets[0] == 0 && netip.AddrFrom4([4]byte(p.octets[8:])) == a {
				return
			}
		case <-deadline:
			t.Fatalf("%v is not announced", a)
		}
	}
}

// awaitAddress waits until GetExternalIPAddress says the address.
func (r *rig) awaitAddress(t testing.TB, want string) {
	t.Helper()
	await(t, fmt.Sprintf("UPnP to say %q", want), func() bool {
		status, answer := r.invoke(t, "GetExternalIPAddress", "")
		return status == 200 && strings.Contains(answer, "<NewExternalIPAddress>"+want+"</NewExternalIPAddress>")
	})
}

// demandKept demands that the mapping of TCP port 4000 is there, and can be
// renewed when there is an address.
func (r *rig) demandKept(t testing.TB, external netip.Addr) {
	t.Helper()
	if rules, jumps := r.state(t); rules != 2 || jumps != 2 {
		t.Errorf("%d rules and %d jumps, want 2 and 2", rules, jumps)
	}
	resp := r.natpmpMap(t, r.Clients[0], client1, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
	if want := map[bool]natpmp.Result{true: natpmp.Success, false: natpmp.NetworkFailure}[external.IsValid()]; resp.Result != want {
		t.Errorf("a renewal has result %d, want %d", resp.Result, want)
	}
}

// TestUplinksOfOtherKinds has traffic come in on uplinks that are named by a
// pattern, created late, second, private, or known by another address.
func TestUplinksOfOtherKinds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		what  string
		conf  []string
		does  string // before traffic comes in
		far   string // the host that it comes from; "": the one behind wan0
		to    string // the address of the router there
		told  string // the address that clients know
		later string // what happens then
		then  string // and the address that clients know by that
	}{
		{"the second takes over", []string{"ext_ifname2=wan1"},
			"-4 address flush dev wan0", "wan1", "22.33.44.55", "22.33.44.55",
			"address add 11.22.33.44/24 dev wan0; route replace default via 11.22.33.1", "11.22.33.44"},
		{"a pattern, dialled anew", []string{"ext_ifname=ppp+"},
			"link set wan1 down; link set wan1 name ppp7; link set ppp7 up", "wan1", "22.33.44.55", "22.33.44.55",
			"link set ppp7 down; link set ppp7 name ppp0; link set ppp0 up; address add 22.33.44.56/24 dev ppp0; address del 22.33.44.55/24 dev ppp0", "22.33.44.56"},
		{"created after the start", []string{"ext_ifname=wan9"},
			"link set wan1 down; link set wan1 name wan9; link set wan9 up", "wan1", "22.33.44.55", "22.33.44.55",
			"link set wan9 down", ""},
		{"private", nil,
			"-4 address flush dev wan0; address add 192.168.99.2/24 dev wan0", "", "192.168.99.2", "192.168.99.2",
			"-4 address flush dev wan0; address add 11.22.33.44/24 dev wan0", "11.22.33.44"},
		{"a configured address", []string{"ext_ip=203.0.113.9"},
			"", "", "11.22.33.44", "203.0.113.9",
			"-4 address flush dev wan0", ""},
		{"the address that a STUN server sees", []string{"ext_perform_stun=yes", "ext_stun_host=11.22.33.1", "ext_stun_port=3478"},
			"", "", "11.22.33.44", "203.0.113.7",
			"-4 address flush dev wan0", ""},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, "legacy", netlab.Layout{SecondWAN: true})
			r.Router.Sysctl(t, "net/ipv4/conf/all/promote_secondaries", "1")
			r.WAN.Address(t, "eth0", netip.MustParsePrefix("192.168.99.1/24"))
			r.serveSTUN(t, at("203.0.113.7"))
			r.start(t, tt.conf...)
			for command := range strings.SplitSeq(tt.does, "; ") {
				if command != "" {
					r.Router.IP(t, strings.Fields(command)...)
				}
			}
			r.awaitExternalAddr(t, at(tt.told))
			r.Clients[0].Echo(t, "tcp", "192.168.50.10:4000")
			r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
			from := r.WAN
			if tt.far == "wan1" {
				from = r.WAN2
				r.Router.IP(t, "route", "replace", "default", "via", "22.33.44.1")
			}
			netlab.Probe{Network: "tcp", From: from, To: netip.AddrPortFrom(at(tt.to), 4000)}.Arrives(t)
			for command := range strings.SplitSeq(tt.later, "; ") {
				r.Router.IP(t, strings.Fields(command)...)
			}
			r.awaitExternalAddr(t, at(tt.then))
			if rules, _ := r.state(t); rules != 2 {
				t.Errorf("%d rules are left, want 2", rules)
			}
		})
	}
}

// serveSTUN answers Binding requests at the provider's end of the uplink with
// an address (RFC 5389, section 15.2).
func (r *rig) serveSTUN(t testing.TB, seen netip.Addr) {
	t.Helper()
	var c *net.UDPConn
	err := r.WAN.Listen(func() (err error) {
		c, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("11.22.33.1:3478")))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 1500)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			if n < 20 {
				continue
			}
			answer := append([]byte{1, 1, 0, 12}, b[4:20]...)
			answer = append(answer, 0, 0x20, 0, 8, 0, 1, 0, 0)
			for i, octet := range seen.As4() {
				answer = append(answer, octet^b[4+i])
			}
			c.WriteToUDPAddrPort(answer, from)
		}
	}()
}
