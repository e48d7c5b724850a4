package daemon_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/control"
	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
)

var kills = flag.Int("kills", 20, "how often TestKilledUnderLoad kills the daemon")

// portState is what a client may rely on for one port.
type portState struct {
	open    bool // by the last answer
	unknown bool // a request about it has had no answer yet
}

// loadClients is a number of clients that open and close ports.
type loadClients struct {
	r      *rig
	mu     sync.Mutex
	ports  map[uint16]portState
	served int // requests that have been answered
}

// newLoadClients makes clients that do nothing yet.
func newLoadClients(r *rig) *loadClients {
	return &loadClients{r: r, ports: make(map[uint16]portState)}
}

// How many sockets send requests, and how many ports each has to itself.
const (
	loadSockets    = 4
	portsPerSocket = 40
)

// ask has all sockets send requests until stop is closed, and waits for them.
func (c *loadClients) ask(t testing.TB, stop <-chan struct{}) {
	var all sync.WaitGroup
	for i := range uint16(loadSockets) {
		socket := c.r.socket(t)
		all.Go(func() {
			defer socket.Close()
			for {
				select {
				case <-stop:
					return
				default:
					c.request(socket, 10000+i*portsPerSocket+rand.N[uint16](portsPerSocket))
				}
			}
		})
	}
	all.Wait()
}

// request opens a port, or closes an open one, and notes what is answered.
func (c *loadClients) request(socket *net.UDPConn, port uint16) {
	c.mu.Lock()
	was := c.ports[port]
	c.ports[port] = portState{open: was.open, unknown: true}
	c.mu.Unlock()
	req := mapping(natpmp.MapTCP, port, port, time.Hour)
	if was.open && !was.unknown && rand.N(3) == 0 {
		req = mapping(natpmp.MapTCP, port, 0, 0)
	}
	resp, ok := ask(socket, req)
	if !ok {
		return
	}
	if resp.Result == natpmp.Success {
		was = portState{open: req.Lifetime > 0}
	}
	c.mu.Lock()
	c.ports[port] = was
	c.served++
	c.mu.Unlock()
}

// ask sends one request and returns the answer if it comes soon.
func ask(socket *net.UDPConn, req natpmp.Request) (natpmp.Response, bool) {
	socket.WriteToUDPAddrPort(req.Append(nil), netip.AddrPortFrom(netlab.RouterLAN.Addr(), 5351))
	socket.SetReadDeadline(time.Now().Add(hush))
	b := make([]byte, 64)
	for {
		n, err := socket.Read(b)
		if err != nil {
			return natpmp.Response{}, false
		}
		resp, err := natpmp.ParseResponse(b[:n])
		late := resp.Result == natpmp.Success && (resp.Lifetime > 0) != (req.Lifetime > 0) // for one before
		if err == nil && resp.InternalPort == req.InternalPort && !late {
			return resp, true
		}
	}
}

// check demands that kernel, table and file agree, and hold what clients were
// answered. It resolves what was unknown.
func (c *loadClients) check(t testing.TB) {
	t.Helper()
	var views map[string][]uint16
	defer func() {
		if t.Failed() {
			t.Logf("open ports: %v", views)
		}
	}()
	await(t, "kernel, table and file to agree", func() bool {
		views = c.r.views(t)
		return views != nil && slices.Equal(views["nat"], views["table"]) && slices.Equal(views["nat"], views["filter"]) && slices.Equal(views["nat"], views["file"])
	})
	for port, p := range c.ports {
		_, open := slices.BinarySearch(views["nat"], port)
		if !p.unknown && open != p.open {
			t.Errorf("port %d: open is %v, and answered was %v", port, open, p.open)
		}
		c.ports[port] = portState{open: open}
	}
	for _, port := range views["nat"] {
		if _, asked := c.ports[port]; !asked {
			t.Errorf("port %d is open and was not requested", port)
		}
	}
}

// portOfRule finds the port in a rule of either chain.
var portOfRule = regexp.MustCompile(`--dport (\d+)`)

// views returns the open ports, sorted, as each place has them; nil if not all
// of them can tell yet.
func (r *rig) views(t testing.TB) map[string][]uint16 {
	t.Helper()
	views := make(map[string][]uint16)
	note := func(where, port string) {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			t.Fatalf("%s: port %q", where, port)
		}
		views[where] = append(views[where], uint16(n))
	}
	for _, table := range []string{"nat", "filter"} {
		for _, rule := range r.rulesOf(t, table, "MINIUPNPD") {
			note(table, portOfRule.FindStringSubmatch(rule)[1])
		}
	}
	for _, line := range r.leases(t) {
		if line != "" {
			note("file", strings.Split(line, ":")[1])
		}
	}
	var list []control.Entry
	text, status := r.ctl(t, "list", "--json")
	if status != 0 && alive(r.pid()) {
		return nil // the control socket comes a moment after the clients'
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	for _, e := range list {
		note("table", fmt.Sprint(e.ExternalPort))
	}
	for _, where := range slices.Collect(maps.Keys(views)) {
		slices.Sort(views[where])
	}
	return views
}

// TestKilledUnderLoad ends the daemon at any instant while clients ask. What
// they were answered holds after the next start: SIGKILL loses nothing that
// was answered (see package leasefile), and neither does the restart from the
// status page, which is stop, new settings, start (AST-111).
func TestKilledUnderLoad(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		what    string
		variant string
		signal  syscall.Signal
		times   int
	}{
		{"killed, legacy", "legacy", syscall.SIGKILL, *kills / 2},
		{"killed, nft", "nft", syscall.SIGKILL, *kills - *kills/2},
		{"restarted by the status page", "legacy", syscall.SIGTERM, *kills / 4},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, tt.variant, netlab.Layout{})
			r.start(t)
			c := newLoadClients(r)
			var slowest time.Duration
			for range tt.times {
				stop := make(chan struct{})
				go func() {
					defer close(stop)
					time.Sleep(rand.N(400 * time.Millisecond)) // any instant
					pid := r.pid()
					r.kill(tt.signal)
					for alive(pid) {
						time.Sleep(time.Millisecond)
					}
				}()
				c.ask(t, stop)
				r.configure(t)
				if tt.signal == syscall.SIGKILL && rand.N(3) == 0 {
					r.startAndKill(t)
				}
				began := time.Now()
				if out, err := r.launch(); err != nil {
					t.Fatalf("does not start again: %v: %s", err, out)
				}
				slowest = max(slowest, time.Since(began))
				c.check(t)
			}
			t.Logf("%d ends, %d answers kept; the slowest start took %v", tt.times, c.served, slowest.Round(time.Millisecond))
			r.stop(t, syscall.SIGTERM)
			if left := r.chains(t); left != "" {
				t.Errorf("left behind in the end:\n%s", left)
			}
		})
	}
}

// startAndKill starts the daemon and kills it before it serves, or soon after.
func (r *rig) startAndKill(t testing.TB) {
	t.Helper()
	cmd := r.Router.Command(r.program, "-d", "-f", r.path("miniupnpd.conf"), "-P", r.path("pid"))
	cmd.Env = r.env
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(rand.N(300 * time.Millisecond))
	cmd.Process.Kill()
	cmd.Wait()
}

// TestNoRoomForLeases fills the disk, and then has one that is read-only. The
// service goes on, says so once, and writes as soon as it can.
func TestNoRoomForLeases(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		what        string
		take, clear func(disk string) error
	}{
		{"full",
			func(disk string) error {
				err := os.WriteFile(disk+"/other", make([]byte, 1<<20), 0o644)
				if err == nil {
					return fmt.Errorf("the disk is too large to fill")
				}
				return nil
			},
			func(disk string) error { return os.Remove(disk + "/other") },
		},
		{"read-only",
			func(disk string) error { return os.Mkdir(disk+"/upnp", 0o555) }, // the leases' own folder; root has no rights beyond that
			func(disk string) error { return os.Chmod(disk+"/upnp", 0o755) },
		},
		{"mounted read-only",
			func(disk string) error { return syscall.Mount("", disk, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, "") },
			func(disk string) error { return syscall.Mount("", disk, "", syscall.MS_REMOUNT, "") },
		},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, "legacy", netlab.Layout{})
			r.installed() // in the sandbox root may not write everywhere
			disk := r.path("disk")
			if err := os.Mkdir(disk, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=256k"); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { syscall.Unmount(disk, syscall.MNT_DETACH) })
			if err := tt.take(disk); err != nil {
				t.Fatal(err)
			}
			r.foreground(t, "lease_file="+disk+"/upnp.leases")
			for port := uint16(4000); port < 4100; port++ {
				r.grant(t, mapping(natpmp.MapTCP, port, port, time.Hour))
			}
			await(t, "an error in the log", func() bool { return strings.Contains(r.log(t), "level=ERROR") })
			if err := tt.clear(disk); err != nil {
				t.Fatal(err)
			}
			await(t, "all leases to be written", func() bool {
				text, _ := os.ReadFile(disk + "/upnp.leases")
				return strings.Count(string(text), "\n") == 100
			})
			if n := strings.Count(r.log(t), "level=ERROR"); n != 1 {
				t.Errorf("%d lines about it, want one:\n%s", n, r.log(t))
			}
		})
	}
}

// TestReloadKeepsUnsavedMappings has settings change that need a new instance while the
// disk is full: what clients were answered holds, also after a restart once the disk has
// room.
func TestReloadKeepsUnsavedMappings(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	r.installed()
	disk := r.path("disk")
	if err := errors.Join(os.Mkdir(disk, 0o755), syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=256k")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(disk, syscall.MNT_DETACH) })
	settings := []string{"enable_upnp=yes", "lease_file=" + disk + "/upnp.leases"}
	r.start(t, settings...)
	r.grant(t, mapping(natpmp.MapTCP, 4999, 4999, time.Hour))
	if err := os.WriteFile(disk+"/other", make([]byte, 1<<20), 0o644); err == nil {
		t.Fatal("the disk is too large to fill")
	}
	for port := uint16(4000); port < 4100; port++ {
		r.grant(t, mapping(natpmp.MapTCP, port, port, time.Hour))
	}
	r.grant(t, mapping(natpmp.MapTCP, 4999, 0, 0))
	for _, port := range []uint16{5001, 5000} {
		r.configure(t, append(settings, fmt.Sprintf("http_port=%d", port))...)
		r.kill(syscall.SIGHUP)
		if err := r.awaitHTTP(port); err != nil {
			t.Fatal(err)
		}
		if list := r.entries(t); len(list) != 100 {
			t.Errorf("%d mappings after a reload, want 100", len(list))
		}
	}
	if err := os.Remove(disk + "/other"); err != nil {
		t.Fatal(err)
	}
	await(t, "all leases to be written", func() bool {
		text, _ := os.ReadFile(disk + "/upnp.leases")
		return strings.Count(string(text), "\n") == 100
	})
	r.stop(t, syscall.SIGKILL)
	r.start(t, settings...)
	if list := r.entries(t); len(list) != 100 {
		t.Errorf("%d mappings after a restart, want 100", len(list))
	}
}
