// Package netlab builds routers, clients and uplinks out of network
// namespaces for tests; it needs iproute2 and, for rules, iptables.
package netlab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Namespace is a network namespace of its own; in the lab, one host.
type Namespace struct {
	Name string // as ip netns knows it
	lock string // its iptables' lock file

	binds map[string]string // folders by the folder in whose place Do shows them
}

// made counts namespaces, so that the names of one process differ.
var made atomic.Uint32

// New makes a namespace whose loopback is up, and where IPv6 addresses can be used
// at once, without duplicate address detection. It is gone, with every process in
// it, when the test ends. The role is only part of its name.
func New(t testing.TB, role string) *Namespace {
	t.Helper()
	NeedLab(t)
	n := &Namespace{
		Name: fmt.Sprintf("netlab-%d-%d-%s", os.Getpid(), made.Add(1), role),
		lock: filepath.Join(t.TempDir(), "xtables.lock"),
	}
	ip(t, "netns", "add", n.Name)
	t.Cleanup(func() { n.remove(t) })
	n.Sysctl(t, "net/ipv6/conf/default/accept_dad", "0")
	n.IP(t, "link", "set", "lo", "up")
	return n
}

// remove ends the namespace's processes and deletes it.
func (n *Namespace) remove(t testing.TB) {
	out, err := exec.Command("ip", "netns", "pids", n.Name).Output()
	if err != nil {
		t.Errorf("netlab: processes of %s: %v", n.Name, err)
	}
	for _, field := range strings.Fields(string(out)) {
		if pid, err := strconv.Atoi(field); err == nil && pid != os.Getpid() {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	if out, err := exec.Command("ip", "netns", "del", n.Name).CombinedOutput(); err != nil {
		t.Errorf("netlab: delete %s: %v: %s", n.Name, err, out)
	}
}

// ip runs the ip tool and fails the test if that fails.
func ip(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s(the lab needs iproute2)", strings.Join(args, " "), err, out)
	}
}

// IP runs the ip tool on the namespace: n.IP(t, "link", "set", "lo", "up").
func (n *Namespace) IP(t testing.TB, args ...string) {
	t.Helper()
	ip(t, append([]string{"-netns", n.Name}, args...)...)
}

// Sysctl sets a kernel parameter of the namespace by its path below
// /proc/sys, "net/ipv4/ip_forward".
func (n *Namespace) Sysctl(t testing.TB, name, value string) {
	t.Helper()
	if err := n.Do(func() error { return os.WriteFile("/proc/sys/"+name, []byte(value), 0) }); err != nil {
		t.Fatalf("netlab: sysctl in %s: %v", n.Name, err)
	}
}

// Env returns the environment of the namespace's processes: this process's own,
// with a lock file that iptables-legacy shares with no other namespace.
func (n *Namespace) Env() []string {
	return append(os.Environ(), "XTABLES_LOCKFILE="+n.lock)
}

// Command prepares a command that runs in the namespace, with its environment.
// The namespace's end is the end of the process.
func (n *Namespace) Command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command("ip", append([]string{"netns", "exec", n.Name, name}, args...)...)
	cmd.Env = n.Env()
	return cmd
}

// Run runs a command in the namespace, fails the test if the command fails,
// and returns what it printed.
func (n *Namespace) Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := n.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("netlab: %s %s in %s: %v: %s", name, strings.Join(args, " "), n.Name, err, out)
	}
	return string(out)
}

// Do calls f on a thread that is in the namespace, and returns what f returns.
// Sockets that f opens and processes that f starts belong to the namespace for
// good; goroutines that f starts do not. f must not end the test.
func (n *Namespace) Do(f func() error) error {
	return onOwnThread(func() error {
		fd, err := os.Open("/run/netns/" + n.Name)
		if err != nil {
			return err
		}
		defer fd.Close()
		if err := errors.Join(unix.Setns(int(fd.Fd()), unix.CLONE_NEWNET), n.bind()); err != nil {
			return fmt.Errorf("netlab: enter %s: %w", n.Name, err)
		}
		return f()
	})
}

// Bind shows a folder in the place of another one to what Do calls and starts
// from then on, and to nothing else.
func (n *Namespace) Bind(folder, place string) {
	if n.binds == nil {
		n.binds = make(map[string]string)
	}
	n.binds[place] = folder
}

// bind gives the thread mounts of its own, if folders are to be shown.
func (n *Namespace) bind() error {
	if len(n.binds) == 0 {
		return nil
	}
	err := errors.Join(unix.Unshare(unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	for place, folder := range n.binds {
		if err == nil {
			err = unix.Mount(folder, place, "", unix.MS_BIND, "")
		}
	}
	return err
}

// listenWithin bounds how long Listen tries.
const listenWithin = time.Minute

// Listen calls f as Do does, again while the address that f binds is in use: a
// process that another test has just started has copies of this one's sockets,
// also of closed ones, until it is executed.
func (n *Namespace) Listen(f func() error) error {
	err := n.Do(f)
	for deadline := time.Now().Add(listenWithin); errors.Is(err, unix.EADDRINUSE) && time.Now().Before(deadline); err = n.Do(f) {
		time.Sleep(time.Millisecond)
	}
	return err
}

// onOwnThread calls f on a thread that ends with it. It is never the main thread,
// which cannot end and which /proc/PID describes.
func onOwnThread(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			result <- onOwnThread(f)
			runtime.UnlockOSThread()
			return
		}
		result <- f()
	}()
	return <-result
}
