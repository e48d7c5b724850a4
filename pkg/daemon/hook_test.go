package daemon_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
)

// TestNotificationProgram demands that the program is run for each mapping that is
// opened, renewed, refused or closed, with the values in its environment.
func TestNotificationProgram(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	r.installed()
	script := "#!/bin/sh\nset | grep ^UPNP_ | tr '\\n' ' ' >> " + r.path("told") + "\necho >> " + r.path("told") + "\n"
	if err := os.WriteFile(r.path("hook"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	r.start(t, "notify_cmd="+r.path("hook"))
	r.grant(t, mapping(natpmp.MapUDP, 4000, 40000, time.Hour))
	r.grant(t, mapping(natpmp.MapUDP, 4000, 40000, 2*time.Hour))
	if resp := r.natpmpMap(t, r.Clients[0], client1, mapping(natpmp.MapTCP, 22, 2222, time.Hour)); resp.Result != natpmp.NotAuthorized {
		t.Fatalf("result %d, want a refusal", resp.Result)
	}
	r.grant(t, mapping(natpmp.MapUDP, 4000, 0, 0))
	var told []string
	await(t, "four events", func() bool {
		text, _ := os.ReadFile(r.path("told"))
		told = strings.Split(strings.TrimSpace(string(text)), "\n")
		return strings.Count(string(text), "\n") == 4
	})
	slices.SortStableFunc(told, func(a, b string) int { return strings.Compare(value(a, "EVENT"), value(b, "EVENT")) })
	for i, want := range []map[string]string{
		{"EVENT": "closed", "EXTERNAL_PORT": "40000"},
		{"EVENT": "opened", "CLIENT": "192.168.50.10", "PROTOCOL": "UDP", "EXTERNAL_PORT": "40000", "INTERNAL_ADDRESS": "192.168.50.10", "INTERNAL_PORT": "4000", "ORIGIN": "NAT-PMP"},
		{"EVENT": "refused", "CLIENT": "192.168.50.10", "PROTOCOL": "TCP", "INTERNAL_PORT": "22", "EXTERNAL_PORT": "2222"},
		{"EVENT": "renewed", "EXTERNAL_PORT": "40000"},
	} {
		for name, v := range want {
			if got := value(told[i], name); got != v {
				t.Errorf("UPNP_%s is %q, want %q: %s", name, got, v, told[i])
			}
		}
	}
}

// value returns one of the variables that the program was given.
func value(line, name string) string {
	_, rest, _ := strings.Cut(" "+line, " UPNP_"+name+"=")
	v, _, _ := strings.Cut(rest, " ")
	return strings.Trim(v, "'")
}

// TestPrivilegesOfPrograms demands that the resident iptables-restore has no more
// privileges than the daemon, and that the notification program, which is the
// administrator's, has all of root's and does not run as a child of the daemon.
func TestPrivilegesOfPrograms(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newRig(t, variant, netlab.Layout{})
		r.installed()
		if err := os.WriteFile(r.path("hook"), []byte("#!/bin/sh\nexec sleep 60\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		r.start(t, "notify_cmd="+r.path("hook"))
		r.grant(t, mapping(natpmp.MapTCP, 4000, 40000, time.Hour))
		r.Clients[0].Echo(t, "tcp", "192.168.50.10:4000")
		r.dial("tcp", 40000).Arrives(t)
		helper := children(r.pid())["igdd-helper"]
		if helper == "" {
			t.Fatalf("the daemon's children are %q", names(children(r.pid())))
		}
		var programs map[string]string
		await(t, "both programs", func() bool {
			programs = children(r.pid())
			delete(programs, "igdd-helper")
			return children(pidOf(t, helper))["sleep"] != "" && len(programs) > 0
		})
		if hook := children(pidOf(t, helper))["sleep"]; capabilities(hook) != capabilities(ownStatus(t)) {
			t.Errorf("the notification program has other capabilities than root:\n%s", hook)
		}
		for name, status := range programs {
			if !strings.Contains(name, "tables") {
				t.Errorf("the daemon has a child %s", name)
			}
			for _, want := range []string{
				"CapPrm:\t0000000000003000", "CapEff:\t0000000000003000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2",
			} {
				if !strings.Contains(status, want+"\n") {
					t.Errorf("%s lacks %q:\n%s", name, want, status)
				}
			}
		}
	})
}

// pidOf returns the process ID in a status.
func pidOf(t testing.TB, status string) int {
	t.Helper()
	_, rest, _ := strings.Cut(status, "\nPid:\t")
	text, _, _ := strings.Cut(rest, "\n")
	pid, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// ownStatus returns the status of the tests themselves.
func ownStatus(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// capabilities returns the effective capabilities in a status.
func capabilities(status string) string {
	_, rest, _ := strings.Cut(status, "\nCapEff:\t")
	caps, _, _ := strings.Cut(rest, "\n")
	return caps
}

func names(programs map[string]string) (list []string) {
	for name := range programs {
		list = append(list, name)
	}
	return list
}

// children returns what /proc says of a process's children, by their names.
func children(pid int) map[string]string {
	found := make(map[string]string)
	files, _ := filepath.Glob("/proc/[0-9]*/status")
	for _, name := range files {
		text, _ := os.ReadFile(name)
		if strings.Contains(string(text), fmt.Sprintf("\nPPid:\t%d\n", pid)) {
			comm, _ := os.ReadFile(filepath.Join(filepath.Dir(name), "comm"))
			found[strings.TrimSpace(string(comm))] = string(text)
		}
	}
	return found
}

// TestLogStaysSmall sends 10,000 invalid packets, and then none.
func TestLogStaysSmall(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	r.foreground(t, "enable_upnp=yes")
	r.externalAddr(t)
	before := strings.Count(r.log(t), "\n")
	client := r.socket(t)
	bad := [][]byte{
		{}, {0}, {0, 99}, {1, 0, 0, 0}, {2}, {2, 1, 0, 0, 0, 0, 14, 16}, []byte("M-SEARCH * HTTP/1.1\r\n\r\n"),
		mapping(natpmp.MapTCP, 22, 22, time.Hour).Append(nil), mapping(natpmp.MapUDP, 0, 9, time.Hour).Append(nil),
		append([]byte{2, 1}, make([]byte, 58)...), append([]byte{2, 99}, make([]byte, 22)...),
	}
	for i := range 10000 {
		client.WriteToUDPAddrPort(bad[i%len(bad)], addrPort(netlab.RouterLAN.Addr(), 5351))
	}
	await(t, "an answer, when all have been heard", func() bool {
		reply, _ := exchange(t, r.Clients[0], client1, netlab.RouterLAN.Addr(), []byte{0, 0}, hush)
		return len(reply) == 12
	})
	if n := strings.Count(r.log(t), "\n") - before; n > 20 {
		t.Errorf("%d lines, want 20 at most:\n%s", n, r.log(t))
	} else {
		t.Logf("%d lines about 10,000 packets", n)
	}
	was := r.log(t)
	time.Sleep(4 * hush) // no line may come, but of the route that is read once after the start
	for line := range strings.Lines(strings.TrimPrefix(r.log(t), was)) {
		if !strings.Contains(line, "read the route") {
			t.Errorf("logged while nothing happens: %s", line)
		}
	}
}
