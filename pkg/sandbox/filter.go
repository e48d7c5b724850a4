package sandbox

import (
	"errors"
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

// denied are system calls that need no privileges, and that neither this program nor
// iptables makes: they give access to parts of the kernel, or to other processes, that
// is not needed, or run programs that are not in a file, or make links that a later
// process of root could follow. Calls that take a capability
// are denied already. The list says what is denied, not what is allowed, because
// libraries differ in what they call.
var denied = []uint32{
	unix.SYS_UNSHARE, unix.SYS_SETNS,
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV,
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD,
	unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
	unix.SYS_MEMFD_CREATE, unix.SYS_SYMLINKAT,
	unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL,
}

// namespaces are the flags by which clone(2) gives a process namespaces of its own.
const namespaces = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID |
	unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP

// architectures are the ABIs that the filter is written for.
var architectures = map[string]uint32{
	"386":   unix.AUDIT_ARCH_I386,
	"amd64": unix.AUDIT_ARCH_X86_64,
	"arm":   unix.AUDIT_ARCH_ARM,
	"arm64": unix.AUDIT_ARCH_AARCH64,
}

// x32 is the bit in the system call numbers of amd64's second ABI.
const x32 = 0x4000_0000

// Offsets in struct seccomp_data of the system call's number, its ABI and the low half
// of its first argument, on little-endian machines (seccomp(2)).
const (
	offsetNumber   = 0
	offsetABI      = 4
	offsetArgument = 16
)

// Results of the filter. With notImplemented for clone3 libraries use clone instead,
// whose flags the filter can read.
const (
	allow          = unix.SECCOMP_RET_ALLOW
	deny           = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	notImplemented = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
)

// setFilter sets the seccomp filter on all threads. A kernel without seccomp is not an
// error: filtered is false.
func setFilter() (filtered bool, err error) {
	abi, known := architectures[runtime.GOARCH]
	if !known {
		return false, nil
	}
	if _, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0); errors.Is(err, unix.EINVAL) {
		return false, nil
	}
	code := buildFilter(abi)
	p := &unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	failed, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, pointer(p))
	runtime.KeepAlive(p)
	switch {
	case errno == unix.ENOSYS || errno == unix.EINVAL: // seccomp without filters
		return false, nil
	case errno != 0:
		return false, fmt.Errorf("set the seccomp filter: %w", errno)
	case failed != 0:
		return false, fmt.Errorf("set the seccomp filter: thread %d has a different one", failed)
	}
	return true, nil
}

// buildFilter returns the filter as a program of classic BPF. It denies every call of
// another ABI.
func buildFilter(abi uint32) []unix.SockFilter {
	code := []unix.SockFilter{
		load(offsetABI),
		skipIf(unix.BPF_JEQ, abi, 1),
		ret(deny),
		load(offsetNumber),
	}
	code = append(code, onlyIf(unix.BPF_JGE, x32, deny)...)
	code = append(code, onlyIf(unix.BPF_JEQ, unix.SYS_CLONE3, notImplemented)...)
	for _, number := range slices.Concat(denied, oldDenied) {
		code = append(code, onlyIf(unix.BPF_JEQ, number, deny)...)
	}
	code = append(code,
		skipIf(unix.BPF_JEQ, unix.SYS_CLONE, 1),
		ret(allow),
		load(offsetArgument))
	code = append(code, onlyIf(unix.BPF_JSET, namespaces, deny)...)
	return append(code, ret(allow))
}

// load loads four bytes of struct seccomp_data.
func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

// skipIf skips n instructions if the comparison of the loaded value with k is true.
func skipIf(comparison uint16, k uint32, n uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | comparison, K: k, Jt: n}
}

// onlyIf returns a result if the comparison of the loaded value with k is true.
func onlyIf(comparison uint16, k, result uint32) []unix.SockFilter {
	jump := unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | comparison, K: k, Jf: 1}
	return []unix.SockFilter{jump, ret(result)}
}

// ret returns a result.
func ret(result uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: result}
}
