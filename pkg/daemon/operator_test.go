package daemon_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/control"
	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
)

// ctl calls the operator's tool on the router by its own name, and returns
// what it prints and its exit status. A daemon's control socket may come a moment
// after it serves clients: until then the tool is called again.
func (r *rig) ctl(t testing.TB, args ...string) (out string, status int) {
	t.Helper()
	link := r.path("miniupnpctl")
	if err := os.Symlink(r.program, link); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		out, status = r.callCtl(t, link, args...)
		if !strings.Contains(out, "cannot connect") || !alive(r.pid()) || time.Now().After(deadline) {
			return out, status
		}
	}
}

// callCtl calls the tool once.
func (r *rig) callCtl(t testing.TB, link string, args ...string) (string, int) {
	t.Helper()
	cmd := r.Router.Command(link, append([]string{"-s", r.path("ctl")}, args...)...)
	cmd.Env = r.env
	out, err := cmd.CombinedOutput()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// says demands what the tool prints, in part, and its exit status.
func (r *rig) says(t testing.TB, command string, status int, part string) {
	t.Helper()
	if out, got := r.ctl(t, strings.Fields(command)...); got != status || !strings.Contains(strings.Join(strings.Fields(out), " "), part) {
		t.Errorf("miniupnpctl %s: exit status %d, want %d and %q:\n%s", command, got, status, part, out)
	}
}

func TestOperator(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newRig(t, variant, netlab.Layout{})
		hook, leases := r.path("hook"), r.path("dnsmasq.leases")
		script := "#!/bin/sh\necho $UPNP_EVENT $UPNP_EXTERNAL_PORT/$UPNP_PROTOCOL $UPNP_CLIENT >> " + r.path("told") + "\n"
		err := errors.Join(
			os.WriteFile(hook, []byte(script), 0o755),
			os.WriteFile(leases, []byte("0 02:00:00:00:00:01 192.168.50.10 laptop *\n"), 0o644))
		if err != nil {
			t.Fatal(err)
		}
		r.start(t, "notify_cmd="+hook, "dhcp_leases="+leases)
		r.Clients[0].Echo(t, "tcp", ":4000")
		r.grant(t, mapping(natpmp.MapTCP, 4000, 40000, time.Hour))
		r.dial("tcp", 40000).Arrives(t)

		var list []control.Entry
		text, _ := r.ctl(t, "list", "--json")
		if err := json.Unmarshal([]byte(text), &list); err != nil || len(list) != 1 {
			t.Fatalf("%v: %s", err, text)
		}
		if e := list[0]; e.ExternalPort != 40000 || e.HostName != "laptop" || e.Gone || e.Packets == nil || *e.Packets == 0 {
			t.Errorf("listed as %s", text)
		}
		r.says(t, "status", 0, "mappings: 1 of 1 client")
		r.says(t, "selftest", 0, "ok the mapping can be deleted")
		r.says(t, "explain 192.168.50.10 tcp 22 22", 4, "rule: deny 0-65535 0.0.0.0/0 0-65535")

		r.ipt(t, "-t", "nat", "-F", "MINIUPNPD")
		await(t, "the operator to see that rules were restored", func() bool {
			out, _ := r.ctl(t, "status")
			return strings.Contains(out, "repairs:")
		})
		r.dial("tcp", 40000).Arrives(t)

		r.says(t, "block 1h tcp 40000", 0, "1 mapping closed")
		r.dial("tcp", 40000).Blocked(t)
		if rules := r.rulesOf(t, "nat", "MINIUPNPD"); len(rules) > 0 {
			t.Errorf("rules after a block: %q", rules)
		}
		r.says(t, "explain 192.168.50.10 tcp 40000 4000", 0, "instead of 40000: blocked by the operator block: 1, until ")
		await(t, "the last event", func() bool {
			told, _ := os.ReadFile(r.path("told"))
			return strings.HasPrefix(string(told), "opened 40000/TCP 192.168.50.10\n") &&
				strings.Contains(string(told), "closed 40000/TCP 192.168.50.10\n") && strings.Contains(string(told), "blocked /")
		})
		r.stop(t, syscall.SIGTERM)
		if _, err := os.Lstat(r.path("ctl")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the operator's socket is left behind: %v", err)
		}
		r.says(t, "status", 1, "cannot connect to the daemon")
	})
}

// TestPrivileges demands that each thread of the daemon has two capabilities and can
// regain none, and that sandbox=no disables this.
func TestPrivileges(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string]string{
		"sandbox=yes": "CapPrm:\t0000000000003000 CapEff:\t0000000000003000 CapBnd:\t0000000000000000 CapAmb:\t0000000000000000 NoNewPrivs:\t1 Seccomp:\t2",
		"sandbox=no":  "NoNewPrivs:\t0",
	} {
		r := newRig(t, "nft", netlab.Layout{})
		r.installed()
		r.start(t, setting)
		r.grant(t, mapping(natpmp.MapTCP, 4000, 40000, time.Hour))
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", r.pid()))
		if err != nil || len(threads) == 0 {
			t.Fatalf("%v: no threads", err)
		}
		for _, name := range threads {
			text, err := os.ReadFile(name)
			if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
				continue // it has ended
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, line := range strings.Split(want, " ") {
				if !strings.Contains(string(text), line+"\n") {
					t.Errorf("%s: %s lacks %q:\n%s", setting, name, line, text)
				}
			}
		}
		r.stop(t, syscall.SIGTERM)
	}
}
