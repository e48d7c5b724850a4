package daemon_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/event"
	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
	"igdd/pkg/pcp"
)

// shown is a line of watch --json.
type shown struct {
	event.Event
	Lost uint64
}

// watcher is the operator's tool that watches.
type watcher struct {
	*exec.Cmd
	lines chan shown
	end   func()
}

// watch starts the tool's watch command as the nth one that runs; it is connected when
// watch returns.
func (r *rig) watch(t *testing.T, n int) *watcher {
	t.Helper()
	r.ctl(t, "status") // makes the link to the tool
	w := &watcher{Cmd: r.Router.Command(r.path("miniupnpctl"), "-s", r.path("ctl"), "watch", "--json"), lines: make(chan shown, 100000)}
	out, err := w.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(w.lines)
		for lines := json.NewDecoder(bufio.NewReader(out)); ; {
			var s shown
			if err := lines.Decode(&s); err != nil {
				if err != io.EOF {
					t.Error(err)
				}
				return
			}
			w.lines <- s
		}
	})
	w.end = sync.OnceFunc(func() {
		w.Process.Signal(syscall.SIGCONT)
		w.Process.Signal(syscall.SIGTERM)
		reading.Wait()
		if err := w.Wait(); err != nil {
			t.Errorf("watch: %v", err)
		}
	})
	t.Cleanup(w.end)
	await(t, "the watcher to connect", func() bool { return r.connections(t) == n })
	return w
}

// connections returns the number of connections to the control socket.
func (r *rig) connections(t testing.TB) int {
	return strings.Count(r.Router.Run(t, "ss", "-xHn", "state", "connected"), r.path("ctl")+" ")
}

// begin waits until the watcher shows what happens from now on.
func (w *watcher) begin(t *testing.T, r *rig) {
	t.Helper()
	for n := range int(patience / time.Second) {
		subject := fmt.Sprint("tcp ", n+1)
		r.says(t, "delete "+subject, 3, "")
		select {
		case s := <-w.lines:
			for s.Subject != subject {
				s = w.next(t)
			}
			return
		case <-time.After(time.Second):
		}
	}
	t.Fatal("watch shows nothing")
}

// next returns the next event.
func (w *watcher) next(t testing.TB) shown {
	t.Helper()
	select {
	case s := <-w.lines:
		return s
	case <-time.After(patience):
		t.Fatal("watch shows nothing")
	}
	return shown{}
}

// TestEvents has clients of all protocols and the operator cause events, and compares
// what watch, history and the log say.
func TestEvents(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	r.installed()
	leases := r.path("dnsmasq.leases")
	if err := os.WriteFile(leases, []byte("0 02:00:00:00:00:01 192.168.50.10 laptop *\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r.foreground(t, "enable_upnp=yes", "dhcp_leases="+leases)
	r.awaitServed(t)
	w := r.watch(t, 1)
	w.begin(t, r)

	r.grant(t, mapping(natpmp.MapUDP, 4000, 40000, time.Hour))
	r.grant(t, mapping(natpmp.MapUDP, 4000, 40000, 2*time.Hour))
	r.natpmpMap(t, r.Clients[0], client1, mapping(natpmp.MapTCP, 22, 2222, time.Hour))
	r.grant(t, mapping(natpmp.MapUDP, 4000, 0, 0))
	r.demandMapped(t, pcpMap(client1, 6, 4001, 40001), 40001)
	r.demandDeleted(t, pcpMap(client1, 6, 4001, 40001))
	if resp := r.pcp(t, 0, pcpMap(client1, 6, 22, 2222)); resp.Result != pcp.NotAuthorized {
		t.Errorf("result %v", resp.Result)
	}
	if status, _ := r.addPortMapping(t, "192.168.50.10"); status != 200 {
		t.Errorf("AddPortMapping: status %d", status)
	}
	if status, _ := r.addPortMapping(t, "192.168.50.10"); status != 200 {
		t.Errorf("AddPortMapping again: status %d", status)
	}
	r.says(t, "block 1h laptop", 0, "1 mapping closed")
	r.addPortMapping(t, "192.168.50.10")
	r.says(t, "unblock laptop", 0, "1 block lifted")
	r.says(t, "delete tcp 4000", 3, "0 mappings closed")
	r.says(t, "block 1 udp 9000-9009", 0, "block 2 is in force until")

	const rule = "deny 0-65535 0.0.0.0/0 0-65535"
	for i, want := range []struct {
		kind                 event.Kind
		origin               string
		external             uint16
		reason, rule, inLine string
	}{
		{event.Opened, "NAT-PMP", 40000, "", "", "redirecting port 40000 UDP"},
		{event.Renewed, "NAT-PMP", 40000, "", "", "renewing port 40000 UDP"},
		{event.Refused, "NAT-PMP", 2222, "not authorized", rule, "refusing port 2222 TCP because not authorized"},
		{event.Closed, "NAT-PMP", 40000, "a client deleted it", "", "remove port mapping 40000 UDP because a client deleted it"},
		{event.Opened, "PCP", 40001, "", "", "redirecting port 40001 TCP"},
		{event.Closed, "PCP", 40001, "a client deleted it", "", "remove port mapping 40001 TCP because a client deleted it"},
		{event.Refused, "PCP", 2222, "not authorized", rule, "refusing port 2222 TCP because not authorized"},
		{event.Opened, "UPnP", 4000, "", "", "redirecting port 4000 TCP"},
		{event.Renewed, "UPnP", 4000, "", "", "renewing port 4000 TCP"},
		{event.Closed, "UPnP", 4000, "the operator closed it", "", "remove port mapping 4000 TCP because the operator closed it"},
		{event.Blocked, "", 0, "", "", "operator: blocked laptop"},
		{event.Refused, "UPnP", 4000, "blocked by the operator", "", "refusing port 4000 TCP because blocked by the operator\" client=192.168.50.10 to=192.168.50.10:4000 by=UPnP"},
		{event.Unblocked, "", 0, "", "", "operator: unblocked laptop"},
		{event.Deleted, "", 0, "", "", "operator: deleted tcp 4000"},
		{event.Blocked, "", 0, "", "", "operator: blocked udp 9000-9009"},
		{event.Unblocked, "", 0, "it has ended", "", "operator: unblocked udp 9000-9009 because it has ended\" block=2"},
	} {
		got := w.next(t)
		if got.Kind != want.kind || strings.Join(got.Origins, ",") != want.origin || got.ExternalPort != want.external || got.Reason != want.reason || got.Rule != want.rule {
			t.Errorf("event %d is %+v, want %+v", i+1, got, want)
		}
		if want.origin != "" && (got.HostName != "laptop" || got.Internal != client1) {
			t.Errorf("event %d: the host is %s, %v", i+1, got.HostName, got.Internal)
		}
		await(t, "the line "+want.inLine, func() bool { return strings.Contains(r.log(t), want.inLine) })
	}
	r.ipt(t, "-t", "nat", "-D", "PREROUTING", "1")
	if got := w.next(t); got.Kind != event.Repaired || got.Family != "IPv4" {
		t.Errorf("after the rules were removed: %+v", got)
	}
	r.Router.Run(t, "ip", "addr", "flush", "dev", "wan0")
	if got := w.next(t); got.Kind != event.Uplink || got.Interface != "wan0" || got.Address.IsValid() {
		t.Errorf("after the uplink lost its address: %+v", got)
	}
	r.says(t, "history 100", 0, "opened 40000/UDP -> 192.168.50.10:4000 (laptop) by NAT-PMP for 1h0m0s")
	if out, _ := r.ctl(t, "history", "1"); strings.Count(out, "\n") != 1 {
		t.Errorf("history 1: %s", out)
	}
}

// TestWatchUnderLoad has clients ask as fast as they can while one watcher reads, one
// stands still and the notification program hangs: every client gets its answer, and
// what the watchers show and own up to is all there was.
func TestWatchUnderLoad(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	r.installed()
	if err := os.WriteFile(r.path("hook"), []byte("#!/bin/sh\nexec sleep 1000\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	r.start(t, "notify_cmd="+r.path("hook"))
	r.awaitServed(t)
	reader, still := r.watch(t, 1), r.watch(t, 2)
	still.Process.Signal(syscall.SIGSTOP)
	const requests = 3000
	for i := range uint16(requests) {
		r.grant(t, mapping(natpmp.MapUDP, 4000+i%100, 40000+i%100, time.Hour+time.Duration(i)*time.Second))
	}
	first := uint64(0)
	for _, w := range []*watcher{reader, still} {
		w.Process.Signal(syscall.SIGCONT)
		seen, lost, last := 0, uint64(0), uint64(0)
		for uint64(seen)+lost < requests {
			s := w.next(t)
			if s.Lost > 0 {
				lost += s.Lost
				last += s.Lost
				continue
			}
			if first == 0 {
				first = s.Serial
			}
			if last != 0 && s.Serial != last+1 {
				t.Fatalf("event %d follows %d, and that is not owned up to", s.Serial, last)
			}
			last = s.Serial
			seen++
		}
		if last != first+requests-1 {
			t.Errorf("the last event is %d, want %d", last, first+requests-1)
		}
		t.Logf("%d events shown, %d lost", seen, lost)
	}
	out, _ := r.ctl(t, "history", "--json")
	if n := strings.Count(out, "\n"); n != event.HistoryLength || !strings.Contains(out, fmt.Sprintf(`"serial":%d,`, first+requests-1)) {
		t.Errorf("history has %d events", n)
	}
}

// TestStatesOverReload takes a LAN out of the settings and back while watch shows what
// becomes of its mapping.
func TestStatesOverReload(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{Clients: 1, SecondLAN: true})
	r.installed()
	with := []string{"listening_ip=lan1", "allow 1024-65535 0.0.0.0/0 1024-65535"}
	r.start(t, with...)
	r.awaitServed(t)
	r.natpmpMap(t, r.Client2, netip.MustParseAddr("192.168.60.10"), mapping(natpmp.MapTCP, 4000, 5000, time.Hour))
	w := r.watch(t, 1)
	for _, step := range []struct {
		settings []string
		kind     event.Kind
		reason   string
	}{{with[1:], event.Dormant, "no LAN has the target's network"}, {with, event.Active, ""}} {
		r.configure(t, step.settings...)
		r.kill(syscall.SIGHUP)
		if got := w.next(t); got.Kind != step.kind || got.Reason != step.reason || got.ExternalPort != 5000 {
			t.Errorf("%+v, want %s", got, step.kind)
		}
	}
}
