package daemon_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/control"
	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
	"igdd/pkg/pcp"
)

// sixes are the clients' IPv6 addresses.
var sixes = []netip.Addr{addr6, netip.MustParseAddr("2001:db8:50::11")}

// ruleFor is a permission rule about the ports of an address.
func ruleFor(verb, network string) string { return verb + " 1024-65535 " + network + " 1024-65535" }

const denyAll = "deny 0-65535 0.0.0.0/0 0-65535"

// flush makes the router forget its neighbours, and these the router: a host that
// probes whether its router is still there would make itself known again.
func (r *rig) flush(t testing.TB) {
	t.Helper()
	for _, c := range r.Clients {
		c.IP(t, "neigh", "flush", "dev", "eth0")
	}
	r.Router.IP(t, "neigh", "flush", "dev", "lan0")
}

// lease writes DHCP leases of clients.
func (r *rig) lease(t testing.TB, addresses ...string) {
	t.Helper()
	var text strings.Builder
	for i, a := range addresses {
		fmt.Fprintf(&text, "0 %v %s * *\n", r.hardware(t, i), a)
	}
	if err := os.WriteFile(r.path("dnsmasq.leases"), []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// hardware returns the hardware address of the i-th client.
func (r *rig) hardware(t testing.TB, i int) (a net.HardwareAddr) {
	t.Helper()
	err := r.Clients[i].Do(func() error {
		link, err := net.InterfaceByName("eth0")
		if err == nil {
			a = link.HardwareAddr
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// speak has both clients send a request over IPv4, so that the router knows them.
func speak(t *testing.T, r *rig) {
	t.Helper()
	for i, source := range []netip.Addr{client1, client2} {
		if reply, _ := exchange(t, r.Clients[i], source, netlab.RouterLAN.Addr(), []byte{0, 0}, patience); len(reply) == 0 {
			t.Fatalf("the router does not answer %v", source)
		}
	}
}

// TestRulesForSingleHostsOverIPv6 requests pinholes for two hosts by PCP and UPnP,
// and asks as the operator. The router knows nothing of the hosts but what each
// case says.
func TestRulesForSingleHostsOverIPv6(t *testing.T) {
	t.Parallel()
	r := newPCPRig(t, "nft")
	nothing := func(*testing.T, *rig) {}
	for _, tt := range []struct {
		what   string
		rules  []string
		before func(*testing.T, *rig)
		want   [2]bool // whether the clients get ports
	}{
		{"one may, and answers when it is asked for", []string{ruleFor("allow", "192.168.50.10/32"), denyAll}, nothing, [2]bool{true, false}},
		{"the other may", []string{ruleFor("allow", "192.168.50.11/32"), denyAll}, nothing, [2]bool{false, true}},
		{"an address without a host may", []string{ruleFor("allow", "192.168.50.77/32"), denyAll}, nothing, [2]bool{false, false}},
		{"half of the LAN may, and nothing is known", []string{ruleFor("allow", "192.168.50.0/25"), denyAll}, nothing, [2]bool{false, false}},
		{"half of the LAN may, and both have spoken", []string{ruleFor("allow", "192.168.50.0/25"), denyAll}, speak, [2]bool{true, true}},
		{"two of the LAN may, by their leases", []string{ruleFor("allow", "192.168.50.10/31"), denyAll},
			func(t *testing.T, r *rig) { r.lease(t, "192.168.50.10", "192.168.50.99") }, [2]bool{true, false}},
		{"one may not, and both have spoken", []string{ruleFor("deny", "192.168.50.10/32"), ruleFor("allow", "192.168.50.0/24"), denyAll}, speak, [2]bool{false, true}},
		{"an address without a host may not", []string{ruleFor("deny", "192.168.50.77/32"), ruleFor("allow", "192.168.50.0/24"), denyAll}, speak, [2]bool{true, true}},
		{"one may not, and nothing is known", []string{ruleFor("deny", "192.168.50.10/32"), ruleFor("allow", "192.168.50.0/24"), denyAll}, nothing, [2]bool{false, false}},
		{"the LAN may", []string{ruleFor("allow", "192.168.50.1/24"), denyAll}, nothing, [2]bool{true, true}},
		{"more than the LAN may", []string{ruleFor("allow", "192.168.0.0/16"), denyAll}, nothing, [2]bool{true, true}},
		{"another LAN may", []string{ruleFor("allow", "192.168.60.0/24"), denyAll}, speak, [2]bool{false, false}},
		{"every host may", []string{ruleFor("allow", "0.0.0.0/0")}, nothing, [2]bool{true, true}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			r.removeFiles(t)
			r.start(t, append(tt.rules, "ipv6=yes", "enable_upnp=yes", "dhcp_leases="+r.path("dnsmasq.leases"))...)
			defer r.stop(t, syscall.SIGTERM)
			r.flush(t)
			tt.before(t, r)
			for i, may := range tt.want {
				result, pinhole, status, verdict := pcp.NotAuthorized, "failed with code 606", 4, "PCP: refused"
				if may {
					result, pinhole, status, verdict = pcp.Success, "Pinhole ID = ", 0, "granted"
				}
				if resp := r.pcp(t, i, pcpMap(sixes[i], 6, 4000, 4000)); resp.Result != result {
					t.Errorf("client %d: %v, want %v", i, resp.Result, result)
				}
				out, _ := r.Clients[i].Command("upnpc", "-6", "-u", "http://[2001:db8:50::1]:5000/rootDesc2.xml", "-A", "", "0", "@", "4001", "6", "600").CombinedOutput()
				demandSaid(t, string(out), pinhole)
				r.says(t, "explain "+sixes[i].String()+" tcp 4002 4002", status, verdict)
			}
		})
	}
}

// TestThirdPartyCountsAsTheHostItNames maps for another host, which is what
// the rules are about.
func TestThirdPartyCountsAsTheHostItNames(t *testing.T) {
	t.Parallel()
	r := newPCPRig(t, "nft")
	r.start(t, "ipv6=yes", "pcp_allow_thirdparty=yes", ruleFor("allow", "192.168.50.11/32"), denyAll)
	for i, want := range []pcp.Result{pcp.Success, pcp.NotAuthorized} {
		r.flush(t)
		other := sixes[1-i]
		if resp := r.pcp(t, i, pcpMap(sixes[i], 6, 4000, 4000, pcp.ThirdParty{Internal: other})); resp.Result != want {
			t.Errorf("for %v: %v, want %v", other, resp.Result, want)
		}
	}
}

// TestOperatorIsToldThatAHostIsNotKnown asks for an explanation that depends on an
// address of the host that the router does not know.
func TestOperatorIsToldThatAHostIsNotKnown(t *testing.T) {
	t.Parallel()
	r := newPCPRig(t, "nft")
	r.start(t, "ipv6=yes", ruleFor("allow", "192.168.50.0/25"), denyAll)
	r.flush(t)
	const unknown = "of the host that is not known"
	if resp := r.pcp(t, 0, pcpMap(addr6, 6, 4000, 4000)); resp.Result != pcp.NotAuthorized || resp.Lifetime > time.Minute {
		t.Errorf("refused with %v for %v", resp.Result, resp.Lifetime)
	}
	r.says(t, "explain 2001:db8:50::10 tcp 4000 4000", 4, unknown)
	if out, _ := r.ctl(t, "explain", "2001:db8:50::10", "tcp", "80", "80"); strings.Contains(out, unknown) {
		t.Errorf("no host may have this port:\n%s", out)
	}
	speak(t, r)
	r.says(t, "explain 2001:db8:50::10 tcp 4000 4000", 0, "granted")
}

// TestManyRequestsOfOneHost asks for many ports at once while nothing is known
// of the host: each is answered, and other clients' requests too.
func TestManyRequestsOfOneHost(t *testing.T) {
	t.Parallel()
	r := newPCPRig(t, "nft")
	r.start(t, "ipv6=yes", ruleFor("allow", "192.168.50.77/32"), denyAll)
	r.flush(t)
	const requests = 20
	results := make(map[uint16]pcp.Result)
	err := r.Clients[0].Do(func() error {
		c, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr6, 0)), net.UDPAddrFromAddrPort(netip.AddrPortFrom(netlab.RouterLAN6.Addr(), 5351)))
		if err != nil {
			return err
		}
		defer c.Close()
		for port := range uint16(requests) {
			if _, err := c.Write(pcpMap(addr6, 6, 4000+port, 4000+port).Append(nil)); err != nil {
				return err
			}
		}
		speak(t, r)
		c.SetReadDeadline(time.Now().Add(patience))
		buf := make([]byte, 1100)
		for len(results) < requests {
			n, err := c.Read(buf)
			if err != nil {
				return err
			}
			resp, err := pcp.ParseResponse(buf[:n])
			if err != nil {
				return err
			}
			results[resp.InternalPort] = resp.Result
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%d answers: %v", len(results), err)
	}
	for port, result := range results {
		if result != pcp.NotAuthorized {
			t.Errorf("port %d: %v", port, result)
		}
	}
}

// listed returns what the daemon holds.
func (r *rig) listed(t testing.TB) (list []control.Entry) {
	t.Helper()
	text, _ := r.ctl(t, "list", "--json")
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return list
}

// TestPinholeOfANamedHostSurvivesARestart restarts the daemon while the host is
// away and the router knows nothing of it, and then lets the host come back.
func TestPinholeOfANamedHostSurvivesARestart(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		what, network string
		comesBack     func(*testing.T, *rig)
	}{
		{"it only answers", "192.168.50.10/32", func(t *testing.T, r *rig) {
			r.Clients[0].IP(t, "link", "set", "eth0", "up")
		}},
		{"it gets its lease", "192.168.50.8/29", func(t *testing.T, r *rig) { r.lease(t, "192.168.50.10") }},
		{"it renews", "192.168.50.8/29", func(t *testing.T, r *rig) {
			r.Clients[0].IP(t, "link", "set", "eth0", "up")
			r.Clients[0].IP(t, "route", "replace", "default", "via", netlab.RouterLAN.Addr().String())
			r.Clients[0].Address(t, "eth0", netip.PrefixFrom(addr6, 64))
			r.grant(t, mapping(natpmp.MapUDP, 5000, 5000, time.Hour))
			r.demandMapped(t, pcpMap(addr6, 6, 4000, 4000), 4000)
		}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			r := newPCPRig(t, "nft")
			settings := []string{"ipv6=yes", "dhcp_leases=" + r.path("dnsmasq.leases"), ruleFor("allow", tt.network), denyAll}
			r.start(t, settings...)
			speak(t, r)
			r.demandMapped(t, pcpMap(addr6, 6, 4000, 4000), 4000)
			r.dial6("tcp", "2001:db8:33::1", 4000).Arrives(t)

			r.stop(t, syscall.SIGTERM)
			r.Clients[0].IP(t, "link", "set", "eth0", "down")
			r.flush(t)
			r.start(t, settings...)
			if list := r.listed(t); len(list) != 1 || list[0].ClientPort != 4000 {
				t.Fatalf("after the restart: %+v", list)
			}
			if rules := r.pinholes(t); rules != 0 {
				t.Fatalf("%d rules for an unknown host", rules)
			}
			tt.comesBack(t, r)
			await(t, "the pinhole", func() bool { return r.pinholes(t) == 1 })
		})
	}
}

// pinholes counts the rules for pinholes.
func (r *rig) pinholes(t testing.TB) int {
	t.Helper()
	return strings.Count(r.Router.Run(t, "/usr/sbin/ip6tables-"+r.variant, "-w", "-S", "MINIUPNPD"), "-A MINIUPNPD")
}

// TestReloadReevaluatesPinholes changes the rules under two pinholes.
func TestReloadReevaluatesPinholes(t *testing.T) {
	t.Parallel()
	r := newPCPRig(t, "nft")
	r.start(t, "ipv6=yes")
	speak(t, r)
	for i, a := range sixes {
		if resp := r.pcp(t, i, pcpMap(a, 6, 4000, 4000)); resp.Result != pcp.Success {
			t.Fatalf("client %d: %v", i, resp.Result)
		}
	}
	r.configure(t, "ipv6=yes", ruleFor("allow", "192.168.50.11/32"), denyAll)
	r.kill(syscall.SIGHUP)
	await(t, "the end of one pinhole", func() bool { list := r.listed(t); return len(list) == 1 && list[0].Client == sixes[1] })
	await(t, "the rule of the other", func() bool { return r.pinholes(t) == 1 })
	if resp := r.pcp(t, 0, pcpMap(addr6, 6, 4000, 4000)); resp.Result != pcp.NotAuthorized {
		t.Errorf("again: %v", resp.Result)
	}
}

// TestRulesForHardwareAddresses lets one of two hosts have ports by its hardware
// address, as AstLinux's script writes it, by every protocol and both families.
func TestRulesForHardwareAddresses(t *testing.T) {
	t.Parallel()
	r := newPCPRig(t, "nft")
	r.installed()
	settings := []string{"ipv6=yes", "enable_upnp=yes", ruleFor("allow", r.hardware(t, 0).String()+"/32"), denyAll}
	r.start(t, settings...)
	for i, source := range []netip.Addr{client1, client2} {
		want, wantPCP, status := natpmp.Success, pcp.Success, 200
		if i > 0 {
			want, wantPCP, status = natpmp.NotAuthorized, pcp.NotAuthorized, 500
		}
		r.flush(t)
		if resp := r.natpmpMap(t, r.Clients[i], source, mapping(natpmp.MapTCP, 4000, 0, time.Hour)); resp.Result != want {
			t.Errorf("client %d by NAT-PMP: %v, want %v", i, resp.Result, want)
		}
		for _, a := range []netip.Addr{source, sixes[i]} {
			r.flush(t)
			req := pcpMap(a, 17, 4000, 0)
			if resp := r.pcp(t, i, req); resp.Result != wantPCP {
				t.Errorf("%v by PCP: %v, want %v", a, resp.Result, wantPCP)
			}
		}
		r.flush(t)
		got, body := r.invokeAs(t, r.Clients[i], "AddPortMapping", fmt.Sprintf(`<NewRemoteHost></NewRemoteHost><NewExternalPort>4002</NewExternalPort>`+
			`<NewProtocol>TCP</NewProtocol><NewInternalPort>4002</NewInternalPort><NewInternalClient>%v</NewInternalClient><NewEnabled>1</NewEnabled>`+
			`<NewPortMappingDescription>test</NewPortMappingDescription><NewLeaseDuration>600</NewLeaseDuration>`, source))
		if got != status {
			t.Errorf("client %d by UPnP: status %d, want %d: %s", i, got, status, body)
		}
	}
	r.says(t, "explain 192.168.50.10 tcp 4005 4005", 0, "allow 1024-65535 "+r.hardware(t, 0).String()+" 1024-65535")
	r.says(t, "explain 192.168.50.11 tcp 4005 4005", 4, denyAll)
	r.says(t, "explain 192.168.50.77 tcp 4005 4005", 4, "of the host that is not known")

	r.stop(t, syscall.SIGTERM)
	r.flush(t)
	r.start(t, settings...)
	for _, e := range r.listed(t) {
		if e.Dormant {
			t.Errorf("dormant after a restart: %+v", e)
		}
	}
	r.dial("tcp", 4000).Arrives(t)
	r.dial("udp", 4000).Arrives(t)
	r.dial6("udp", "2001:db8:33::1", 4000).Arrives(t)
}

// TestReloadLearnsHardwareAddresses maps ports while no rule needs hardware
// addresses, and then loads a rule that does.
func TestReloadLearnsHardwareAddresses(t *testing.T) {
	t.Parallel()
	r := newPCPRig(t, "nft")
	r.start(t)
	for i, source := range []netip.Addr{client1, client2} {
		r.natpmpMap(t, r.Clients[i], source, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
	}
	if list := r.listed(t); len(list) != 2 {
		t.Fatalf("%d mappings", len(list))
	}
	r.flush(t)
	speak(t, r)
	r.configure(t, ruleFor("deny", r.hardware(t, 1).String()))
	r.kill(syscall.SIGHUP)
	await(t, "the end of one mapping", func() bool {
		list := r.listed(t)
		return len(list) == 1 && list[0].Client == client1 && !list[0].Dormant
	})
	r.dial("tcp", 4000).Arrives(t)
}
