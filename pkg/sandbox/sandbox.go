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
const keptCaps uint64 = 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_RAW

// kept has the names of keptCaps.
var kept = [...]struct {
	number int
	name   string
}{{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {unix.CAP_NET_RAW, "CAP_NET_RAW"}}

// Report is what the kernel contributes to the sandbox beyond what is demanded.
type Report struct {
	Filtered bool // it has seccomp
	// Namespace is why the process still sees the whole file system; nil: it sees
	// what the options name.
	Namespace error
	// Landlock is why access to files is not restricted by Landlock as well; nil: it
	// is.
	Landlock error
	// Bounding is why the bounding set still has capabilities that are not kept; nil:
	// it has none.
	Bounding error
	// Lacking are the names of the capabilities that should be kept, and that the
	// process did not have.
	Lacking []string
}

// Enter confines the process, on all of its threads, for good:
//
//   - Only keptCaps remain, as far as the process has them, also in the inheritable
//     set, and the bounding set is empty: so programs that the process starts get
//     these capabilities and no others, whatever their files grant. Without
//     CAP_SETPCAP, as in a container, the bounding set stays as it is.
//     NET_BIND_SERVICE remains for the process itself if the options demand it.
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
	err = errors.Join(disableCoreDumps(), r.dropCapabilities(o.capabilities()), noNewPrivileges())
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
func (o Options) capabilities() uint64 {
	if o.LowPorts {
		return keptCaps | 1<<unix.CAP_NET_BIND_SERVICE
	}
	return keptCaps
}

// dropCapabilities drops all capabilities but these. It keeps SETPCAP until the
// bounding set is empty, and sets the inheritable set first, because a capability that
// is not in the bounding set cannot be added to it.
func (r *Report) dropCapabilities(own uint64) error {
	had, err := permittedCaps()
	if err != nil {
		return err
	}
	for _, c := range kept {
		if had&(1<<c.number) == 0 {
			r.Lacking = append(r.Lacking, c.name)
		}
	}
	const setpcap = 1 << unix.CAP_SETPCAP
	if err := setCapabilities(had&(own|setpcap), had&keptCaps); err != nil {
		return err
	}
	if had&setpcap != 0 {
		if err := emptyBoundingSet(); err != nil {
			return err
		}
	} else if left := boundingCaps() &^ keptCaps; left != 0 {
		r.Bounding = fmt.Errorf("empty the bounding set, which has %#x: the process lacks CAP_SETPCAP", left)
	}
	return setCapabilities(had&own, had&keptCaps)
}

// permittedCaps returns the capabilities that the process has. Those that are kept are
// among the first 32.
func permittedCaps() (uint64, error) {
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(header, &sets[0]); err != nil {
		return 0, fmt.Errorf("read capabilities: %w", err)
	}
	return uint64(sets[1].Permitted)<<32 | uint64(sets[0].Permitted), nil
}

// boundingCaps returns the bounding set.
func boundingCaps() (set uint64) {
	for c := uintptr(0); ; c++ {
		is, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0)
		if err != nil {
			return set // there are no more capabilities
		}
		set |= uint64(is) << c
	}
}

// emptyBoundingSet drops all capabilities from the bounding set.
func emptyBoundingSet() error {
	for c := uintptr(0); ; c++ {
		if _, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0); err != nil {
			return nil // there are no more capabilities
		}
		if err := onAllThreads(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0); err != nil {
			return fmt.Errorf("drop capability %d from the bounding set: %w", c, err)
		}
	}
}

// setCapabilities sets the capabilities of the process, and the inheritable ones.
func setCapabilities(own, inheritable uint64) error {
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3} // of the calling thread
	sets := &[2]unix.CapUserData{{Effective: uint32(own), Permitted: uint32(own), Inheritable: uint32(inheritable)}}
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
