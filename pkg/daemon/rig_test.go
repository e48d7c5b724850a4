package daemon_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/netlab"
)

// patience is how long a test waits for what must come: many tests share the
// machine. hush is how long it listens for what must not.
const (
	patience = time.Minute
	hush     = 300 * time.Millisecond
)

// The daemon under test, built once: as it is installed, and with the race detector.
var (
	program string
	raced   func() string
)

func TestMain(m *testing.M) {
	os.Exit(netlab.Main(func() int {
		dir, err := os.MkdirTemp("", "igdd-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		program = build(filepath.Join(dir, "miniupnpd"), "CGO_ENABLED=0")
		raced = sync.OnceValue(func() string {
			return build(filepath.Join(dir, "raced", "miniupnpd"), "CGO_ENABLED=1", "-race")
		})
		return m.Run()
	}))
}

// build makes the daemon in a file, and returns its path.
func build(path, env string, flags ...string) string {
	cmd := exec.Command("go", append(append([]string{"build", "-o", path}, flags...), "igdd/cmd/miniupnpd")...)
	cmd.Env = append(os.Environ(), env)
	if out, err := cmd.CombinedOutput(); err != nil {
		panic(string(out))
	}
	return path
}

// rig is a router of the lab with the daemon on it.
type rig struct {
	*netlab.Lab
	program string // the daemon
	variant string // of iptables
	dir     string // settings, pid file, leases
	env     []string
	stubs   bool // programs of iptables are replaced while the daemon runs
}

// rules allow clients of the first LAN what the vectors presuppose.
const rules = `allow 1024-65535 192.168.50.0/24 9
allow 1024-65535 192.168.50.0/24 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
`

// newRig makes a lab whose router forwards nothing from the WAN but what the
// daemon maps.
func newRig(t testing.TB, variant string, layout netlab.Layout) *rig {
	t.Helper()
	return rigOn(t, variant, netlab.NewLab(t, layout))
}

// rigOn is newRig for a lab that is there.
func rigOn(t testing.TB, variant string, lab *netlab.Lab) *rig {
	t.Helper()
	r := &rig{Lab: lab, program: program, variant: variant, dir: t.TempDir()}
	if hasDetector {
		r.detectRaces()
	}
	races := filepath.Join(filepath.Dir(program), r.Router.Name) // a subtest's own folder may have commas
	r.env = append(r.Router.Env(), "PATH="+netlab.Tools(t, variant)+":"+os.Getenv("PATH"), "GORACE=atexit_sleep_ms=0 log_path="+races)
	r.ipt(t, "-P", "FORWARD", "DROP")
	r.ipt(t, "-A", "FORWARD", "-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT")
	r.ipt(t, "-A", "FORWARD", "-i", "lan+", "-o", "wan+", "-j", "ACCEPT")
	r.ipt(t, "-t", "nat", "-A", "POSTROUTING", "-o", "wan+", "-j", "MASQUERADE")
	t.Cleanup(func() { // it writes to dir, which is removed next
		r.stop(t, syscall.SIGKILL)
		demandNoRace(t, races)
	})
	return r
}

// demandNoRace fails the test if a daemon has reported a data race to a file
// whose name begins so.
func demandNoRace(t testing.TB, prefix string) {
	t.Helper()
	reports, err := filepath.Glob(prefix + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range reports {
		text, err := os.ReadFile(name)
		t.Errorf("the daemon has a data race: %v\n%s", err, text)
	}
}

// installed has the rig use the daemon as it is installed, whether or not the
// tests have the race detector: for tests of the sandbox, and of what the daemon
// does with the few privileges that it leaves.
func (r *rig) installed() { r.program = program }

// detectRaces has the rig use the daemon with the race detector, whether or not the tests
// have it: where many things happen at once. Without the C compiler that it needs, which
// scripts/test.sh installs, the rig uses the daemon as it is.
func (r *rig) detectRaces() {
	if _, err := exec.LookPath("gcc"); err == nil {
		r.program = raced()
	}
}

// replacing has the rig's daemon run stubs that replace programs of iptables while it
// runs: in the sandbox it runs no scripts, and no files that were not there before.
func (r *rig) replacing() { r.stubs = true }

// sandbox is the setting for the rig's daemon: one with the race detector is
// linked with C, and such a program cannot drop privileges on all its threads.
func (r *rig) sandbox() string {
	if r.program != program || r.stubs {
		return "no"
	}
	return "yes"
}

// ipt runs the rig's iptables on the router.
func (r *rig) ipt(t testing.TB, args ...string) string {
	t.Helper()
	return r.Router.Run(t, "/usr/sbin/iptables-"+r.variant, append([]string{"-w"}, args...)...)
}

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

// configure writes the settings file.
func (r *rig) configure(t testing.TB, more ...string) {
	t.Helper()
	conf := fmt.Sprintf("ext_ifname=wan0\nlistening_ip=lan0\nhttp_port=5000\nenable_natpmp=yes\nenable_upnp=no\n"+
		"lease_file=%s\ncontrol_socket=%s\nsecure_mode=yes\nmin_lifetime=120\nmax_lifetime=86400\nuuid=3d3cec3a-8cf0-11e0-98ee-001a6bd2d07b\n",
		r.path("upnp.leases"), r.path("ctl"))
	if !slices.ContainsFunc(more, func(l string) bool { return strings.HasPrefix(l, "allow") || strings.HasPrefix(l, "deny") }) {
		more = append(slices.Clone(more), rules)
	}
	if !slices.ContainsFunc(more, func(l string) bool { return strings.HasPrefix(l, "sandbox=") }) {
		more = append(slices.Clone(more), "sandbox="+r.sandbox())
	}
	conf += strings.Join(more, "\n") + "\n"
	if err := os.WriteFile(r.path("miniupnpd.conf"), []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
}

// launch runs the daemon as AstLinux's init script does and returns its
// output.
func (r *rig) launch() (string, error) {
	return r.run("-f", r.path("miniupnpd.conf"))
}

// run runs the daemon with arguments of its own and returns its output.
func (r *rig) run(args ...string) (string, error) {
	cmd := r.Router.Command(r.program, append(args, "-P", r.path("pid"))...)
	cmd.Env = r.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// start configures and starts the daemon; it serves when start returns.
func (r *rig) start(t testing.TB, more ...string) {
	t.Helper()
	r.configure(t, more...)
	if out, err := r.launch(); err != nil {
		t.Fatalf("the daemon does not start: %v: %s", err, out)
	}
}

// pid returns the number in the pid file, 0 if there is none.
func (r *rig) pid() int {
	text, _ := os.ReadFile(r.path("pid"))
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return pid
}

// kill sends a signal to the daemon.
func (r *rig) kill(s syscall.Signal) {
	if pid := r.pid(); pid > 0 {
		syscall.Kill(pid, s)
	}
}

// stop ends the daemon with a signal and waits until it is gone.
func (r *rig) stop(t testing.TB, s syscall.Signal) {
	t.Helper()
	pid := r.pid()
	r.kill(s)
	await(t, "the end of the daemon", func() bool { return !alive(pid) })
	if s == syscall.SIGKILL {
		os.Remove(r.path("pid"))
	}
}

// suspend stops a process, and returns when all its threads have stopped: until
// then they may go on reading what is sent to them.
func suspend(t testing.TB, pid int) {
	t.Helper()
	syscall.Kill(pid, syscall.SIGSTOP)
	await(t, "the process to be suspended", func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		return err == nil && len(threads) > 0 && !slices.ContainsFunc(threads, func(name string) bool {
			stat, err := os.ReadFile(name)
			return err == nil && !strings.Contains(string(stat), ") T ")
		})
	})
}

// alive reports whether a thread of the process runs: its first one may be gone before
// the others, which keep its sockets open.
func alive(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid)) // the pattern is well-formed
	return slices.ContainsFunc(threads, func(name string) bool {
		stat, err := os.ReadFile(name)
		return err == nil && !strings.Contains(string(stat), ") Z ")
	})
}

// await waits until something holds. It asks less and less often, since asking
// may start programs, which the tests beside this one would wait for.
func await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	pause := 5 * time.Millisecond
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(pause) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		pause = min(pause*3/2, 100*time.Millisecond)
	}
}

// leases returns the lines of the lease file.
func (r *rig) leases(t testing.TB) []string {
	t.Helper()
	text, err := os.ReadFile(r.path("upnp.leases"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// rulesOf returns the rules of a chain as iptables -S prints them.
func (r *rig) rulesOf(t testing.TB, table, chain string) []string {
	t.Helper()
	var list []string
	for line := range strings.Lines(r.ipt(t, "-t", table, "-S", chain)) {
		if strings.HasPrefix(line, "-A") {
			list = append(list, strings.TrimSpace(line))
		}
	}
	return list
}

// exchange sends a datagram from a host to the server's port and returns the
// reply, or nil after d of silence.
func exchange(t testing.TB, from *netlab.Namespace, source, gateway netip.Addr, request []byte, d time.Duration) (reply []byte, replier netip.AddrPort) {
	t.Helper()
	err := from.Do(func() error {
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(source, 0)))
		if err != nil {
			return err
		}
		defer c.Close()
		if gateway.IsLinkLocalUnicast() {
			gateway = gateway.WithZone("eth0")
		}
		reply, replier, err = netlab.Ask(c, netip.AddrPortFrom(gateway, 5351), request, d)
		return err
	})
	if err != nil {
		t.Fatalf("send from %v to %v: %v", source, gateway, err)
	}
	return reply, replier
}

// removeFiles removes everything the daemon wrote.
func (r *rig) removeFiles(t testing.TB) {
	t.Helper()
	left, err := filepath.Glob(r.path("*"))
	for _, name := range left {
		err = errors.Join(err, os.RemoveAll(name))
	}
	if err != nil {
		t.Fatal(err)
	}
}
