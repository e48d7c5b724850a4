// Package sandbox drops the root privileges that this process and its children never
// need.
package sandbox

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// keptCaps are the capabilities that are kept. Rules, neighbours and IP_TRANSPARENT
// need NET_ADMIN; the raw socket of iptables-legacy, and SO_BINDTODEVICE before Linux
// 5.7, need NET_RAW.
const keptCaps = 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_RAW

// Report is what the kernel contributes to the sandbox beyond what is demanded.
type Report struct {
	Filtered bool // it has seccomp
	// Namespace is why the process still sees the whole file system; nil: it sees
	// what the options name.
	Namespace error
	// Landlock is why access to files is not restricted by Landlock as well; nil: it
	// is.
	Landlock error
}

// Enter confines the process, on all of its threads, for good:
//
//   - Only keptCaps remain, also in the inheritable set, and the bounding set is
//     empty: so programs that the process starts get these capabilities and no
//     others, whatever their files grant. NET_BIND_SERVICE remains for the process
//     itself if the options demand it.
//   - A program never gets more privileges than its caller (no_new_privs).
//   - The process writes no core dump, and other processes with the same privileges
//     cannot read its memory.
//   - A seccomp filter is set if the kernel has seccomp.
//   - The process sees of the file system only what the options name and what every
//     program needs, in a mount namespace of its own, without a shell; it can write
//     only to the folders of its own files. Landlock enforces the same, where the
//     kernel has it.
//
// The last point is not demanded: a container may lack the rights, the kernel the
// features. If one of the programs is a script, which needs others, it is left out.
//
// It works only in a program that is built without cgo.
func Enter(o Options) (r Report, err error) {
	places, script := placesOf(o)
	r.Namespace, r.Landlock = script, script
	if script == nil {
		r.Namespace = enterNamespace(places)
	}
	err = errors.Join(disableCoreDumps(), dropCapabilities(o.capabilities()), noNewPrivileges())
	if err == nil && script == nil {
		r.Landlock = restrictFiles(places)
	}
	if err == nil {
		r.Filtered, err = setFilter()
	}
	if err != nil {
		return r, fmt.Errorf("sandbox: %w", err)
	}
	return r, nil
}

// disableCoreDumps limits the size of core dumps to 0, and makes the process not
// dumpable for programs that receive core dumps through a pipe, which has no limit.
func disableCoreDumps() error {
	return errors.Join(
		unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}),
		unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0))
}

// capabilities returns those that the process keeps for itself.
func (o Options) capabilities() uint32 {
	if o.LowPorts {
		return keptCaps | 1<<unix.CAP_NET_BIND_SERVICE
	}
	return keptCaps
}

// dropCapabilities drops all capabilities but own. It keeps SETPCAP until the
// bounding set is empty, and sets the inheritable set first, because a capability that
// is not in the bounding set cannot be added to it.
func dropCapabilities(own uint32) error {
	const setpcap = 1 << unix.CAP_SETPCAP
	if err := setCapabilities(own | setpcap); err != nil {
		return err
	}
	for c := uintptr(0); ; c++ {
		if _, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0); err != nil {
			break // there are no more capabilities
		}
		if err := onAllThreads(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0); err != nil {
			return fmt.Errorf("drop capability %d from the bounding set: %w", c, err)
		}
	}
	return setCapabilities(own)
}

// setCapabilities sets the capabilities of the process, and keptCaps as the
// inheritable ones.
func setCapabilities(own uint32) error {
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3} // of the calling thread
	sets := &[2]unix.CapUserData{{Effective: own, Permitted: own, Inheritable: keptCaps}}
	err := onAllThreads(unix.SYS_CAPSET, pointer(header), pointer(sets), 0)
	runtime.KeepAlive(header)
	runtime.KeepAlive(sets)
	if err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}

// noNewPrivileges sets no_new_privs.
func noNewPrivileges() error {
	if err := onAllThreads(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	return nil
}
