package notify

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/event"
)

// of returns an event of a mapping to 192.168.50.10 that NAT-PMP opened.
func of(kind event.Kind, external uint16, seconds int64) event.Event {
	return event.Event{
		Kind: kind, Origins: []string{"NAT-PMP"}, Protocol: "TCP", ExternalPort: external,
		Internal: netip.MustParseAddr("192.168.50.10"), InternalPort: 80, Description: "web", Lifetime: &seconds,
	}
}

// logBuffer is a log to look into while others write.
type logBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// String returns what was logged until now.
func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logBuffer) count(says string) int { return strings.Count(l.String(), says) }

// recovered begins the line that ends a trouble; the line that begins one says
// "works again" as well.
const recovered = `msg="UPNP_NOTIFY_CMD works again"`

// await waits until something holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// rig is a Runner whose program is a script.
type rig struct {
	*Runner
	dir string
	log *logBuffer
}

func newRig(t *testing.T, script string, arguments ...string) *rig {
	t.Helper()
	r := &rig{dir: t.TempDir(), log: new(logBuffer)}
	program := r.path("hook")
	if err := os.WriteFile(program, []byte("#!/bin/sh\ncd "+r.dir+"\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	var err error
	r.Runner, err = New(Options{
		Command: strings.Join(append([]string{program}, arguments...), " "),
		Log:     slog.New(slog.NewTextHandler(r.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// serve runs the Runner until the test ends.
func (r *rig) serve(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

// lines returns the lines that the program wrote.
func (r *rig) lines(name string) []string {
	text, _ := os.ReadFile(r.path(name))
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

func TestProgramIsToldInItsEnvironment(t *testing.T) {
	r := newRig(t, `{ echo "$@"; env | grep -v -e ^PWD= -e ^OLDPWD= -e ^SHLVL= -e ^_= | sort; cat; } >> told; echo done >> told`, "-x", "$HOME")
	r.serve(t)
	forever := of(event.Opened, 443, 0)
	forever.Origins, forever.Protocol, forever.Pinhole, forever.Description = []string{"PCP", "UPnP"}, "UDP", true, "quic"
	forever.Internal, forever.InternalPort, forever.Lifetime = netip.MustParseAddr("2001:db8::10"), 443, nil
	forever.Remote = []string{"2001:db8:9::/48", "2001:db8:8::1/128"}
	ended := of(event.Closed, 8080, 0)
	ended.Reason = "it has expired"
	reachable, unreachable := of(event.Reachable, 8080, 3600), of(event.Unreachable, 8080, 3600)
	reachable.Forwarding, reachable.OuterAddress, reachable.OuterPort = "reachable", netip.MustParseAddr("11.22.33.44"), 40000
	unreachable.Forwarding, unreachable.Reason = "unreachable", "it does not answer"
	for _, e := range []event.Event{
		of(event.Opened, 8080, 3600), of(event.Renewed, 8080, 7200), ended, forever,
		{
			Kind: event.Refused, Origins: []string{"UPnP"}, Client: netip.MustParseAddr("192.168.50.11"), Protocol: "TCP", ExternalPort: 22,
			Internal: netip.MustParseAddr("192.168.50.11"), InternalPort: 22, Description: "`reboot`\n$(reboot)",
			Reason: "not authorized", Rule: "deny 0-65535 0.0.0.0/0 0-65535", MAC: "02:00:00:00:00:11",
		},
		{Kind: event.Blocked, Subject: "192.168.50.11 tcp", Block: 3, Closed: 2, Until: time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)},
		reachable, unreachable,
		{Kind: event.Repaired, Family: "IPv4"},
		{Kind: event.Uplink, Interface: "eth0", Address: netip.MustParseAddr("11.22.33.44")},
	} {
		r.Push(e)
	}
	const common = `UPNP_INTERNAL_ADDRESS=192.168.50.10
UPNP_INTERNAL_PORT=80
`
	want := ""
	for _, e := range []struct{ kind, lifetime string }{{"opened", "3600"}, {"renewed", "7200"}, {"closed", ""}} {
		want += "-x $HOME\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\nUPNP_CLIENT=192.168.50.10\nUPNP_DESCRIPTION=web\nUPNP_EVENT=" + e.kind +
			"\nUPNP_EXTERNAL_PORT=8080\n" + common
		if e.lifetime != "" {
			want += "UPNP_LIFETIME=" + e.lifetime + "\n"
		}
		want += "UPNP_ORIGIN=NAT-PMP\nUPNP_PROTOCOL=TCP\n"
		if e.kind == "closed" {
			want += "UPNP_REASON=it has expired\n"
		}
		want += "UPNP_REMOTE=\ndone\n"
	}
	want += `-x $HOME
PATH=/usr/sbin:/usr/bin:/sbin:/bin
UPNP_CLIENT=2001:db8::10
UPNP_DESCRIPTION=quic
UPNP_EVENT=opened
UPNP_EXTERNAL_PORT=443
UPNP_INTERNAL_ADDRESS=2001:db8::10
UPNP_INTERNAL_PORT=443
UPNP_LIFETIME=0
UPNP_ORIGIN=PCP,UPnP
UPNP_PROTOCOL=UDP
UPNP_REMOTE=2001:db8:9::/48,2001:db8:8::1/128
done
-x $HOME
PATH=/usr/sbin:/usr/bin:/sbin:/bin
UPNP_CLIENT=192.168.50.11
UPNP_DESCRIPTION=?reboot???(reboot)
UPNP_EVENT=refused
UPNP_EXTERNAL_PORT=22
UPNP_INTERNAL_ADDRESS=192.168.50.11
UPNP_INTERNAL_PORT=22
UPNP_MAC=02:00:00:00:00:11
UPNP_ORIGIN=UPnP
UPNP_PROTOCOL=TCP
UPNP_REASON=not authorized
UPNP_RULE=deny 0-65535 0.0.0.0/0 0-65535
done
-x $HOME
PATH=/usr/sbin:/usr/bin:/sbin:/bin
UPNP_BLOCK=3
UPNP_CLOSED=2
UPNP_EVENT=blocked
UPNP_SUBJECT=192.168.50.11 tcp
UPNP_UNTIL=2026-11-27T12:00:00Z
done
-x $HOME
PATH=/usr/sbin:/usr/bin:/sbin:/bin
UPNP_CLIENT=192.168.50.10
UPNP_DESCRIPTION=web
UPNP_EVENT=reachable
UPNP_EXTERNAL_PORT=8080
UPNP_FORWARDING=reachable
UPNP_INTERNAL_ADDRESS=192.168.50.10
UPNP_INTERNAL_PORT=80
UPNP_LIFETIME=3600
UPNP_ORIGIN=NAT-PMP
UPNP_OUTER_ADDRESS=11.22.33.44
UPNP_OUTER_PORT=40000
UPNP_PROTOCOL=TCP
UPNP_REMOTE=
done
-x $HOME
PATH=/usr/sbin:/usr/bin:/sbin:/bin
UPNP_CLIENT=192.168.50.10
UPNP_DESCRIPTION=web
UPNP_EVENT=unreachable
UPNP_EXTERNAL_PORT=8080
UPNP_FORWARDING=unreachable
UPNP_INTERNAL_ADDRESS=192.168.50.10
UPNP_INTERNAL_PORT=80
UPNP_LIFETIME=3600
UPNP_ORIGIN=NAT-PMP
UPNP_PROTOCOL=TCP
UPNP_REASON=it does not answer
UPNP_REMOTE=
done
-x $HOME
PATH=/usr/sbin:/usr/bin:/sbin:/bin
UPNP_EVENT=repaired
UPNP_FAMILY=IPv4
done
-x $HOME
PATH=/usr/sbin:/usr/bin:/sbin:/bin
UPNP_ADDRESS=11.22.33.44
UPNP_EVENT=uplink
UPNP_INTERFACE=eth0
done
`
	wanted := strings.Split(strings.TrimSuffix(want, "\n"), "\n")
	await(t, "ten runs", func() bool { return strings.Count(strings.Join(r.lines("told"), "\n"), "done") == 10 })
	for i, line := range r.lines("told") {
		if i >= len(wanted) || line != wanted[i] {
			t.Fatalf("line %d is %q, want %q", i+1, line, wanted[min(i, len(wanted)-1)])
		}
	}
}

func TestOneProcessAtATime(t *testing.T) {
	r := newRig(t, `mkdir busy || echo twice >> told; echo $UPNP_EXTERNAL_PORT >> told; rmdir busy`)
	r.serve(t)
	var want []string
	for port := range uint16(30) {
		r.Push(of(event.Opened, port+1, 3600))
		want = append(want, strconv.Itoa(int(port)+1))
	}
	await(t, "30 runs", func() bool { return len(r.lines("told")) >= 30 })
	if got := r.lines("told"); !slices.Equal(got, want) {
		t.Errorf("told %v", got)
	}
}

func TestSlowProgramLosesEventsNotMemory(t *testing.T) {
	r := newRig(t, `echo $UPNP_EVENT >> told`)
	for range 10 * queueLength { // nobody takes any yet
		r.Push(of(event.Refused, 22, 0))
	}
	for i := range queueLength {
		r.Push(of(event.Opened, uint16(i+1), 3600))
	}
	r.serve(t)
	await(t, "the end of the burst", func() bool { return r.log.count("events were dropped") > 0 })
	kinds := make(map[string]int)
	for _, kind := range r.lines("told") {
		kinds[kind]++
	}
	if kinds["refused"] != minorLength || kinds["opened"] != queueLength-minorLength {
		t.Errorf("told %v", kinds)
	}
	if lost := 10*queueLength + queueLength - queueLength; r.log.count(fmt.Sprintf("lost=%d", lost)) != 1 {
		t.Errorf("log:\n%s", r.log)
	}
}

func TestProgramThatHangsIsKilledWithItsChildren(t *testing.T) {
	r := newRig(t, `[ $UPNP_EVENT = closed ] && exit; sleep 1000 & echo $! > child; sleep 1000`)
	r.execute = func(ctx context.Context, command string, values []string) error {
		return runFor(ctx, 300*time.Millisecond, command, values)
	}
	r.serve(t)
	var child int
	await(t, "a program that got as far as its child", func() bool {
		if len(r.queue) == 0 { // a busy machine may need another try
			r.Push(of(event.Opened, 1, 3600))
		}
		var err error
		child, err = strconv.Atoi(r.lines("child")[0])
		return err == nil
	})
	await(t, "the time limit", func() bool { return r.log.count("took too long") == 1 })
	await(t, "the end of the child", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", child))
		return err != nil || strings.Contains(string(stat), ") Z ")
	})
	r.Push(of(event.Closed, 1, 0))
	await(t, "the next run", func() bool { return r.log.count(recovered) == 1 })
}

func TestEndOfRunEndsTheProgram(t *testing.T) {
	r := newRig(t, `echo $$ > self; exec sleep 1000`)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	r.Push(of(event.Opened, 1, 3600))
	await(t, "the program", func() bool { return len(r.lines("self")[0]) > 0 })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	pid, err := strconv.Atoi(r.lines("self")[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
		t.Errorf("process %d is still there: %v", pid, err)
	}
	if r.log.count("\n") != 0 {
		t.Errorf("log:\n%s", r.log)
	}
}

func TestFailureIsToldOnce(t *testing.T) {
	for name, c := range map[string]struct{ script, says string }{
		"exit status":   {"echo 'no such list' >&2; exit 3", `exit status 3: \"no such list\"`},
		"much to say":   {"yes | head -c 100000 >&2; exit 4", "exit status 4"},
		"no such shell": {"exit 127", "exit status 127"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "[ $UPNP_EVENT = closed ] && exit\n"+c.script)
			for range 5 {
				r.Push(of(event.Opened, 1, 3600))
			}
			r.Push(of(event.Closed, 1, 0))
			r.serve(t)
			await(t, "the end of trouble", func() bool { return r.log.count(recovered) == 1 })
			if r.log.count("UPNP_NOTIFY_CMD failed") != 1 || r.log.count(c.says) != 1 || len(r.log.String()) > 2000 {
				t.Errorf("log:\n%s", r.log)
			}
		})
	}
}

func TestMissingProgram(t *testing.T) {
	r := newRig(t, "")
	os.Remove(r.path("hook"))
	r.serve(t)
	r.Push(of(event.Opened, 1, 3600))
	await(t, "word of it", func() bool { return r.log.count("no such file") == 1 })
	for _, command := range []string{"", "  ", "hook", "./hook -x", "sh -c hook"} {
		if _, err := New(Options{Command: command}); err == nil || !strings.Contains(err.Error(), "absolute path") {
			t.Errorf("%q: %v", command, err)
		}
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"Bob – game 5/€":                    "Bob – game 5/€",
		"a\x00b\nc\x1b[2Jd\xff\u202ee":      "a?b?c?[2Jd??e",
		"\"'`$\\;&|":                        "?????;&|",
		strings.Repeat("x", 300):            strings.Repeat("x", 256),
		"y" + strings.Repeat("é", 200):      "y" + strings.Repeat("é", 127),
		"yz" + strings.Repeat("é", 127):     "yz" + strings.Repeat("é", 127),
		strings.Repeat("\xff", maxValue*10): strings.Repeat("?", maxValue),
	} {
		if got := sanitize(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

// TestOnlyValuesOfEvents demands that a program is run with nothing else.
func TestOnlyValuesOfEvents(t *testing.T) {
	r := newRig(t, "echo run >> told")
	for _, values := range [][]string{
		{"LD_PRELOAD=/tmp/evil.so"}, {"PATH=/tmp"}, {"UPNP_EVENT=opened", "UPNP_EVENT=closed"}, {"UPNP_X=1"},
		{"UPNP_DESCRIPTION=$(reboot)"}, {"UPNP_DESCRIPTION=a\x00PATH=/tmp"}, {"UPNP_DESCRIPTION=" + strings.Repeat("x", maxValue+1)},
	} {
		if err := Run(t.Context(), r.command, values); err == nil {
			t.Errorf("%q are accepted", values)
		}
	}
	if err := Run(t.Context(), "hook", nil); err == nil {
		t.Error("a relative path is accepted")
	}
	if got := r.lines("told")[0]; got != "" {
		t.Errorf("the program has run: %q", got)
	}
	if err := Run(t.Context(), r.command, []string{"UPNP_EVENT=opened"}); err != nil || r.lines("told")[0] != "run" {
		t.Errorf("values of an event: %v", err)
	}
}
