package daemon_test

import (
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
)

var wanHost = netip.MustParseAddr("11.22.33.1")

// natpmpMap asks for a mapping (lifetime 0 deletes) and returns the answer.
func (r *rig) natpmpMap(t testing.TB, from *netlab.Namespace, source netip.Addr, req natpmp.Request) natpmp.Response {
	t.Helper()
	gateway := netlab.RouterLAN.Addr()
	if !netlab.RouterLAN.Contains(source) {
		gateway = netlab.RouterLAN2.Addr()
	}
	reply, _ := exchange(t, from, source, gateway, req.Append(nil), patience)
	resp, err := natpmp.ParseResponse(reply)
	if err != nil {
		t.Fatalf("reply %x: %v", reply, err)
	}
	return resp
}

func mapping(op natpmp.Opcode, internal, external uint16, lifetime time.Duration) natpmp.Request {
	return natpmp.Request{Opcode: op, InternalPort: internal, SuggestedPort: external, Lifetime: lifetime}
}

// grant maps and demands success.
func (r *rig) grant(t testing.TB, req natpmp.Request) natpmp.Response {
	t.Helper()
	resp := r.natpmpMap(t, r.Clients[0], client1, req)
	if resp.Result != natpmp.Success {
		t.Fatalf("mapping %+v: result %d", req, resp.Result)
	}
	return resp
}

// awaitServed waits until the daemon answers the first client.
func (r *rig) awaitServed(t testing.TB) {
	t.Helper()
	await(t, "the daemon to serve", func() bool {
		reply, _ := exchange(t, r.Clients[0], client1, netlab.RouterLAN.Addr(), []byte{0, 0}, hush)
		return reply != nil
	})
}

// dial is a probe from the WAN to an external port.
func (r *rig) dial(network string, port uint16) netlab.Probe {
	return netlab.Probe{Network: network, From: r.WAN, To: netip.AddrPortFrom(netlab.RouterWAN.Addr(), port)}
}

// bothVariants runs a test with either iptables, side by side.
func bothVariants(t *testing.T, test func(*testing.T, string)) {
	for _, variant := range netlab.Variants {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			test(t, variant)
		})
	}
}

func TestMappingFromRequestToPacket(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newRig(t, variant, netlab.Layout{})
		r.installed()
		r.start(t)
		lan := r.Clients[0]
		lan.Echo(t, "tcp", "192.168.50.10:4000")
		lan.Echo(t, "udp", "192.168.50.10:4000")
		r.dial("tcp", 4001).Blocked(t)

		r.grant(t, mapping(natpmp.MapTCP, 4000, 4001, time.Hour))
		r.grant(t, mapping(natpmp.MapUDP, 4000, 4001, time.Hour))
		r.dial("tcp", 4001).Arrives(t)
		r.dial("udp", 4001).Arrives(t)
		await(t, "two leases", func() bool { return len(r.leases(t)) == 2 })
		if got := r.leases(t); !strings.HasPrefix(got[0], "TCP:4001:192.168.50.10:4000:") || !strings.HasSuffix(got[0], ":NAT-PMP 4001 TCP") {
			t.Errorf("leases = %q", got)
		}

		r.grant(t, mapping(natpmp.MapTCP, 4000, 9999, time.Hour)) // renewed, not doubled
		if n := len(r.rulesOf(t, "nat", "MINIUPNPD")); n != 2 {
			t.Errorf("%d rules after a renewal, want 2", n)
		}
		r.grant(t, mapping(natpmp.MapTCP, 4000, 0, 0))
		r.dial("tcp", 4001).Blocked(t)
		r.dial("udp", 4001).Arrives(t)
		r.grant(t, mapping(natpmp.MapUDP, 0, 0, 0))
		r.dial("udp", 4001).Blocked(t)

		r.stop(t, syscall.SIGTERM)
		if _, err := os.Stat(r.path("pid")); !os.IsNotExist(err) {
			t.Error("the pid file is still there")
		}
		if saved := r.ipt(t, "-t", "nat", "-S") + r.ipt(t, "-S"); strings.Contains(saved, "MINIUPNPD") {
			t.Errorf("chains that the daemon made are still there:\n%s", saved)
		}
	})
}

func TestRealClient(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	r.start(t)
	lan := r.Clients[0]
	lan.Echo(t, "tcp", "192.168.50.10:5000")
	out := lan.Run(t, "natpmpc", "-g", "192.168.50.1", "-a", "5001", "5000", "tcp", "600")
	for _, want := range []string{"Public IP address : 11.22.33.44", "Mapped public port 5001 protocol TCP to local port 5000 liftime 600"} {
		if !strings.Contains(out, want) {
			t.Errorf("natpmpc does not say %q:\n%s", want, out)
		}
	}
	r.dial("tcp", 5001).Arrives(t)
	lan.Run(t, "natpmpc", "-g", "192.168.50.1", "-a", "5001", "5000", "tcp", "0")
	r.dial("tcp", 5001).Blocked(t)
}

func TestExpiryTakesTheRuleAway(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	r.start(t)
	r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, 2*time.Second))
	r.grant(t, mapping(natpmp.MapTCP, 4001, 4001, time.Hour))
	await(t, "the short lease to end", func() bool {
		return len(r.rulesOf(t, "nat", "MINIUPNPD")) == 1 && len(r.rulesOf(t, "filter", "MINIUPNPD")) == 1
	})
	await(t, "its line to go", func() bool { return len(r.leases(t)) == 1 })
}

func TestRestartRestores(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, "nft", netlab.Layout{})
			r.start(t)
			r.Clients[0].Echo(t, "tcp", "192.168.50.10:4000")
			for port := uint16(4000); port < 4010; port++ {
				r.grant(t, mapping(natpmp.MapTCP, port, port, time.Hour))
			}
			r.stop(t, signal)
			if out, err := r.launch(); err != nil {
				t.Fatalf("second start: %v: %s", err, out)
			}
			r.dial("tcp", 4000).Arrives(t)
			if n := len(r.rulesOf(t, "filter", "MINIUPNPD")); n != 10 {
				t.Errorf("%d rules after the restart, want 10", n)
			}
			resp := r.grant(t, mapping(natpmp.MapTCP, 4000, 0, time.Minute))
			if resp.ExternalPort != 4000 {
				t.Errorf("after the restart: port %d, want 4000", resp.ExternalPort)
			}
		})
	}
}

func TestForeignChainsStay(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	for _, args := range []string{
		"-t nat -N MINIUPNPD", "-t nat -A PREROUTING -i wan0 -j MINIUPNPD",
		"-N MINIUPNPD", "-A FORWARD -i wan+ ! -o wan0 -j MINIUPNPD",
	} {
		r.ipt(t, strings.Fields(args)...)
	}
	before := r.rulesOf(t, "nat", "PREROUTING")
	r.start(t)
	r.Clients[0].Echo(t, "tcp", "192.168.50.10:4000")
	r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
	r.dial("tcp", 4000).Arrives(t)
	if after := r.rulesOf(t, "nat", "PREROUTING"); len(after) != len(before) {
		t.Errorf("jumps doubled: %q", after)
	}
	r.stop(t, syscall.SIGTERM)
	if n := len(r.rulesOf(t, "nat", "MINIUPNPD")) + len(r.rulesOf(t, "filter", "MINIUPNPD")); n != 0 {
		t.Errorf("%d rules left in chains that are not ours, want none", n)
	}
	if after := r.rulesOf(t, "nat", "PREROUTING"); !slices.Equal(after, before) {
		t.Errorf("jumps that are not ours: %q, were %q", after, before)
	}
}

func TestPermissions(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{Clients: 2})
	r.start(t, "allow 2000-2999 192.168.50.10/32 22", "allow 3000-3000 192.168.50.0/24 1024-65535", "deny 0-65535 0.0.0.0/0 0-65535")
	tests := []struct {
		from     int
		req      natpmp.Request
		result   natpmp.Result
		external uint16
	}{
		{0, mapping(natpmp.MapTCP, 22, 2500, time.Hour), natpmp.Success, 2500},
		{1, mapping(natpmp.MapTCP, 22, 2600, time.Hour), natpmp.NotAuthorized, 0},
		{1, mapping(natpmp.MapTCP, 8080, 8080, time.Hour), natpmp.Success, 3000},
		{0, mapping(natpmp.MapTCP, 8080, 3000, time.Hour), natpmp.OutOfResources, 0},
		{0, mapping(natpmp.MapTCP, 23, 2501, time.Hour), natpmp.NotAuthorized, 0},
	}
	for _, tt := range tests {
		source := []netip.Addr{client1, client2}[tt.from]
		resp := r.natpmpMap(t, r.Clients[tt.from], source, tt.req)
		if resp.Result != tt.result || resp.ExternalPort != tt.external {
			t.Errorf("%v asks %+v: result %d, port %d, want %d, %d", source, tt.req, resp.Result, resp.ExternalPort, tt.result, tt.external)
		}
	}
}

func TestQuotas(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{Clients: 2})
	r.start(t, "max_per_host=2", "max_total=3")
	ask := func(i int, port uint16) natpmp.Result {
		return r.natpmpMap(t, r.Clients[i], []netip.Addr{client1, client2}[i], mapping(natpmp.MapTCP, port, port, time.Hour)).Result
	}
	for i, tt := range []struct {
		client int
		port   uint16
		want   natpmp.Result
	}{
		{0, 4000, natpmp.Success}, {0, 4001, natpmp.Success}, {0, 4002, natpmp.OutOfResources},
		{0, 4000, natpmp.Success}, {1, 4003, natpmp.Success}, {1, 4004, natpmp.OutOfResources},
	} {
		if got := ask(tt.client, tt.port); got != tt.want {
			t.Errorf("request %d: result %d, want %d", i, got, tt.want)
		}
	}
}

func TestTwoLANsAndNothingOnTheUplink(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{SecondLAN: true})
	r.start(t, "listening_ip=lan1", "allow 1024-65535 192.168.0.0/16 1024-65535")
	other := netip.MustParseAddr("192.168.60.10")
	if resp := r.natpmpMap(t, r.Client2, other, mapping(natpmp.MapTCP, 4000, 4000, time.Hour)); resp.Result != natpmp.Success {
		t.Fatalf("second LAN: result %d", resp.Result)
	}
	if resp := r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour)); resp.ExternalPort == 4000 {
		t.Error("two clients have the same port")
	}
	for _, to := range []netip.Addr{netlab.RouterWAN.Addr(), netlab.RouterLAN.Addr()} {
		r.WAN.Run(t, "ip", "route", "replace", "192.168.50.0/24", "via", netlab.RouterWAN.Addr().String())
		if reply, _ := exchange(t, r.WAN, wanHost, to, []byte{0, 0}, hush); reply != nil {
			t.Errorf("the WAN gets an answer from %v: %x", to, reply)
		}
	}
}

func TestReloadKeepsWhatIsAllowed(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	r.start(t)
	r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
	r.grant(t, mapping(natpmp.MapTCP, 5000, 5000, time.Hour))
	r.configure(t, "allow 4000-4999 192.168.50.0/24 1024-65535", "deny 0-65535 0.0.0.0/0 0-65535")
	r.kill(syscall.SIGHUP)
	await(t, "the forbidden mapping to go", func() bool { return len(r.rulesOf(t, "nat", "MINIUPNPD")) == 1 })
	if left := r.rulesOf(t, "nat", "MINIUPNPD"); !strings.Contains(left[0], "--dport 4000") {
		t.Errorf("left: %q, want port 4000", left)
	}
	resp := r.natpmpMap(t, r.Clients[0], client1, mapping(natpmp.MapTCP, 5000, 0, time.Hour))
	if resp.Result != natpmp.Success || resp.ExternalPort < 4000 || resp.ExternalPort > 4999 {
		t.Errorf("after the reload: result %d, port %d", resp.Result, resp.ExternalPort)
	}
}

func TestLateInterface(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	r.installed()
	r.start(t, "listening_ip=lan7")
	late := netlab.New(t, "late")
	r.Router.Connect(t, "lan7", late, "eth0")
	r.Router.Address(t, "lan7", netip.MustParsePrefix("192.168.70.1/24"))
	late.Address(t, "eth0", netip.MustParsePrefix("192.168.70.10/24"))
	await(t, "an answer on the interface that came late", func() bool {
		reply, _ := exchange(t, late, netip.MustParseAddr("192.168.70.10"), netip.MustParseAddr("192.168.70.1"), []byte{0, 0}, hush)
		return len(reply) == 12
	})
}

func TestSecondDaemonDoesNotStart(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	r.start(t)
	out, err := r.launch()
	if err == nil || !strings.Contains(out, "already running") {
		t.Errorf("second start: %v: %q, want exit 1 and the reason", err, out)
	}
	r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
}

func TestNothingToServe(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	r.configure(t, "enable_natpmp=no", "enable_upnp=no")
	if out, err := r.launch(); err != nil {
		t.Errorf("%v: %s, want exit 0", err, out)
	}
	await(t, "the end of a daemon that has nothing to do", func() bool { return r.pid() == 0 })
}

func TestStalePIDFile(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	stale := "999999999\n" + strconv.Itoa(os.Getpid()) + "\n" // longer than the daemon's line, then a running process of another name
	for _, text := range []string{stale, strconv.Itoa(os.Getpid()), "nonsense"} {
		if err := os.WriteFile(r.path("pid"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		r.start(t)
		if text, _ := os.ReadFile(r.path("pid")); string(text) != strconv.Itoa(r.pid())+"\n" {
			t.Errorf("pid file holds %q", text)
		}
		comm, _ := os.ReadFile("/proc/" + strconv.Itoa(r.pid()) + "/comm")
		if string(comm) != "miniupnpd\n" {
			t.Errorf("process name %q, want miniupnpd", comm)
		}
		r.stop(t, syscall.SIGTERM)
	}
}
