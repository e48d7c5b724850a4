package control

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"igdd/pkg/event"
)

// opened is an event of a mapping to the laptop.
func opened(port uint16) event.Event {
	hour := int64(3600)
	return event.Event{
		Kind: event.Opened, Origins: []string{"NAT-PMP"}, Client: laptop, Host: "secret", Protocol: "UDP", ExternalPort: port,
		Internal: laptop, InternalPort: 4000, Description: "game\x1b[2J", Lifetime: &hour,
	}
}

// watching is a tool that watches, and what it has printed.
type watching struct {
	lines chan string
	end   func() error
}

// watch starts the tool's watch command.
func (r *rig) watch(t *testing.T, asJSON bool) *watching {
	t.Helper()
	before := len(r.server.watchers)
	in, out := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- (&tool{socket: r.socket, json: asJSON, stdout: out}).watchUntil(ctx)
		out.Close()
	}()
	w := &watching{lines: make(chan string, 1000)}
	var reading sync.WaitGroup
	reading.Go(func() {
		for lines := bufio.NewScanner(in); lines.Scan(); {
			w.lines <- lines.Text()
		}
	})
	w.end = sync.OnceValue(func() error { cancel(); in.Close(); reading.Wait(); return <-done })
	t.Cleanup(func() { w.end() })
	await(t, "the watcher", func() bool { return len(r.server.watchers) > before })
	return w
}

// next returns the next line.
func (w *watching) next(t *testing.T) string {
	t.Helper()
	select {
	case line := <-w.lines:
		return line
	case <-time.After(time.Minute):
		t.Fatal("no line came")
	}
	return ""
}

func TestWatchShowsEventsAsTheyCome(t *testing.T) {
	r := newRig(t)
	r.events.Add(opened(1)) // before anybody watches
	text, lines := r.watch(t, false), r.watch(t, true)
	closed := event.Event{
		Kind: event.Closed, Origins: []string{"UPnP"}, Protocol: "TCP", Pinhole: true, ExternalPort: 443, Internal: server, InternalPort: 443,
		Reason: "it has expired", Remote: []string{"2001:db8:9::/48"},
	}
	refused := event.Event{
		Kind: event.Refused, Origins: []string{"PCP"}, Client: laptop, Protocol: "TCP", ExternalPort: 22, Internal: phone, InternalPort: 22,
		Reason: "not authorized", Rule: "deny 0-65535 0.0.0.0/0 0-65535", Holder: "22/TCP -> 192.168.50.12:22 (UPnP)", Block: 3,
	}
	for _, e := range []struct {
		event event.Event
		text  string
	}{
		{opened(40000), "opened     40000/UDP -> 192.168.50.10:4000 (laptop) by NAT-PMP for 1h0m0s: game?[2J"},
		{closed, "closed     pinhole/TCP -> [2001:db8:50::20]:443 by UPnP [it has expired; only from 2001:db8:9::/48]"},
		{refused, "refused    22/TCP -> 192.168.50.11:22 (phone) by PCP asked from 192.168.50.10 [not authorized; rule deny 0-65535 0.0.0.0/0 0-65535; port of 22/TCP -> 192.168.50.12:22 (UPnP); block 3]"},
		{
			event.Event{Kind: event.Refused, Origins: []string{"UPnP"}, Client: laptop, Pinhole: true, Delete: true, Reason: "no such mapping"},
			"refused    to delete pinhole by UPnP asked from 192.168.50.10 [no such mapping]",
		},
		{
			event.Event{Kind: event.Reachable, Origins: []string{"PCP"}, Protocol: "TCP", ExternalPort: 443, Internal: laptop, InternalPort: 443, OuterAddress: addr("11.22.33.44"), OuterPort: 40000},
			"reachable  443/TCP -> 192.168.50.10:443 (laptop) by PCP [outside 11.22.33.44:40000]",
		},
		{
			event.Event{Kind: event.Unreachable, Origins: []string{"PCP"}, Protocol: "TCP", ExternalPort: 443, Internal: laptop, InternalPort: 443, Reason: "it does not answer"},
			"unreachable  443/TCP -> 192.168.50.10:443 (laptop) by PCP [it does not answer]",
		},
		{event.Event{Kind: event.Deleted, Subject: "192.168.50.10", Closed: 1}, "deleted    192.168.50.10: 1 mapping closed"},
		{event.Event{Kind: event.Blocked, Subject: "tcp 1-9", Block: 4, Until: time.Date(2026, 11, 28, 1, 2, 3, 0, time.Local)}, "blocked    tcp 1-9: 0 mappings closed, until 2026-11-28 01:02:03 [block 4]"},
		{event.Event{Kind: event.Unblocked, Subject: "tcp 1-9", Block: 4, Reason: "it has ended"}, "unblocked  tcp 1-9 [it has ended; block 4]"},
		{event.Event{Kind: event.Repaired, Family: "IPv4"}, "repaired   IPv4: missing chains or rules were restored"},
		{event.Event{Kind: event.Uplink, Interface: "eth0"}, "uplink     eth0: no IPv4 address"},
		{event.Event{Kind: event.Uplink, Interface: "eth0", Address: addr("10.0.0.1"), Reason: "private"}, "uplink     eth0: 10.0.0.1 [private]"},
	} {
		added := r.events.Add(e.event)
		want := added.Time.Local().Format(time.DateTime) + "  " + e.text
		if got := text.next(t); got != want {
			t.Errorf("%q\nwant %q", got, want)
		}
		line := lines.next(t)
		var got struct {
			Schema int
			event.Event
		}
		if err := json.Unmarshal([]byte(line), &got); err != nil || got.Schema != schemaVersion || got.Serial != added.Serial || !got.Time.Equal(added.Time) ||
			got.Kind != added.Kind || got.Reason != added.Reason || got.Description != added.Description || !strings.HasPrefix(line, `{"schema":1,`) || strings.Contains(line, "secret") {
			t.Errorf("%v: %s", err, line)
		}
		if added.Internal == laptop && (got.HostName != "laptop" || got.MAC != "02:00:00:00:00:01") {
			t.Errorf("the host is not named: %s", line)
		}
	}
	if err := text.end(); err != nil {
		t.Errorf("the end: %v", err)
	}
	await(t, "the end of the watcher, without an event", func() bool { return len(r.server.watchers) == 1 })
}

// TestSlowWatcher has a watcher that reads nothing, and later everything: others get
// every event meanwhile, and it gets or is told of every event.
func TestSlowWatcher(t *testing.T) {
	r := newRig(t)
	slow, err := net.Dial("unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	json.NewEncoder(slow).Encode(request{Do: doWatch})
	await(t, "the slow watcher", func() bool { return len(r.server.watchers) == 1 })
	quick := r.watch(t, true)
	const total = 20000
	for i := range total {
		r.events.Add(opened(uint16(i)))
		if got := quick.next(t); !strings.Contains(got, fmt.Sprintf(`"external_port":%d`, uint16(i))) && uint16(i) != 0 {
			t.Fatalf("event %d: %s", i, got)
		}
	}
	if got := r.tool("list"); got.status != exitDone {
		t.Errorf("list: %+v", got)
	}
	seen, lost := 0, uint64(0)
	for lines := json.NewDecoder(slow); uint64(seen)+lost < total; {
		var a reply
		if err := lines.Decode(&a); err != nil {
			t.Fatal(err)
		}
		if lost += a.Lost; a.Event != nil {
			seen++
		}
	}
	if lost == 0 || uint64(seen)+lost != total {
		t.Errorf("%d events came, %d are lost", seen, lost)
	}
}

func TestLostEventsAreShown(t *testing.T) {
	var out strings.Builder
	text, lines := tool{stdout: &out}, tool{stdout: &out, json: true}
	if text.printLost(1) != nil || !strings.HasSuffix(out.String(), "  lost       1 event: the output is read too slowly\n") {
		t.Errorf("%q", out.String())
	}
	out.Reset()
	if lines.printLost(17) != nil || out.String() != `{"schema":1,"event":"lost","lost":17}`+"\n" {
		t.Errorf("%q", out.String())
	}
}

func TestNumberOfWatchers(t *testing.T) {
	r := newRig(t)
	for range maxWatchers {
		c, err := net.Dial("unix", r.socket)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		json.NewEncoder(c).Encode(request{Do: doWatch})
	}
	await(t, "all watchers", func() bool { return len(r.server.watchers) == maxWatchers })
	if got := r.tool("watch"); got.status != exitFault || !strings.Contains(got.stderr, "64 watchers are connected already") {
		t.Errorf("one more: %+v", got)
	}
	if got := r.tool("status"); got.status != exitDone {
		t.Errorf("status: %+v", got)
	}
}

// TestWatchGoesOnWithTheNextDaemon stops the server and starts another one on the same
// events: nothing is shown twice, and nothing is missing.
func TestWatchGoesOnWithTheNextDaemon(t *testing.T) {
	r := &rig{socket: t.TempDir() + "/ctl", events: event.NewFeed()}
	start := func() (end func()) {
		server := New(Options{Socket: r.socket, Events: r.events, Hosts: noHosts, Log: testLog(t)})
		r.server = server
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- server.Run(ctx) }()
		return func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	end := start()
	await(t, "the server", func() bool { _, err := net.Dial("unix", r.socket); return err == nil })
	w := r.watch(t, true)
	r.events.Add(opened(1))
	first := w.next(t)
	end()
	r.events.Add(opened(2))
	defer start()()
	r.events.Add(opened(3))
	for i, line := range []string{first, w.next(t), w.next(t)} {
		if !strings.Contains(line, fmt.Sprintf(`"external_port":%d,`, i+1)) {
			t.Errorf("line %d: %s", i+1, line)
		}
	}
}

func TestHistoryOfEvents(t *testing.T) {
	r := newRig(t)
	if got := r.tool("history"); got != (called{}) {
		t.Errorf("nothing has happened: %+v", got)
	}
	for i := range uint16(event.HistoryLength + 20) {
		r.events.Add(opened(i + 1))
	}
	all := strings.Split(strings.TrimSpace(r.tool("history").stdout), "\n")
	if len(all) != event.HistoryLength || !strings.Contains(all[0], " 21/UDP -> ") || !strings.Contains(all[len(all)-1], " 520/UDP -> 192.168.50.10:4000 (laptop) ") {
		t.Errorf("%d lines, from %q to %q", len(all), all[0], all[len(all)-1])
	}
	got := r.tool("history", "2", "--json").stdout
	if lines := strings.Split(strings.TrimSpace(got), "\n"); len(lines) != 2 || !strings.Contains(lines[0], `"external_port":519,`) || !strings.HasPrefix(lines[1], `{"schema":1,`) {
		t.Errorf("%q", got)
	}
}
