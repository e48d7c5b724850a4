package sandbox

import (
	"encoding/json"
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
	"child":  showChild,
	"run":    runCommands,
	"try":    tryCalls,
	"attack": attack,
	"pty":    openTerminal,

	"attack namespace": attackNamespace,
	"attack Landlock":  attackLandlock,
}

// optionsEnv has the options of the sandbox as JSON. The program itself can always be
// run.
const optionsEnv = "SANDBOX_OPTIONS"

func options() (o Options) {
	if text := os.Getenv(optionsEnv); text != "" {
		if err := json.Unmarshal([]byte(text), &o); err != nil {
			panic(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	o.Programs = append(o.Programs, self)
	return o
}

// with sets the options of a command's sandbox.
func with(cmd *exec.Cmd, o Options) *exec.Cmd {
	text, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	cmd.Env = append(cmd.Environ(), optionsEnv+"="+string(text))
	return cmd
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
	report, err := Enter(options())
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("filtered:", report.Filtered)
	fmt.Println("namespace:", report.Namespace)
	fmt.Println("landlock:", report.Landlock)
	fmt.Println("bounding:", report.Bounding)
	fmt.Println("lacking:", report.Lacking)
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
	child, err := again("child").Output()
	fmt.Print("child\n", string(child))
	dumpable, dumpErr := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	fmt.Println("dumpable:", dumpable)
	if err := errors.Join(err, dumpErr); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// again is this program in another role.
func again(role string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	return cmd
}

// showChild prints the status of this process, which is not confined by itself, and
// the limit of its core dumps.
func showChild([]string) int {
	text, err := os.ReadFile("/proc/self/status")
	var limit unix.Rlimit
	if err := errors.Join(err, unix.Getrlimit(unix.RLIMIT_CORE, &limit)); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Print(string(text), limit.Cur, "\n")
	return 0
}

// runCommands runs programs until one fails. What follows "<" in a command is its
// input.
func runCommands(commands []string) int {
	enter()
	for _, command := range commands {
		line, input, _ := strings.Cut(command, "<")
		words := strings.Fields(line)
		cmd := exec.Command(words[0], words[1:]...)
		cmd.Stdin = strings.NewReader(input)
		out, err := cmd.CombinedOutput()
		fmt.Print(string(out))
		if err != nil {
			fmt.Printf("%s: %v\n", command, err)
			return 1
		}
	}
	return 0
}

// tryCalls prints the results of some system calls: success, and permission denied.
func tryCalls([]string) int {
	enter()
	process := func(flags uintptr) error {
		cmd := again("child")
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
	const netAdminRaw, andBindService = "0000000000003000", "0000000000003400"
	demandConfined(t, exec.Command(confined), netAdminRaw, netAdminRaw)
	demandConfined(t, with(exec.Command(confined), Options{LowPorts: true}), andBindService, netAdminRaw)
}

// demandConfined demands that all threads of a process, and a child, are confined and have
// capabilities: the process those of its own, the child those that are inherited.
func demandConfined(t *testing.T, process *exec.Cmd, own, inherited string) {
	t.Helper()
	out := runRole(t, process, "status")
	parts := strings.Split(strings.ReplaceAll(out, "child\n", "thread\n"), "thread\n")[1:]
	if len(parts) < 6 {
		t.Fatalf("only %d threads", len(parts))
	}
	for i, part := range parts {
		if i == len(parts)-1 {
			own = inherited
		}
		for _, want := range []string{
			"CapInh:\t" + inherited, "CapPrm:\t" + own, "CapEff:\t" + own,
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

// TestFewCapabilities enters with the capabilities that a container may have: the
// process keeps of them what it needs, gets no others, and tells what it lacks.
func TestFewCapabilities(t *testing.T) {
	for _, c := range []struct{ has, keeps, bounding, lacking, left string }{
		{"+net_admin,+net_raw", "0000000000003000", "0000000000003000", "[]", "<nil>"},
		{"+net_admin", "0000000000001000", "0000000000001000", "[CAP_NET_RAW]", "<nil>"},
		{"+net_admin,+net_raw,+setpcap", "0000000000003000", "0000000000000000", "[]", "<nil>"},
		{"+net_admin,+net_raw,+chown", "0000000000003000", "0000000000003001", "[]", "empty the bounding set, which has 0x1: the process lacks CAP_SETPCAP"},
	} {
		t.Run(c.has, func(t *testing.T) {
			out := runRole(t, exec.Command("setpriv", "--inh-caps=-all", "--bounding-set=-all,"+c.has, confined), "status")
			for _, want := range []string{
				"\nCapInh:\t" + c.keeps, "\nCapPrm:\t" + c.keeps, "\nCapEff:\t" + c.keeps, "\nCapBnd:\t" + c.bounding,
				"\nNoNewPrivs:\t1", "\nSeccomp:\t2", "\nbounding: " + c.left, "\nlacking: " + c.lacking,
			} {
				if !strings.Contains(out, want+"\n") {
					t.Errorf("%q is missing in\n%s", want, out)
				}
			}
			_, child, _ := strings.Cut(out, "child\n")
			if !strings.Contains(child, "CapPrm:\t"+c.keeps+"\n") {
				t.Errorf("a child has other capabilities than %s:\n%s", c.keeps, child)
			}
		})
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

// iptables returns the absolute paths of the programs of both families.
func iptables(variant string) (list []string) {
	for _, family := range []string{"iptables", "ip6tables"} {
		for _, part := range []string{"", "-save", "-restore"} {
			list = append(list, "/usr/sbin/"+family+"-"+variant+part)
		}
	}
	return list
}

// TestProgramsStillWork runs the programs that the daemon runs, with both iptables.
func TestProgramsStillWork(t *testing.T) {
	for _, variant := range netlab.Variants {
		t.Run(variant, func(t *testing.T) {
			ns := netlab.New(t, "sandbox")
			lock := filepath.Join(t.TempDir(), "lock")
			p := iptables(variant)
			cmd := with(ns.Command(confined,
				p[0]+" -w -t nat -N MINIUPNPD",
				p[0]+" -w -N MINIUPNPD",
				p[0]+" -w -t nat -A PREROUTING -i lo -j MINIUPNPD",
				p[2]+" --noflush -w<*nat\n-A MINIUPNPD -p tcp --dport 8080 -j DNAT --to-destination 192.168.50.10:80\nCOMMIT\n",
				p[3]+" -w -N MINIUPNPD",
				p[3]+" -w -I FORWARD -j MINIUPNPD",
				p[1],
				p[0]+" -w -t nat -F MINIUPNPD",
			), Options{Programs: p, Files: []string{lock}})
			cmd.Env = append(cmd.Env, "XTABLES_LOCKFILE="+lock)
			out := runRole(t, cmd, "run")
			for _, want := range []string{"namespace: <nil>", "landlock: <nil>", "--to-destination 192.168.50.10:80"} {
				if !strings.Contains(out, want) {
					t.Errorf("%q is missing in\n%s", want, out)
				}
			}
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
