package daemon_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
	"igdd/pkg/pcp"
)

// newChain makes a rig of each of n routers that are one behind the other, the outermost
// first. Each drops what comes from its uplink unasked. The client behind the innermost
// answers on port 4000.
func newChain(t *testing.T, variant string, n int) []*rig {
	t.Helper()
	rigs := make([]*rig, n)
	for i, lab := range netlab.NewChain(t, n) {
		rigs[i] = rigOn(t, variant, lab)
		rigs[i].ipt(t, "-A", "INPUT", "-i", "wan0", "-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT")
		rigs[i].ipt(t, "-A", "INPUT", "-i", "wan0", "-j", "DROP")
	}
	for _, network := range []string{"tcp", "udp"} {
		rigs[n-1].Clients[0].Echo(t, network, ":4000")
	}
	return rigs
}

// chainConf are the settings of a router that serves whoever is behind it.
func chainConf(upstream string) []string {
	return []string{"enable_upnp=yes", "upstream=" + upstream, "allow 1024-65535 0.0.0.0/0 1024-65535", denyAll}
}

// outermost is the address of a chain's outermost router.
var outermost = netlab.RouterWAN.Addr()

// dialOuter is a probe from the host in front of a chain's outermost router.
func dialOuter(rigs []*rig, network string, port uint16) netlab.Probe {
	return netlab.Probe{Network: network, From: rigs[0].WAN, To: netip.AddrPortFrom(outermost, port)}
}

// awaitOuter asks by PCP, as the client behind a chain, until it is told an endpoint of
// the outermost router.
func (r *rig) awaitOuter(t testing.TB, req pcp.Request) (resp pcp.Response) {
	t.Helper()
	await(t, "an endpoint of the outermost router", func() bool {
		resp = r.pcp(t, 0, req)
		return resp.Result == pcp.Success && resp.External.Addr() == outermost
	})
	return resp
}

// upnpc maps the client's port 4000 by UPnP and returns the endpoint that it is told. The
// options are those of upnpc: -a for AddPortMapping, -n for AddAnyPortMapping.
func (r *rig) upnpc(t testing.TB, document, option, network string, external uint16) netip.AddrPort {
	t.Helper()
	said := r.Clients[0].Run(t, "upnpc", "-u", "http://192.168.50.1:5000/"+document, option, "@", "4000", fmt.Sprint(external), network, "600")
	told, err := netip.ParseAddrPort(find(t, `external (\S+) \S+ is redirected to internal `, said))
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	return told
}

// askers are the ways of a client behind a chain to ask for its port 4000, and to be told
// where the outside reaches it.
var askers = []struct {
	name, network string
	ask           func(t *testing.T, r *rig) netip.AddrPort
}{
	{"NAT-PMP", "udp", func(t *testing.T, r *rig) netip.AddrPort {
		resp := r.grant(t, mapping(natpmp.MapUDP, 4000, 41001, time.Hour))
		return netip.AddrPortFrom(outermost, resp.ExternalPort)
	}},
	{"NAT-PMP", "tcp", func(t *testing.T, r *rig) netip.AddrPort {
		resp := r.grant(t, mapping(natpmp.MapTCP, 4000, 41002, time.Hour))
		return netip.AddrPortFrom(outermost, resp.ExternalPort)
	}},
	{"PCP", "udp", func(t *testing.T, r *rig) netip.AddrPort {
		return r.pcp(t, 0, pcpMap(client1, 17, 4000, 41001)).External
	}},
	{"PCP", "tcp", func(t *testing.T, r *rig) netip.AddrPort {
		return r.pcp(t, 0, pcpMap(client1, 6, 4000, 41002)).External
	}},
	{"UPnP version 1", "udp", func(t *testing.T, r *rig) netip.AddrPort { return r.upnpc(t, "rootDesc.xml", "-a", "udp", 41003) }},
	{"UPnP version 1", "tcp", func(t *testing.T, r *rig) netip.AddrPort { return r.upnpc(t, "rootDesc.xml", "-a", "tcp", 41004) }},
	{"UPnP version 2", "udp", func(t *testing.T, r *rig) netip.AddrPort { return r.upnpc(t, "rootDesc2.xml", "-n", "udp", 41005) }},
	{"UPnP version 2", "tcp", func(t *testing.T, r *rig) netip.AddrPort { return r.upnpc(t, "rootDesc2.xml", "-n", "tcp", 41006) }},
}

// demandArrival has the client behind a chain ask in every way, and packets come from
// outside to where it was told.
func demandArrival(t *testing.T, rigs []*rig) {
	t.Helper()
	inner := rigs[len(rigs)-1]
	inner.awaitExternalAddr(t, outermost)
	for _, a := range askers {
		var told netip.AddrPort
		await(t, a.name+" to tell an endpoint of the outermost router", func() bool {
			told = a.ask(t, inner)
			return told.Addr() == outermost
		})
		if seen := dialOuter(rigs, a.network, told.Port()).Arrives(t); !netlab.RouterWAN.Contains(seen.Addr()) {
			t.Errorf("%s, %s: the client sees %v", a.name, a.network, seen)
		}
	}
}

// demandGivenBack has the client delete what it asked for in every way, and demands that
// the router in front forwards nothing any more.
func demandGivenBack(t *testing.T, rigs []*rig) {
	t.Helper()
	inner := rigs[len(rigs)-1]
	inner.grant(t, mapping(natpmp.MapTCP, 4000, 0, 0))
	inner.grant(t, mapping(natpmp.MapUDP, 4000, 0, 0))
	for protocol, port := range map[uint8]uint16{17: 41001, 6: 41002} {
		req := pcpMap(client1, protocol, 4000, port)
		req.Lifetime = 0
		inner.pcp(t, 0, req)
	}
	inner.Clients[0].Run(t, "upnpc", "-u", "http://192.168.50.1:5000/rootDesc2.xml", "-N", "41000", "41999", "udp")
	inner.Clients[0].Run(t, "upnpc", "-u", "http://192.168.50.1:5000/rootDesc2.xml", "-N", "41000", "41999", "tcp")
	for _, r := range rigs {
		await(t, "the rules of "+r.Router.Name+" to go", func() bool { return len(r.rulesOf(t, "nat", "MINIUPNPD")) == 0 })
	}
}

// TestThreeRouters has three routers find out by themselves that another is in front.
func TestThreeRouters(t *testing.T) {
	t.Parallel()
	rigs := newChain(t, "nft", 3)
	for _, r := range rigs {
		r.foreground(t, chainConf("auto")...)
	}
	demandArrival(t, rigs)
	demandGivenBack(t, rigs)
}

// TestTwoRouters has a router ask one of its own kind by each protocol, killed in between:
// the client keeps its endpoint.
func TestTwoRouters(t *testing.T) {
	t.Parallel()
	for _, upstream := range []string{"pcp", "natpmp", "igd"} {
		t.Run(upstream, func(t *testing.T) {
			t.Parallel()
			rigs := newChain(t, "legacy", 2)
			rigs[1].detectRaces()
			rigs[0].start(t, append(chainConf("no"), "pcp_lenient_nonce=no")...)
			rigs[1].foreground(t, chainConf(upstream)...)
			demandArrival(t, rigs)
			before := rigs[1].awaitOuter(t, pcpMap(client1, 6, 4000, 0)).External
			rigs[1].stop(t, syscall.SIGKILL)
			rigs[1].foreground(t, chainConf(upstream)...)
			if told := rigs[1].awaitOuter(t, pcpMap(client1, 6, 4000, 0)).External; told != before {
				t.Errorf("the client was told %v, and after a kill %v", before, told)
			}
			dialOuter(rigs, "tcp", before.Port()).Arrives(t)
			demandGivenBack(t, rigs)
		})
	}
}

// TestBehindMiniupnpd has a router ask Debian's miniupnpd by each protocol.
func TestBehindMiniupnpd(t *testing.T) {
	t.Parallel()
	program := filepath.Join(netlab.Debian(t, "miniupnpd-iptables"), "usr/sbin/miniupnpd")
	for _, upstream := range []string{"pcp", "natpmp", "igd"} {
		t.Run(upstream, func(t *testing.T) {
			t.Parallel()
			rigs := newChain(t, "legacy", 2)
			rigs[0].startMiniupnpd(t, program)
			rigs[1].foreground(t, chainConf(upstream)...)
			demandArrival(t, rigs)
			demandGivenBack(t, rigs)
		})
	}
}

// TestDeniedByMiniupnpd has Debian's miniupnpd deny a port to this router, and one of its own:
// it looks for others for ever if it may, and is not allowed to.
func TestDeniedByMiniupnpd(t *testing.T) {
	t.Parallel()
	program := filepath.Join(netlab.Debian(t, "miniupnpd-iptables"), "usr/sbin/miniupnpd")
	rigs := newChain(t, "legacy", 2)
	rigs[0].startMiniupnpd(t, program, "deny 0-65535 0.0.0.0/0 41001", "deny 41002 0.0.0.0/0 0-65535")
	inner := rigs[1]
	inner.foreground(t, chainConf("pcp")...)
	inner.awaitExternalAddr(t, outermost)
	inner.pcp(t, 0, pcpMap(client1, 6, 4001, 41001))
	await(t, "a port that is not reachable", func() bool { return unreachable(t, inner) == 1 })
	other := inner.awaitOuter(t, pcpMap(client1, 6, 4000, 41002)).External.Port()
	if other == 41002 {
		t.Errorf("told %d, which is denied", other)
	}
	dialOuter(rigs, "tcp", other).Arrives(t)
	if n := unreachable(t, inner); n != 1 {
		t.Errorf("%d mappings are not reachable, want the first", n)
	}
}

// startMiniupnpd starts Debian's miniupnpd with permission rules before one that allows all
// ports from 1024, and with the chains that it needs.
func (r *rig) startMiniupnpd(t *testing.T, program string, rules ...string) {
	t.Helper()
	for _, args := range []string{
		"-t nat -N MINIUPNPD", "-t nat -A PREROUTING -i wan0 -j MINIUPNPD", "-t nat -N MINIUPNPD-POSTROUTING",
		"-t nat -A POSTROUTING -o wan0 -j MINIUPNPD-POSTROUTING", "-N MINIUPNPD", "-A FORWARD -i wan0 ! -o wan0 -j MINIUPNPD",
	} {
		r.ipt(t, strings.Fields(args)...)
	}
	rules = append(rules, "allow 1024-65535 0.0.0.0/0 1024-65535")
	conf := "ext_ifname=wan0\nlistening_ip=lan0\nhttp_port=5000\nenable_natpmp=yes\nenable_upnp=yes\nsecure_mode=yes\n" +
		"uuid=5d0a8a3c-6f0b-4d53-9f83-2f1f6b1c4c70\n" + strings.Join(rules, "\n") + "\n"
	if err := os.WriteFile(r.path("miniupnpd.conf"), []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := r.Router.Command(program, "-f", r.path("miniupnpd.conf"), "-d", "-P", r.path("theirs.pid"))
	cmd.Env = r.env
	log, err := os.Create(r.path("theirs.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	await(t, "miniupnpd to listen", func() bool {
		return strings.Contains(r.Router.Run(t, "ss", "-Hlun", "sport", "=", ":5351"), ":5351") &&
			strings.Contains(r.Router.Run(t, "ss", "-Hltn", "sport", "=", ":"+strconv.Itoa(5000)), ":5000")
	})
}
