package daemon_test

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
	"igdd/pkg/pcp"
)

// TestPinholeThenIPv6Off switches IPv6 off while a pinhole is stored: IPv4 goes
// on, and the pinhole comes back with IPv6.
func TestPinholeThenIPv6Off(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
			r := newClientsRig(t, variant)
			hole := pcpMap(addr6, 6, 4000, 4000)
			r.demandMapped(t, hole, 4000)
			r.dial6("tcp", "2001:db8:33::1", 4000).Arrives(t)
			r.stop(t, signal)
			r.start(t, "enable_upnp=yes", "ipv6=no", "system_uptime=no")
			r.dial6("tcp", "2001:db8:33::1", 4000).Blocked(t)
			r.grant(t, mapping(natpmp.MapTCP, 4000, 4001, time.Hour))
			r.grant(t, mapping(natpmp.MapTCP, 4000, 4001, 2*time.Hour))
			r.dial("tcp", 4001).Arrives(t)
			r.atOnce(t, "nat", "-F MINIUPNPD")
			await(t, "the IPv4 rule to be restored", func() bool { return len(r.rulesOf(t, "nat", "MINIUPNPD")) == 1 })
			r.says(t, "status", 0, "healthy: chains, jumps and rules in place")
			r.stop(t, syscall.SIGTERM)
			r.start(t, "enable_upnp=yes", "ipv6=yes", "system_uptime=no")
			r.dial6("tcp", "2001:db8:33::1", 4000).Arrives(t)
			r.stop(t, syscall.SIGTERM)
		}
	})
}

// TestFailingIP6Tables has only the programs of IPv6 fail.
func TestFailingIP6Tables(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newClientsRig(t, variant)
		r.demandMapped(t, pcpMap(addr6, 6, 4000, 4000), 4000)
		r.stop(t, syscall.SIGTERM)
		restores := []func(){r.stub(t, "ip6tables-restore", "exit 1"), r.stub(t, "ip6tables-save", "exit 1")}
		if out, err := r.launch(); err != nil {
			t.Fatalf("with failing ip6tables: %v: %s", err, out)
		}
		for port := uint16(5000); port < 5005; port++ {
			if got := r.pcp(t, 0, pcpMap(addr6, 6, port, port)); got.Result == pcp.Success {
				t.Errorf("a pinhole that cannot be opened is granted: %+v", got)
			}
			r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
			r.grant(t, mapping(natpmp.MapTCP, 4000, 0, 0))
		}
		r.demandMapped(t, pcpMap(addr6, 6, 4000, 4000), 4000) // a renewal needs no rule
		r.says(t, "status", 4, "unhealthy: IPv6:")
		r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
		r.atOnce(t, "nat", "-F MINIUPNPD")
		await(t, "the IPv4 rule to be restored", func() bool { return len(r.rulesOf(t, "nat", "MINIUPNPD")) == 1 })
		r.dial("tcp", 4000).Arrives(t)
		for _, restore := range restores {
			restore()
		}
		await(t, "the pinhole to be back", func() bool {
			return strings.Contains(r.Router.Run(t, "/usr/sbin/ip6tables-"+variant+"-save"), "--dport 4000 ")
		})
	})
}

// TestStartWithoutIP6Tables has stored pinholes wait for a firewall.
func TestStartWithoutIP6Tables(t *testing.T) {
	t.Parallel()
	r := newClientsRig(t, "legacy")
	r.demandMapped(t, pcpMap(addr6, 6, 4000, 4000), 4000)
	r.stop(t, syscall.SIGTERM)
	var restores []func()
	for _, name := range []string{"ip6tables", "ip6tables-save", "ip6tables-restore"} {
		restores = append(restores, r.stub(t, name, "exit 3"))
	}
	if out, err := r.launch(); err != nil {
		t.Fatalf("without ip6tables: %v: %s", err, out)
	}
	if got := r.pcp(t, 0, pcpMap(addr6, 6, 5000, 5000)); got.Result == pcp.Success {
		t.Errorf("a pinhole without a firewall: %+v", got)
	}
	r.grant(t, mapping(natpmp.MapTCP, 4000, 4001, time.Hour))
	r.says(t, "status", 4, "unhealthy: IPv6: ")
	r.says(t, "list", 0, "PCP(dormant)")
	r.says(t, "list --json", 0, `"dormant":true`)
	r.stop(t, syscall.SIGTERM)
	for _, restore := range restores {
		restore()
	}
	if out, err := r.launch(); err != nil {
		t.Fatalf("with ip6tables again: %v: %s", err, out)
	}
	r.dial6("tcp", "2001:db8:33::1", 4000).Arrives(t)
}

// TestHeldLock has another program hold the xtables lock: renewals and refusals
// are answered, and a client that is refused has no mapping later.
func TestHeldLock(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{Clients: 2, IPv6: true})
	lock := r.path("xtables.lock")
	r.env = append(r.env, "XTABLES_LOCKFILE="+lock)
	r.start(t, "ipv6=yes")
	r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
	r.demandMapped(t, pcpMap(addr6, 6, 4000, 4000), 4000)
	holder := exec.Command("flock", lock, "sh", "-c", "echo held; exec cat")
	in, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	said, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := said.Read(make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	told := make(chan natpmp.Response, 1)
	go func() { told <- r.natpmpMap(t, r.Clients[1], client2, mapping(natpmp.MapTCP, 5000, 5000, time.Hour)) }()
	for range 3 {
		if got := r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour)); got.ExternalPort != 4000 {
			t.Errorf("the renewal says port %d", got.ExternalPort)
		}
	}
	if got := r.natpmpMap(t, r.Clients[0], client1, mapping(natpmp.MapTCP, 80, 80, time.Hour)); got.Result != natpmp.NotAuthorized {
		t.Errorf("what the rules forbid is answered %d", got.Result)
	}
	for range 3 {
		r.demandMapped(t, pcpMap(addr6, 6, 4000, 4000), 4000)
	}
	select {
	case got := <-told:
		t.Errorf("the renewals came after the kernel's answer: %+v", got)
		told <- got
	default:
	}
	if got := <-told; got.Result != natpmp.OutOfResources {
		t.Errorf("while the lock was held: %+v", got)
	}
	in.Close()
	if err := holder.Wait(); err != nil {
		t.Fatal(err)
	}
	r.grant(t, mapping(natpmp.MapTCP, 7000, 7000, time.Hour)) // comes behind whatever was left
	if rules, leases := r.chains(t), strings.Join(r.leases(t), " "); strings.Contains(rules, "--dport 5000") || strings.Contains(leases, ":5000:") {
		t.Errorf("the port was refused, and is open:\n%s\n%s", rules, leases)
	}
}
