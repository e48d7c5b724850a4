package daemon_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
	"igdd/pkg/netlab/upstreamlab"
	"igdd/pkg/pcp"
)

// gateway is the address of the router in front, and ownUplink that of the one behind it.
var gateway, ownUplink = netlab.ChainLink(0).Addr(), netlab.ChainLink(0).Addr().Next()

// fronted is a router with the daemon behind one that does as it is told.
type fronted struct {
	*rig
	front *upstreamlab.Server
	rigs  []*rig
}

// newFronted makes one whose router in front conducts itself so. The settings are those
// of the daemon.
func newFronted(t *testing.T, variant, upstream string, c upstreamlab.Conduct) *fronted {
	t.Helper()
	rigs := newChain(t, variant, 2)
	c.External = outermost
	f := &fronted{rigs[1], upstreamlab.Serve(t, rigs[0].Router, gateway, c), rigs}
	rigs[0].ipt(t, "-A", "FORWARD", "-i", "wan0", "-m", "conntrack", "--ctstate", "DNAT", "-j", "ACCEPT")
	f.ipt(t, "-I", "INPUT", "-i", "wan0", "-d", "224.0.0.1", "-j", "ACCEPT")
	f.foreground(t, chainConf(upstream)...)
	return f
}

// fewPorts are the external ports of a provider's router or of a VPN.
var fewPorts = []uint16{52000, 52001, 52002, 52003}

// forwards reports whether the router in front forwards this external port.
func (f *fronted) forwards(external uint16) bool {
	return slices.ContainsFunc(f.front.Leases(), func(l upstreamlab.Lease) bool { return l.External == external })
}

// renewals returns how often the router in front was asked to go on to forward one of its
// ports to a TCP port of this router.
func (f *fronted) renewals(port, external uint16) (n int) {
	for _, a := range f.front.Asked() {
		if a.Protocol == 6 && a.Port == port && a.Suggested == external && a.Lifetime > 0 {
			n++
		}
	}
	return n
}

// demandLocal asks by PCP for a port that nobody reaches from outside: the client is told
// so soon, and the mapping stands.
func (f *fronted) demandLocal(t *testing.T, port uint16) {
	t.Helper()
	resp := f.pcp(t, 0, pcpMap(client1, 6, 4000+port%1000, port))
	if resp.Result != pcp.Success || resp.External != netip.AddrPortFrom(ownUplink, port) || resp.Lifetime > shortLease {
		t.Errorf("port %d: %v as %v for %v, want this router's own for a short time", port, resp.Result, resp.External, resp.Lifetime)
	}
}

// shortLease is the longest lifetime of a mapping that is not forwarded: its client asks
// again soon.
const shortLease = 2 * time.Minute

// TestVPN has a router in front that gives other ports than those asked for, for seconds.
func TestVPN(t *testing.T) {
	t.Parallel()
	f := newFronted(t, "nft", "natpmp", upstreamlab.Conduct{NATPMP: true, Ports: fewPorts, Lease: 8 * time.Second})
	f.awaitExternalAddr(t, outermost)
	await(t, "AddAnyPortMapping to tell the outermost port", func() bool {
		return f.upnpc(t, "rootDesc2.xml", "-n", "tcp", 41000) == netip.AddrPortFrom(outermost, 52000)
	})
	dialOuter(f.rigs, "tcp", 52000).Arrives(t)
	f.demandSamePort(t)
	resp := f.grant(t, mapping(natpmp.MapUDP, 4000, 41000, time.Hour))
	if resp.ExternalPort != 52000 || resp.Lifetime > 8*time.Second {
		t.Errorf("NAT-PMP tells %+v", resp)
	}
	dialOuter(f.rigs, "udp", 52000).Arrives(t)
	await(t, "two renewals", func() bool { return f.renewals(41000, 52000) >= 2 })
	f.Clients[0].Run(t, "upnpc", "-u", "http://192.168.50.1:5000/rootDesc2.xml", "-d", "52000", "tcp")
	await(t, "the port to be given back", func() bool {
		return !slices.ContainsFunc(f.front.Leases(), func(l upstreamlab.Lease) bool { return l.Protocol == 6 })
	})
	dialOuter(f.rigs, "tcp", 52000).Blocked(t)
}

// demandSamePort makes requests that no other port will do for: they are refused, and
// leave nothing here or in front.
func (f *fronted) demandSamePort(t *testing.T) {
	t.Helper()
	rules, leases := f.chains(t), f.front.Leases()
	for document, code := range map[string]string{"rootDesc.xml": "718", "rootDesc2.xml": "729"} {
		at := "http://192.168.50.1:5000/" + document
		await(t, "a refusal by "+code, func() bool { // unless the router in front is late
			said, err := f.Clients[0].Command("upnpc", "-u", at, "-a", "@", "4000", "41010", "tcp", "600").CombinedOutput()
			if err == nil {
				f.Clients[0].Command("upnpc", "-u", at, "-d", fmt.Sprint(f.outerPort(t, 41010)), "tcp").Run()
			}
			return strings.Contains(string(said), "failed with code "+code)
		})
	}
	req := pcpMap(client1, 6, 4001, 41011, pcp.PreferFailure{})
	await(t, "a refusal by CANNOT_PROVIDE_EXTERNAL", func() bool {
		resp := f.pcp(t, 0, req)
		if resp.Result == pcp.Success {
			deletion := pcpMap(client1, 6, 4001, 0)
			deletion.Lifetime = 0
			f.pcp(t, 0, deletion)
		}
		return resp.Result == pcp.CannotProvideExternal
	})
	if now := f.chains(t); now != rules {
		t.Errorf("after refusals the rules are\n%s\nwere\n%s", now, rules)
	}
	await(t, "ports to be given back", func() bool { return slices.Equal(f.front.Leases(), leases) })
}

// outerPort returns the external port by which UPnP clients know the mapping of a port.
func (f *fronted) outerPort(t *testing.T, port uint16) uint16 {
	t.Helper()
	for _, l := range f.front.Leases() {
		if l.Protocol == 6 && l.To.Port() == port {
			return l.External
		}
	}
	return port
}

// TestFewPortsInFront has a provider's router that has few ports.
func TestFewPortsInFront(t *testing.T) {
	t.Parallel()
	f := newFronted(t, "legacy", "auto", upstreamlab.Conduct{PCP: true, Ports: fewPorts})
	var told []uint16
	for i := range fewPorts {
		told = append(told, f.awaitOuter(t, pcpMap(client1, 6, uint16(4000+i), uint16(41000+i))).External.Port())
	}
	slices.Sort(told)
	if !slices.Equal(told, fewPorts) {
		t.Errorf("told %v, want %v", told, fewPorts)
	}
	f.demandLocal(t, 41004)
	if n := unreachable(t, f.rig); n != 1 {
		t.Errorf("%d mappings are listed as not reachable, want 1", n)
	}
	renewal := pcpMap(client1, 6, 4000, 52000, pcp.PreferFailure{})
	if resp := f.pcp(t, 0, renewal); resp.Result != pcp.Success || resp.External.Port() != 52000 {
		t.Errorf("a renewal of the same port and no other: %v, %v", resp.Result, resp.External)
	}
	dialOuter(f.rigs, "tcp", 52000).Arrives(t)
}

// TestSlowRouterInFront has a router in front that answers later than clients can wait:
// they are told at first what is here, and then what is there.
func TestSlowRouterInFront(t *testing.T) {
	t.Parallel()
	f := newFronted(t, "nft", "pcp", upstreamlab.Conduct{PCP: true, Ports: fewPorts, Delay: 400 * time.Millisecond})
	c := f.socket(t)
	packets := hear(c)
	req := pcpMap(client1, 6, 4000, 41000)
	if _, err := c.WriteToUDPAddrPort(req.Append(nil), netip.AddrPortFrom(netlab.RouterLAN.Addr(), pcp.ServerPort)); err != nil {
		t.Fatal(err)
	}
	first := nextMap(t, packets)
	if first.Result != pcp.Success || first.External != netip.AddrPortFrom(ownUplink, 41000) || first.Lifetime > shortLease {
		t.Errorf("at first: %v as %v for %v", first.Result, first.External, first.Lifetime)
	}
	for {
		later := nextMap(t, packets)
		if later.Nonce != req.Nonce || later.InternalPort != 4000 {
			t.Fatalf("an update of another mapping: %+v", later)
		}
		if later.External == netip.AddrPortFrom(outermost, 52000) {
			break
		}
	}
	dialOuter(f.rigs, "tcp", 52000).Arrives(t)
}

// nextMap returns the next MAP response.
func nextMap(t *testing.T, packets <-chan heard) pcp.Response {
	t.Helper()
	for deadline := time.After(patience); ; {
		select {
		case p := <-packets:
			if resp, err := pcp.ParseResponse(p.octets); err == nil && resp.Opcode == pcp.Map {
				return resp
			}
		case <-deadline:
			t.Fatal("no response to MAP comes")
		}
	}
}

// TestRouterInFrontChanges has the router in front lose its mappings, get another
// external address, or go and come back.
func TestRouterInFrontChanges(t *testing.T) {
	t.Parallel()
	for _, upstream := range []string{"pcp", "natpmp"} {
		for what, change := range map[string]func(*fronted, *testing.T){
			"restarted": (*fronted).restarted, "renumbered": (*fronted).renumbered, "gone and back": (*fronted).goneAndBack,
		} {
			t.Run(upstream+", "+what, func(t *testing.T) {
				t.Parallel()
				f := newFronted(t, "legacy", upstream, upstreamlab.Conduct{PCP: upstream == "pcp", NATPMP: upstream == "natpmp", Ports: fewPorts})
				f.awaitOuter(t, pcpMap(client1, 6, 4000, 41000))
				change(f, t)
			})
		}
	}
}

// restarted has the router in front restart: what it forgot is asked for anew.
func (f *fronted) restarted(t *testing.T) {
	f.front.Restart()
	f.front.Announce()
	await(t, "the port to be forwarded again", func() bool { return f.forwards(52000) })
	dialOuter(f.rigs, "tcp", 52000).Arrives(t)
}

// renumbered has the router in front get another external address and lose its mappings.
func (f *fronted) renumbered(t *testing.T) {
	second := netip.MustParseAddr("11.22.33.55")
	f.rigs[0].Router.Address(t, "wan0", netip.PrefixFrom(second, 24))
	f.front.Conduct(func(c *upstreamlab.Conduct) { c.External = second })
	f.front.Restart()
	f.front.Announce()
	await(t, "an endpoint of the new address", func() bool {
		resp := f.pcp(t, 0, pcpMap(client1, 6, 4000, 41000))
		return resp.External == netip.AddrPortFrom(second, 52000)
	})
	if epoch := f.awaitExternalAddr(t, second); epoch > 30 {
		t.Errorf("the epoch is %d after a new address", epoch)
	}
	netlab.Probe{Network: "tcp", From: f.rigs[0].WAN, To: netip.AddrPortFrom(second, 52000)}.Arrives(t)
}

// goneAndBack has the router in front fall silent, and answer again without mappings.
func (f *fronted) goneAndBack(t *testing.T) {
	f.front.Conduct(func(c *upstreamlab.Conduct) { c.Silent = true })
	f.front.Restart()
	f.demandLocal(t, 41001)
	await(t, "the list to say so", func() bool { return unreachable(t, f.rig) > 0 })
	f.demandLocal(t, 41002)
	f.front.Conduct(func(c *upstreamlab.Conduct) { c.Silent = false })
	await(t, "all ports to be forwarded", func() bool { return len(f.front.Leases()) == 3 })
	for i := range uint16(3) {
		told := f.awaitOuter(t, pcpMap(client1, 6, 4000+i, 41000+i)).External
		if i == 0 {
			dialOuter(f.rigs, "tcp", told.Port()).Arrives(t)
		}
	}
}

// lies are what a router in front may say that must not be believed.
var lies = []struct {
	name string
	lie  func(*upstreamlab.Answer)
	back bool // what is said to be forwarded so is given back
}{
	{name: "another nonce", lie: func(a *upstreamlab.Answer) { a.Nonce[0] ^= 1 }},
	{name: "another internal port", lie: func(a *upstreamlab.Answer) { a.Internal++ }},
	{name: "port 0", lie: func(a *upstreamlab.Answer) { a.External = netip.AddrPortFrom(a.External.Addr(), 0) }},
	{name: "no address", lie: func(a *upstreamlab.Answer) {
		a.External = netip.AddrPortFrom(netip.IPv4Unspecified(), a.External.Port())
	}},
	{name: "a loopback address", lie: func(a *upstreamlab.Answer) { a.External = netip.AddrPortFrom(at("127.0.0.1"), a.External.Port()) }},
	{name: "a multicast address", lie: func(a *upstreamlab.Answer) { a.External = netip.AddrPortFrom(at("224.0.0.1"), a.External.Port()) }},
	{name: "an IPv6 address", lie: func(a *upstreamlab.Answer) { a.External = netip.AddrPortFrom(at("2001:db8::1"), a.External.Port()) }},
	{name: "an address of this router", back: true, lie: func(a *upstreamlab.Answer) {
		a.External = netip.AddrPortFrom(netlab.RouterLAN.Addr(), a.External.Port())
	}},
	{name: "another source port", lie: func(a *upstreamlab.Answer) { a.Stray = true }},
	{name: "no lifetime", lie: func(a *upstreamlab.Answer) { a.Lifetime = 0 }},
}

// TestLyingRouterInFront has a router in front say what is not so: nobody is told it,
// clients are served, and it is not asked without end.
func TestLyingRouterInFront(t *testing.T) {
	t.Parallel()
	for i, l := range lies {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			f := newFronted(t, netlab.Variants[i%2], "pcp", upstreamlab.Conduct{PCP: true})
			f.awaitOuter(t, pcpMap(client1, 6, 4000, 41000))
			f.front.Conduct(func(c *upstreamlab.Conduct) { c.Lie = l.lie })
			f.demandLocal(t, 41001)
			f.demandLocal(t, 41001)
			f.grant(t, mapping(natpmp.MapUDP, 4000, 41000, time.Hour))
			if l.back {
				await(t, "all but the first to be given back", func() bool { return len(f.front.Leases()) == 1 })
			}
			dialOuter(f.rigs, "tcp", 41000).Arrives(t)
			if n := f.front.Packets(); n > 60 {
				t.Errorf("%d packets have come to the router in front", n)
			}
		})
	}
}

// TestUpstreamForEver has a router in front grant its ports for 136 years.
func TestUpstreamForEver(t *testing.T) {
	t.Parallel()
	f := newFronted(t, "nft", "pcp", upstreamlab.Conduct{PCP: true, Lease: pcp.Forever})
	resp := f.awaitOuter(t, pcpMap(client1, 6, 4000, 41000))
	if resp.Lifetime != time.Hour {
		t.Errorf("granted for %v, want what the client asked for", resp.Lifetime)
	}
	dialOuter(f.rigs, "tcp", 41000).Arrives(t)
}

// TestNoisyRouterInFront has each answer from the router in front follow hundreds that
// nobody asked for, and thousands of announcements come that are not true: nothing is
// opened for them, clients are served, and the router in front is not asked as often.
func TestNoisyRouterInFront(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]upstreamlab.Conduct{"pcp": {PCP: true, Noise: 100}, "natpmp": {NATPMP: true, Noise: 100}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFronted(t, "legacy", name, c)
			f.awaitOuter(t, pcpMap(client1, 6, 4000, 41000))
			before := f.front.Packets()
			var flood sync.WaitGroup
			flood.Go(func() { f.front.Flood(20000) })
			for i := range uint16(10) {
				f.awaitOuter(t, pcpMap(client1, 6, 4000+i, 41000+i))
			}
			flood.Wait()
			f.awaitOuter(t, pcpMap(client1, 17, 4000, 41000))
			dialOuter(f.rigs, "tcp", 41000).Arrives(t)
			dialOuter(f.rigs, "udp", 41000).Arrives(t)
			if rules, forwardings := len(f.rulesOf(t, "nat", "MINIUPNPD")), len(f.front.Leases()); rules != 11 || forwardings != 11 {
				t.Errorf("%d rules and %d forwardings, want 11", rules, forwardings)
			}
			if n := f.front.Packets() - before; n > 300 {
				t.Errorf("%d packets have come to the router in front", n)
			}
		})
	}
}

// TestNothingLeaves demands that no router in front is asked unless the settings say so,
// from the daemon's start to its end.
func TestNothingLeaves(t *testing.T) {
	t.Parallel()
	rigs := newChain(t, "legacy", 2)
	r := rigs[1]
	r.ipt(t, "-P", "INPUT", "ACCEPT")
	front := upstreamlab.Serve(t, rigs[0].Router, gateway, upstreamlab.Conduct{NATPMP: true, PCP: true, External: outermost})
	capture := upstreamlab.NewCapture(t, r.Router, "wan0")
	for _, conf := range [][]string{chainConf("no"), slices.DeleteFunc(chainConf("no"), func(l string) bool { return strings.HasPrefix(l, "upstream=") })} {
		r.start(t, conf...)
		front.Announce()
		for range 2 {
			r.pcp(t, 0, pcpMap(client1, 6, 4000, 41000))
			r.natpmpMap(t, r.Clients[0], client1, mapping(natpmp.MapUDP, 4000, 41000, time.Hour))
			r.addMapping(t, 0, "AddPortMapping", 41001)
		}
		netlab.Probe{Network: "tcp", From: rigs[0].Router, To: netip.AddrPortFrom(ownUplink, 41000)}.Arrives(t)
		r.stop(t, syscall.SIGTERM)
	}
	for _, p := range capture.Sent(t) {
		if p.Protocol == 17 || p.To.Addr() != gateway || p.To.Port() == 5000 {
			t.Errorf("%+v has left", p)
		}
	}
	if n := front.Packets(); n != 0 {
		t.Errorf("%d packets have come to the router in front", n)
	}
}

// TestOnlyTheGatewayIsAsked demands that requests go to the default gateway and no
// further.
func TestOnlyTheGatewayIsAsked(t *testing.T) {
	t.Parallel()
	rigs := newChain(t, "nft", 2)
	front := upstreamlab.Serve(t, rigs[0].Router, gateway, upstreamlab.Conduct{PCP: true, External: outermost})
	capture := upstreamlab.NewCapture(t, rigs[1].Router, "wan0")
	rigs[1].start(t, chainConf("auto")...)
	rigs[1].awaitOuter(t, pcpMap(client1, 6, 4000, 41000))
	for _, p := range capture.Sent(t) {
		if p.Protocol != 1 && (p.To.Addr() != gateway || p.TTL != 1) { // ICMP tells that an answer is late
			t.Errorf("%+v has left", p)
		}
	}
	if front.Packets() == 0 {
		t.Error("no packets have come to the router in front")
	}
}

// TestThirdPartyStaysHere demands that what one client asks for in the name of another is
// asked for upstream in this router's own.
func TestThirdPartyStaysHere(t *testing.T) {
	t.Parallel()
	rigs := newChain(t, "nft", 2)
	front := upstreamlab.Serve(t, rigs[0].Router, gateway, upstreamlab.Conduct{PCP: true, External: outermost})
	rigs[1].start(t, append(chainConf("pcp"), "pcp_allow_thirdparty=yes")...)
	other := netip.MustParseAddr("192.168.50.77")
	rigs[1].awaitOuter(t, pcpMap(client1, 6, 4000, 41000, pcp.ThirdParty{Internal: other}))
	for _, a := range front.Asked() {
		if slices.ContainsFunc(a.Options, func(o pcp.Option) bool { _, is := o.(pcp.ThirdParty); return is }) {
			t.Errorf("asked: %+v", a)
		}
	}
}
