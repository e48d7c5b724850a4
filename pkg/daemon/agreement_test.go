package daemon_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/control"
	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
	"igdd/pkg/pcp"
)

// rounds is how many batches of requests a random run has; every tenth is
// followed by a fault.
const rounds = 30

// TestRandomClients has three clients ask at random by all protocols for the
// same few ports. After each batch the kernel, the table and the lease file
// must agree, and hold all mappings that clients were granted.
func TestRandomClients(t *testing.T) {
	t.Parallel()
	for seed, variant := range netlab.Variants {
		t.Run(fmt.Sprintf("%s, seed %d", variant, seed), func(t *testing.T) {
			t.Parallel()
			run := &randomRun{
				rig:    newRig(t, variant, netlab.Layout{Clients: 3, IPv6: true}),
				rng:    rand.New(rand.NewPCG(uint64(seed), 0)),
				grants: make(map[grantKey]uint16),
			}
			run.start(t, randomConf...)
			for round := range rounds {
				for range 2 + run.rng.IntN(10) {
					run.ask(t)
				}
				run.listen(t)
				run.checkAgreement(t)
				if round%10 == 9 {
					run.injectFault(t)
					run.checkAgreement(t)
				}
			}
			t.Logf("%d requests, %d granted, %d mappings in the end", run.asked, run.granted, len(run.grants))
			if run.granted < run.asked/4 {
				t.Error("too few are granted for a proof")
			}
		})
	}
}

var randomConf = []string{
	"enable_upnp=yes", "ipv6=yes", "max_per_host=8", "max_total=24",
	"allow 40000-40019 192.168.50.0/24 4000-4005", "deny 0-65535 0.0.0.0/0 0-65535",
}

// randomRun is a router that serves random requests.
type randomRun struct {
	*rig
	rng            *rand.Rand
	waiting        []waiting
	grants         map[grantKey]uint16
	asked, granted int
}

// waiting is a NAT-PMP or PCP request whose answer is outstanding.
type waiting struct {
	socket *net.UDPConn
	hear   func(*testing.T, []byte)
}

// grantKey is what a client was granted: by NAT-PMP and PCP an external port
// for its port, by UPnP a port of its own behind an external one.
type grantKey struct {
	by       string
	client   netip.Addr
	protocol string
	port     uint16
}

// protocols by their number.
var protocols = map[uint8]string{6: "TCP", 17: "UDP"}

// lifetimes that clients request. The mapping may expire before it is checked if
// the lifetime is below a minute: note ignores it.
var lifetimes = []time.Duration{time.Second, 10 * time.Minute, time.Hour}

// ask sends one request.
func (run *randomRun) ask(t *testing.T) {
	run.asked++
	i := run.rng.IntN(3)
	client := netip.AddrFrom4([4]byte{192, 168, 50, byte(10 + i)})
	protocol := []uint8{6, 17}[run.rng.IntN(2)]
	internal, external := uint16(4000+run.rng.IntN(7)), uint16(40000+run.rng.IntN(12))
	lifetime, remove := lifetimes[run.rng.IntN(len(lifetimes))], run.rng.IntN(4) == 0
	switch run.rng.IntN(4) {
	case 0:
		run.askNATPMP(t, i, client, protocol, internal, external, lifetime, remove)
	case 1:
		run.askPCP(t, i, client, protocol, internal, external, max(lifetime, 2*time.Minute), remove)
	case 2:
		client = netip.MustParseAddr(fmt.Sprintf("2001:db8:50::1%d", i))
		run.askPCP(t, i, client, protocol, internal, external, max(lifetime, 2*time.Minute), remove)
	case 3:
		run.askUPnP(t, i, client, protocol, internal, external, lifetime, remove)
	}
}

// note records a grant.
func (run *randomRun) note(p grantKey, port uint16, lifetime time.Duration) {
	if lifetime >= time.Minute {
		run.grants[p] = port
	} else {
		delete(run.grants, p)
	}
}

func (run *randomRun) askNATPMP(t *testing.T, i int, client netip.Addr, protocol uint8, internal, external uint16, lifetime time.Duration, remove bool) {
	req := mapping(map[uint8]natpmp.Opcode{6: natpmp.MapTCP, 17: natpmp.MapUDP}[protocol], internal, external, lifetime)
	if remove {
		req.Lifetime, req.SuggestedPort = 0, 0
	}
	run.send(t, i, client, netlab.RouterLAN.Addr(), req.Append(nil), func(t *testing.T, reply []byte) {
		resp, err := natpmp.ParseResponse(reply)
		if err != nil {
			t.Fatalf("reply %x: %v", reply, err)
		}
		if resp.Result == natpmp.Success {
			run.granted++
			run.note(grantKey{"NAT-PMP", client, protocols[protocol], internal}, resp.ExternalPort, resp.Lifetime)
		}
	})
}

func (run *randomRun) askPCP(t *testing.T, i int, client netip.Addr, protocol uint8, internal, external uint16, lifetime time.Duration, remove bool) {
	req := pcpMap(client, protocol, internal, external)
	req.Lifetime = lifetime
	if run.rng.IntN(8) == 0 {
		req.Nonce[0]++
	}
	gateway, peers := netlab.RouterLAN.Addr(), pcp.Filter{PrefixLength: 120, Remote: netip.MustParseAddrPort("11.22.33.0:0")}
	if client.Is6() {
		gateway, peers = netlab.RouterLAN6.Addr(), pcp.Filter{PrefixLength: 64, Remote: netip.MustParseAddrPort("[2001:db8:33::]:0")}
	}
	switch {
	case remove:
		req.Lifetime = 0
	case run.rng.IntN(6) == 0:
		req.Options = []pcp.Option{pcp.PreferFailure{}}
	case run.rng.IntN(4) == 0:
		req.Options = []pcp.Option{peers}
	case run.rng.IntN(4) == 0:
		req.Options = []pcp.Option{pcp.Filter{Remote: peers.Remote}} // none
	}
	run.send(t, i, client, gateway, req.Append(nil), func(t *testing.T, reply []byte) {
		resp, err := pcp.ParseResponse(reply)
		if err != nil {
			t.Fatalf("reply %x: %v", reply, err)
		}
		if resp.Result == pcp.Success {
			run.granted++
			run.note(grantKey{"PCP", client, protocols[protocol], internal}, resp.External.Port(), resp.Lifetime)
		}
	})
}

func (run *randomRun) askUPnP(t *testing.T, i int, client netip.Addr, protocol uint8, internal, external uint16, lifetime time.Duration, remove bool) {
	host, key := "", grantKey{"UPnP", client, protocols[protocol], external}
	if run.rng.IntN(4) == 0 {
		host = "11.22.33.1"
	}
	arguments := fmt.Sprintf("<NewRemoteHost>%s</NewRemoteHost><NewExternalPort>%d</NewExternalPort><NewProtocol>%s</NewProtocol>", host, external, protocols[protocol])
	if remove {
		if status, _ := run.invokeAs(t, run.Clients[i], "DeletePortMapping", arguments); status == 200 {
			run.granted++
			delete(run.grants, key)
		}
		return
	}
	arguments += fmt.Sprintf("<NewInternalPort>%d</NewInternalPort><NewInternalClient>%v</NewInternalClient><NewEnabled>%d</NewEnabled>"+
		"<NewPortMappingDescription>test</NewPortMappingDescription><NewLeaseDuration>%d</NewLeaseDuration>",
		internal, client, min(1, run.rng.IntN(6)), int(lifetime.Seconds()))
	if status, _ := run.invokeAs(t, run.Clients[i], "AddPortMapping", arguments); status == 200 {
		run.granted++
		run.note(key, internal, lifetime)
	}
}

// send sends a datagram whose answer listen waits for.
func (run *randomRun) send(t *testing.T, i int, from, to netip.Addr, request []byte, hear func(*testing.T, []byte)) {
	t.Helper()
	var c *net.UDPConn
	err := run.Clients[i].Do(func() (err error) {
		if c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0))); err != nil {
			return err
		}
		_, err = c.WriteToUDPAddrPort(request, netip.AddrPortFrom(to, 5351))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	run.waiting = append(run.waiting, waiting{c, hear})
}

// listen receives the answers to all outstanding requests.
func (run *randomRun) listen(t *testing.T) {
	for _, w := range run.waiting {
		w.socket.SetReadDeadline(time.Now().Add(patience))
		buf := make([]byte, 2048)
		n, err := w.socket.Read(buf)
		w.socket.Close()
		if err != nil {
			t.Fatal(err)
		}
		w.hear(t, buf[:n])
	}
	run.waiting = nil
}

// injectFault kills, restarts or replaces the daemon, or flushes its rules.
func (run *randomRun) injectFault(t *testing.T) {
	switch run.rng.IntN(4) {
	case 0:
		run.stop(t, syscall.SIGKILL)
		run.start(t, randomConf...)
	case 1:
		run.stop(t, syscall.SIGTERM)
		run.start(t, randomConf...)
	case 2:
		if err := run.handOver(); err != nil {
			t.Fatal(err)
		}
	case 3:
		run.ipt(t, "-F")
		run.ipt(t, "-t", "nat", "-F", "MINIUPNPD")
	}
}

// checkAgreement waits until kernel, table and lease file agree, and hold what
// clients were granted.
func (run *randomRun) checkAgreement(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		list := run.entries(t)
		problem := differ("kernel", run.mappingRules(t), rulesFor(list)) + differ("lease file", run.leases(t), linesFor(list)) + run.broken(list)
		if problem == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(problem)
		}
	}
}

// entries returns the table's mappings.
func (r *rig) entries(t testing.TB) (list []control.Entry) {
	t.Helper()
	text, status := r.ctl(t, "list", "--json")
	if err := json.Unmarshal([]byte(text), &list); err != nil || status != 0 {
		t.Fatalf("%v, exit status %d: %s", err, status, text)
	}
	return list
}

// mappingRules returns the daemon's rules of both families for inbound connections.
func (r *rig) mappingRules(t testing.TB) (list []string) {
	t.Helper()
	for _, family := range []string{"iptables", "ip6tables"} {
		for line := range strings.Lines(r.Router.Run(t, "/usr/sbin/"+family+"-"+r.variant+"-save")) {
			if strings.HasPrefix(line, "-A MINIUPNPD ") {
				list = append(list, strings.TrimSpace(line))
			}
		}
	}
	return list
}

// rulesFor returns the rules that entries need.
func rulesFor(list []control.Entry) (rules []string) {
	for _, e := range list {
		if !e.Enabled || e.Dormant {
			continue
		}
		remotes := e.Remote
		if len(remotes) == 0 {
			remotes = []string{""}
		}
		protocol := strings.ToLower(e.Protocol)
		for _, remote := range remotes {
			from := ""
			if remote != "" {
				from = "-s " + remote + " "
			}
			rules = append(rules, fmt.Sprintf("-A MINIUPNPD %s-d %v/%d -p %s -m %[4]s --dport %d -j ACCEPT",
				from, e.Client, e.Client.BitLen(), protocol, e.ClientPort))
			if !e.Pinhole {
				rules = append(rules, fmt.Sprintf("-A MINIUPNPD %s-p %s -m %[2]s --dport %d -j DNAT --to-destination %v:%d",
					from, protocol, e.ExternalPort, e.Client, e.ClientPort))
			}
		}
	}
	return rules
}

// linesFor returns the lines of the lease file that entries need.
func linesFor(list []control.Entry) (lines []string) {
	for _, e := range list {
		if e.Pinhole {
			continue
		}
		ends := int64(0)
		if e.Remaining != nil {
			ends = time.Now().Unix() + *e.Remaining
		}
		line := fmt.Sprintf("%s:%d:%v:%d:%d:%s", e.Protocol, e.ExternalPort, e.Client, e.ClientPort, ends, e.Description)
		if len(e.Remote) > 0 || !e.Enabled {
			line += restrictedMark
		}
		lines = append(lines, line)
	}
	return lines
}

// restrictedMark ends the line of a mapping that some remote hosts may not use by one
// of its claims, also if others let them.
const restrictedMark = " [restricted]"

// differ names the lines that only one side has. Expiry times may differ by the
// time that passes while they are read.
func differ(where string, got, want []string) string {
	matches := func(got, want string) bool {
		x, y := strings.SplitN(got, ":", 6), strings.SplitN(want, ":", 6)
		if len(x) != 6 || len(y) != 6 {
			return got == want
		}
		i, _ := strconv.Atoi(x[4])
		j, _ := strconv.Atoi(y[4])
		x[4], y[4] = "", ""
		if !strings.HasSuffix(y[5], restrictedMark) {
			x[5] = strings.TrimSuffix(x[5], restrictedMark)
		}
		return slices.Equal(x, y) && max(i-j, j-i) <= 3
	}
	isWanted := func(line string) bool {
		return slices.ContainsFunc(want, func(w string) bool { return matches(line, w) })
	}
	isThere := func(line string) bool {
		return slices.ContainsFunc(got, func(g string) bool { return matches(g, line) })
	}
	var problem strings.Builder
	for _, line := range got {
		if line != "" && !isWanted(line) {
			fmt.Fprintf(&problem, "the %s alone: %s\n", where, line)
		}
	}
	for _, line := range want {
		if line != "" && !isThere(line) {
			fmt.Fprintf(&problem, "not in the %s: %s\n", where, line)
		}
	}
	return problem.String()
}

// broken names the grants that are missing among the entries.
func (run *randomRun) broken(list []control.Entry) string {
	var problem strings.Builder
	for p, port := range run.grants {
		if !slices.ContainsFunc(list, func(e control.Entry) bool {
			inside, outside := p.port, port
			if p.by == "UPnP" {
				inside, outside = port, p.port
			}
			return e.Client == p.client && e.Protocol == p.protocol && e.ClientPort == inside && e.ExternalPort == outside &&
				slices.Contains(e.Origins, p.by)
		}) {
			fmt.Fprintf(&problem, "granted, but missing: %+v, port %d\n", p, port)
		}
	}
	return problem.String()
}
