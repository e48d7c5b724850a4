// Package sandbox gives up what a process of root may do and this one never
// needs, for itself and for every process that it starts.
package sandbox

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// keptCaps are the capabilities that stay. Rules, the addresses of neighbours and
// IP_TRANSPARENT take NET_ADMIN; the raw socket by which iptables-legacy speaks
// to the kernel, and SO_BINDTODEVICE before Linux 5.7, take NET_RAW.
const keptCaps = 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_RAW

// Enter confines the process, on all of its threads, for good:
//
//   - The capabilities of kept stay, in the inheritable set too, and the
//     bounding set is empty: so the programs that root starts get these and no
//     others, whatever their files say.
//   - No program gets more rights than its caller (no_new_privs).
//   - Nothing of its memory is written to disk when it dies, nor may others of
//     its rights read it.
//   - A seccomp filter, if the kernel has seccomp: filtered tells.
//
// What is not taken away is what uid 0 means to files: root's own can still be
// written, those of others are closed unless their modes let root in.
//
// It needs a program without cgo.
func Enter() (filtered bool, err error) {
	err = errors.Join(dropCore(), dropCapabilities(), noNewPrivileges())
	if err == nil {
		filtered, err = filter()
	}
	if err != nil {
		return false, fmt.Errorf("sandbox: %w", err)
	}
	return filtered, nil
}

// dropCore forbids core dumps: by size, and for programs that take them over a
// pipe, which do not ask for the size, by the process's being no subject of one.
func dropCore() error {
	return errors.Join(
		unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}),
		unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0))
}

// dropCapabilities leaves kept. What is not in the bounding set cannot become
// inheritable, and emptying that set takes SETPCAP: hence the order.
func dropCapabilities() error {
	const setpcap = 1 << unix.CAP_SETPCAP
	if err := setCapabilities(keptCaps | setpcap); err != nil {
		return err
	}
	for c := uintptr(0); ; c++ {
		if _, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0); err != nil {
			break // the kernel knows no more of them
		}
		if err := onAllThreads(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0); err != nil {
			return fmt.Errorf("drop capability %d from the bounding set: %w", c, err)
		}
	}
	return setCapabilities(keptCaps)
}

// setCapabilities leaves the given ones, and kept to programs that are started.
func setCapabilities(own uint32) error {
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3} // of the calling thread
	sets := &[2]unix.CapUserData{{Effective: own, Permitted: own, Inheritable: keptCaps}}
	err := onAllThreads(unix.SYS_CAPSET, address(header), address(sets), 0)
	runtime.KeepAlive(header)
	runtime.KeepAlive(sets)
	if err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}

func noNewPrivileges() error {
	if err := onAllThreads(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	return nil
}
