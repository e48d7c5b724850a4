package daemon_test

import (
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
	"igdd/pkg/ssdp"
	"igdd/pkg/vectors/discovery"
)

// newVirtualRig starts a daemon that announces a virtual address, which the router has
// on its LAN behind one of its own and with a network of the given length.
func newVirtualRig(t *testing.T, bits string) *rig {
	t.Helper()
	r := newRig(t, "legacy", netlab.Layout{})
	r.ipBatch(t, "address flush dev lan0 scope global\naddress add 192.168.50.2/24 dev lan0\naddress add 192.168.50.1/"+bits+" dev lan0\n")
	r.serve(t, "-c", r.rcConf(t, "UPNP_ENABLE_UPNP=yes UPNP_NOTIFY_INTERVAL=1 UPNP_LISTEN='INTIF 192.168.50.1'"))
	return r
}

// TestVirtualAddress announces a virtual address, as the settings demand: it is the
// source of announcements and responses, and where they lead to. What clients ask at
// the router's own address is answered from there.
func TestVirtualAddress(t *testing.T) {
	t.Parallel()
	for _, bits := range []string{"24", "32"} {
		t.Run(bits, func(t *testing.T) {
			t.Parallel()
			r := newVirtualRig(t, bits)
			pcp := r.listen(t, "224.0.0.1:5350")
			ssdp := discovery.Listen(t, r.Clients[0], ssdp.IPv4.Addr())
			r.kill(syscall.SIGUSR1)
			for range 2 { // in both protocols
				if p := <-pcp; p.from.Addr() != netlab.RouterLAN.Addr() {
					t.Errorf("announcement from %v: %x", p.from, p.octets)
				}
			}
			demandVirtual(t, ssdp.Next(t, "announcement", 1, "ssdp:alive")[0])
			demandVirtual(t, discovery.Await(t, r.Clients[0], client1))
			for _, router := range []string{"192.168.50.1", "192.168.50.2"} {
				if reply, from := exchange(t, r.Clients[0], client1, at(router), []byte{0, 0}, patience); len(reply) != 12 || from.Addr() != at(router) {
					t.Errorf("%v answers %x from %v", router, reply, from)
				}
			}
			r.stop(t, syscall.SIGTERM)
			demandVirtual(t, ssdp.Next(t, "byebye", 1, "ssdp:byebye")[0])
		})
	}
}

// demandVirtual demands that a message is from the virtual address, and leads there.
func demandVirtual(t *testing.T, m discovery.Message) {
	t.Helper()
	location, has := m.Fields["LOCATION"]
	if m.From.Addr() != netlab.RouterLAN.Addr() || has && !strings.HasPrefix(location, "http://192.168.50.1:5000/") {
		t.Errorf("message from %v leads to %q", m.From, location)
	}
}

// TestVirtualAddressLeaves takes the virtual address away, as keepalived does when
// another router serves: nothing takes leave for that router's device, and no mapping is
// lost when the address is back.
func TestVirtualAddressLeaves(t *testing.T) {
	t.Parallel()
	r := newVirtualRig(t, "32")
	r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
	group := discovery.Listen(t, r.Clients[0], ssdp.IPv4.Addr())
	group.Next(t, "announcement", 1, "ssdp:alive")
	r.ipBatch(t, "address del 192.168.50.1/32 dev lan0\n")
	r.awaitListed(t, "NAT-PMP(dormant)")
	r.stop(t, syscall.SIGTERM)
	for m, ok := discovery.Receive(t, group.UDPConn, time.Now().Add(hush)); ok; m, ok = discovery.Receive(t, group.UDPConn, time.Now().Add(hush)) {
		if m.Fields["NTS"] != "ssdp:alive" {
			t.Errorf("heard %q", m.Fields)
		}
	}
	r.ipBatch(t, "address add 192.168.50.1/32 dev lan0\n")
	r.serve(t, "-c", r.path("rc.conf"))
	r.Clients[0].Echo(t, "tcp", "192.168.50.10:4000")
	r.dial("tcp", 4000).Arrives(t)
}

// TestPortAtAnotherAddress has a program of the router listen at one address of the
// uplink, which is not the first: no client gets its port, at any address.
func TestPortAtAnotherAddress(t *testing.T) {
	t.Parallel()
	r := newRig(t, "nft", netlab.Layout{})
	r.Router.IP(t, "address", "add", "11.22.33.46/32", "dev", "wan0")
	err := r.Router.Listen(func() error {
		l, err := net.Listen("tcp", "11.22.33.46:6000")
		if err == nil {
			t.Cleanup(func() { l.Close() })
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	r.start(t, "ext_ip=11.22.33.46")
	r.refusedPort(t, 6000)
	r.freed(t, 6001)
	r.awaitExternalAddr(t, at("11.22.33.46"))
}

// TestCopiedFilesOfAnotherOwner starts the daemon on files that were copied with another
// owner, and a mode that lets nobody else read them: every mapping is restored.
func TestCopiedFilesOfAnotherOwner(t *testing.T) {
	t.Parallel()
	netlab.NeedRoot(t, "giving files to another user")
	r := newRig(t, "nft", netlab.Layout{})
	r.installed()
	r.start(t)
	r.Clients[0].Echo(t, "tcp", "192.168.50.10:4000")
	r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
	r.stop(t, syscall.SIGTERM)
	for name, mode := range map[string]os.FileMode{"upnp": 0o700, "upnp/upnp.leases": 0o600, "upnp/upnp.leases.state": 0o600} {
		if err := errors.Join(os.Chown(r.path(name), 1000, 1000), os.Chmod(r.path(name), mode)); err != nil {
			t.Fatal(err)
		}
	}
	r.start(t)
	r.dial("tcp", 4000).Arrives(t)
	r.grant(t, mapping(natpmp.MapTCP, 4001, 4001, time.Hour))
	await(t, "both mappings in the lease file", func() bool { return len(r.leases(t)) == 2 })
}

// TestUmask starts the daemon with the umask that keepalived gives to its scripts: it
// works, and saves leases for everyone to read and their state for root alone.
func TestUmask(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	r.installed()
	r.configure(t)
	cmd := r.Router.Command("/bin/sh", "-c", `umask 0177; exec "$@"`, "sh", r.program, "-f", r.path("miniupnpd.conf"), "-P", r.path("pid"))
	cmd.Env = r.env
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
	await(t, "the lease", func() bool { return strings.HasPrefix(r.leases(t)[0], "TCP:4000:") })
	for name, want := range map[string]os.FileMode{"upnp": 0o755, "upnp/upnp.leases": 0o644, "upnp/upnp.leases.state": 0o600} {
		if info, err := os.Stat(r.path(name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, %v, want %v", name, info.Mode(), err, want)
		}
	}
}
