package netlab

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	// insideEnv is set in a test process that Main has started in a user
	// namespace.
	insideEnv = "NETLAB_USER_NAMESPACE"
	// cannotSetUp is the exit status of such a process that was not allowed what
	// the lab needs. The testing package exits with 0, 1 or 2.
	cannotSetUp = 125
	// parallel is how many tests run at once unless -parallel says otherwise:
	// tests of a lab wait most of their time.
	parallel = "8"
)

// Main calls run, a package's m.Run, and returns its exit status. It is for the
// TestMain of a package whose tests need a lab or root. Run by another user than
// root it starts the test program again as root of a user namespace; where the
// kernel does not allow that, and with -short, tests that need a lab are skipped.
// One line on stderr, which go test shows with -v, names what was skipped.
func Main(run func() int) int {
	flag.Parse()
	if !isSet("test.parallel") {
		flag.Set("test.parallel", parallel)
	}
	switch {
	case os.Getenv(insideEnv) != "":
		if !setUp() {
			return cannotSetUp
		}
	case os.Getuid() != 0 && !testing.Short():
		if status := runInside(); status != cannotSetUp {
			return status
		}
	}
	status := run()
	skipped.report(os.Stderr)
	return status
}

// isSet reports whether a flag is on the command line.
func isSet(name string) (set bool) {
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	return set
}

// runInside runs this program again in user, mount and network namespaces, in
// which this user is root, and returns its exit status.
func runInside() int {
	runtime.LockOSThread() // Pdeathsig is about the thread that starts the process
	defer runtime.UnlockOSThread()
	signal.Ignore(os.Interrupt) // the terminal interrupts the other process as well
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	reaps := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	if errors.Join(reaps, cmd.Start()) != nil {
		return cannotSetUp
	}
	return reapUntil(cmd.Process.Pid)
}

// reapUntil waits for the process and returns its exit status. Meanwhile it
// reaps daemons that the tests started: in a user namespace one cannot see that
// such a process is dead before it has been reaped.
func reapUntil(pid int) int {
	for {
		var status unix.WaitStatus
		switch ended, err := unix.Wait4(-1, &status, 0, nil); {
		case err == unix.EINTR || err == nil && ended != pid:
		case err == nil && status.Exited():
			return status.ExitStatus()
		default:
			fmt.Fprintln(os.Stderr, "netlab: the tests did not end by themselves:", status.Signal(), err)
			return 2
		}
	}
}

// setUp gives the namespaces a /run of their own, where named network namespaces
// and the xtables lock live, and a loopback.
func setUp() bool {
	return unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, "") == nil &&
		unix.Mount("run", "/run", "tmpfs", 0, "mode=755") == nil &&
		exec.Command("ip", "link", "set", "lo", "up").Run() == nil
}
