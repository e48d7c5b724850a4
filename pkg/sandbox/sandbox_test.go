package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlab"
)

// confined is the path of this test built without cgo, with which the sandbox does not
// work, but which the race detector needs. With roleEnv it runs a function in the
// sandbox instead of the tests.
var confined string

const roleEnv = "SANDBOX_ROLE"

func TestMain(m *testing.M) {
	if name, isSet := os.LookupEnv(roleEnv); isSet {
		os.Exit(roles[name](os.Args[1:]))
	}
	os.Exit(netlab.Main(func() int {
		dir, err := os.MkdirTemp("", "igdd-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		confined = filepath.Join(dir, "confined")
		build := exec.Command("go", "test", "-c", "-o", confined, "igdd/pkg/sandbox")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			panic(string(out))
		}
		return m.Run()
	}))
}

var roles = map[string]func(args []string) int{
	"status": showStatus,
	"run":    runCommands,
	"try":    tryCalls,
}

// enter confines a process that has several threads. Every role begins with it.
func enter() {
	release := make(chan struct{})
	var ready sync.WaitGroup
	for range 4 {
		ready.Add(1)
		go func() {
			runtime.LockOSThread()
			ready.Done()
			<-release
		}()
	}
	ready.Wait()
	filtered, err := Enter()
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("filtered:", filtered)
}

// showStatus prints the status of every thread and of a child process.
func showStatus([]string) int {
	enter()
	var after sync.WaitGroup
	after.Add(1)
	go func() { runtime.LockOSThread(); after.Done(); select {} }()
	after.Wait()
	threads, _ := filepath.Glob("/proc/self/task/*/status")
	for _, name := range threads {
		text, err := os.ReadFile(name)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Print("thread\n", string(text))
	}
	child, err := exec.Command("/bin/sh", "-c", "cat /proc/self/status; ulimit -c").Output()
	fmt.Print("child\n", string(child))
	dumpable, dumpErr := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	fmt.Println("dumpable:", dumpable)
	if err := errors.Join(err, dumpErr); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// runCommands runs shell commands until one fails.
func runCommands(commands []string) int {
	enter()
	for _, command := range commands {
		if out, err := exec.Command("/bin/sh", "-c", command).CombinedOutput(); err != nil {
			fmt.Printf("%s: %v: %s", command, err, out)
			return 1
		}
	}
	return 0
}

// tryCalls prints the results of some system calls: success, and permission denied.
func tryCalls([]string) int {
	enter()
	process := func(flags uintptr) error {
		cmd := exec.Command("/bin/true")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
		return cmd.Run()
	}
	_, _, clone3 := unix.Syscall(unix.SYS_CLONE3, 0, 0, 0)
	_, _, bpf := unix.Syscall(unix.SYS_BPF, 0, 0, 0)
	_, err := os.ReadFile("/proc/1/environ")
	for name, err := range map[string]error{
		"unshare":                  unix.Unshare(unix.CLONE_NEWUSER),
		"clone a user namespace":   process(unix.CLONE_NEWUSER),
		"clone":                    process(0),
		"clone3":                   clone3,
		"bpf":                      bpf,
		"ptrace":                   unix.PtraceAttach(1),
		"mount":                    unix.Mount("none", "/tmp", "tmpfs", 0, ""),
		"set the clock":            unix.Settimeofday(&unix.Timeval{Sec: 1}),
		"another process's memory": err,
	} {
		fmt.Printf("%s: %t %t\n", name, err == nil, errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES))
	}
	return 0
}

// runRole runs a role of the confined program.
func runRole(t *testing.T, cmd *exec.Cmd, role string) string {
	t.Helper()
	cmd.Env = append(cmd.Environ(), roleEnv+"="+role)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

func TestEveryThreadIsConfined(t *testing.T) {
	out := runRole(t, exec.Command(confined), "status")
	parts := strings.Split(strings.ReplaceAll(out, "child\n", "thread\n"), "thread\n")[1:]
	if len(parts) < 6 {
		t.Fatalf("only %d threads", len(parts))
	}
	const netAdminRaw = "0000000000003000"
	for i, part := range parts {
		for _, want := range []string{
			"CapInh:\t" + netAdminRaw, "CapPrm:\t" + netAdminRaw, "CapEff:\t" + netAdminRaw,
			"CapBnd:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2",
		} {
			if !strings.Contains(part, want+"\n") {
				t.Errorf("thread %d of %d lacks %q:\n%s", i, len(parts), want, part)
			}
		}
	}
	for _, want := range []string{"filtered: true\n", "\n0\ndumpable: 0\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in %s", want, out)
		}
	}
}

func TestDeniedCalls(t *testing.T) {
	out := runRole(t, exec.Command(confined), "try")
	for _, want := range []string{
		"unshare: false true", "clone a user namespace: false true", "clone: true false", "clone3: false false", "bpf: false true",
		"ptrace: false true", "mount: false true", "set the clock: false true", "another process's memory: false true",
	} {
		if !strings.Contains(out, want+"\n") {
			t.Errorf("want %q in\n%s", want, out)
		}
	}
}

// TestChildrenStillWork runs the commands that the daemon runs, with both iptables.
func TestChildrenStillWork(t *testing.T) {
	for _, variant := range netlab.Variants {
		t.Run(variant, func(t *testing.T) {
			ns := netlab.New(t, "sandbox")
			dir := t.TempDir()
			cmd := ns.Command(confined,
				"iptables -w -t nat -N MINIUPNPD",
				"iptables -w -N MINIUPNPD",
				"iptables -w -t nat -A PREROUTING -i lo -j MINIUPNPD",
				"printf '*nat\\n-A MINIUPNPD -p tcp --dport 8080 -j DNAT --to-destination 192.168.50.10:80\\nCOMMIT\\n' | iptables-restore --noflush -w",
				"ip6tables -w -N MINIUPNPD && ip6tables -w -I FORWARD -j MINIUPNPD",
				"iptables-save | grep -q 192.168.50.10:80",
				"iptables -w -t nat -F MINIUPNPD",
				"echo lease > "+dir+"/leases && mv "+dir+"/leases "+dir+"/leases.new",
				"ip link add dummy0 type bridge && ip link del dummy0",
			)
			cmd.Env = append(os.Environ(), "PATH="+netlab.Tools(t, variant)+":"+os.Getenv("PATH"), "XTABLES_LOCKFILE="+dir+"/lock")
			runRole(t, cmd, "run")
		})
	}
}

// TestRawSocketsAreNeeded shows that legacy iptables needs NET_RAW. When it fails, the
// capability can be dropped.
func TestRawSocketsAreNeeded(t *testing.T) {
	ns := netlab.New(t, "sandbox")
	drop := []string{"setpriv", "--inh-caps=-all,+net_admin", "--bounding-set=-all,+net_admin", "--no-new-privs"}
	for variant, works := range map[string]bool{"legacy": false, "nft": true} {
		cmd := ns.Command(drop[0], append(drop[1:], "/usr/sbin/iptables-"+variant, "-w", "-N", "X")...)
		cmd.Env = append(os.Environ(), "XTABLES_LOCKFILE="+filepath.Join(t.TempDir(), "lock"))
		if out, err := cmd.CombinedOutput(); (err == nil) != works {
			t.Errorf("%s without NET_RAW: %v: %s", variant, err, out)
		}
	}
}
