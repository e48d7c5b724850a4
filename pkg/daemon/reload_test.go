package daemon_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
)

// TestReloadThatCannotBe has the daemon read settings that it cannot use now: it goes
// on with its own, closes nothing, and says why.
func TestReloadThatCannotBe(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newRig(t, variant, netlab.Layout{})
		r.replacing()
		r.detectRaces()
		r.Clients[0].Echo(t, "tcp", "192.168.50.10:4000")
		r.foreground(t)
		pid := r.pid()
		r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
		if err := os.Mkdir(r.path("folder"), 0o755); err != nil {
			t.Fatal(err)
		}
		taken := r.listenOnLAN(t, 5002)
		defer taken.Close()
		for i, row := range []struct {
			what     string
			settings []string
			failing  string // a program of iptables
		}{
			{"an uplink that cannot be", []string{"ext_ifname=wan,0"}, ""},
			{"iptables fails", []string{"enable_upnp=yes"}, "iptables"},
			{"iptables-save fails", []string{"enable_upnp=yes"}, "iptables-save"},
			{"a lease file that is a folder", []string{"lease_file=" + r.path("folder")}, ""},
			{"an HTTP port that is taken", []string{"enable_upnp=yes", "http_port=5002"}, ""},
			{"no settings at all", []string{"ext_ifname="}, ""},
		} {
			restore := func() {}
			if row.failing != "" {
				restore = r.stub(t, row.failing, "exit 1")
			}
			r.configure(t, row.settings...)
			r.kill(syscall.SIGHUP)
			await(t, row.what+" to be refused", func() bool { return strings.Count(r.log(t), "keeping the current ones") == i+1 })
			restore()
			if r.pid() != pid || !alive(pid) {
				t.Fatalf("%s: the daemon has ended", row.what)
			}
			r.dial("tcp", 4000).Arrives(t)
			r.grant(t, mapping(natpmp.MapTCP, 4001, 4001, time.Hour))
			r.grant(t, mapping(natpmp.MapTCP, 4001, 0, 0))
		}
		r.configure(t, "enable_upnp=yes", "http_port=5001")
		r.kill(syscall.SIGHUP)
		if err := r.awaitHTTP(5001); err != nil {
			t.Errorf("settings that can be used: %v", err)
		}
		r.dial("tcp", 4000).Arrives(t)
	})
}

// listenOnLAN has another program of the router listen on a TCP port.
func (r *rig) listenOnLAN(t testing.TB, port uint16) (l net.Listener) {
	t.Helper()
	at := netip.AddrPortFrom(netlab.RouterLAN.Addr(), port).String()
	if err := r.Router.Do(func() (err error) { l, err = net.Listen("tcp", at); return err }); err != nil {
		t.Fatal(err)
	}
	return l
}

// TestReloadsLeaveNoSockets has one instance follow another, and demands that the last
// one's sockets are all there are.
func TestReloadsLeaveNoSockets(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	r.installed()
	r.start(t, "enable_upnp=yes")
	reload := func(port uint16) {
		t.Helper()
		r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour)) // has it look up the host
		r.configure(t, "enable_upnp=yes", fmt.Sprintf("http_port=%d", port))
		r.kill(syscall.SIGHUP)
		if err := r.awaitHTTP(port); err != nil {
			t.Fatal(err)
		}
	}
	reload(5001)
	before := r.sockets(t)
	for range 4 {
		reload(5000)
		reload(5001)
	}
	most := before + 4 // some of the first ones may not have been open yet; a leak would be of eight
	await(t, fmt.Sprintf("no more than %d sockets", most), func() bool { return r.sockets(t) <= most })
}

// sockets returns how many sockets the daemon has.
func (r *rig) sockets(t *testing.T) (n int) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", r.pid()))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if to, _ := os.Readlink(file); strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}
