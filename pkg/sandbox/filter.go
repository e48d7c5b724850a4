package sandbox

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// denied are system calls that a kernel carries out for whoever has no rights
// at all, and that neither this program nor iptables nor a shell makes: doors
// to parts of the kernel, or to other processes, that need not be open. What
// takes a capability is denied already. It is a list of what is forbidden, not
// of what is allowed, because the administrator's own program runs under it.
var denied = []uint32{
	unix.SYS_UNSHARE, unix.SYS_SETNS,
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV,
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD,
	unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
	unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL,
}

// namespaces are the flags by which clone(2) makes a process some rights of
// its own.
const namespaces = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID |
	unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP

// architectures are the ABIs whose system call numbers the constants are.
var architectures = map[string]uint32{
	"386":   unix.AUDIT_ARCH_I386,
	"amd64": unix.AUDIT_ARCH_X86_64,
	"arm":   unix.AUDIT_ARCH_ARM,
	"arm64": unix.AUDIT_ARCH_AARCH64,
}

// x32 marks the numbers of amd64's second ABI.
const x32 = 0x4000_0000

// Where struct seccomp_data has the call's number, its ABI and the low half of
// its first argument, on machines of low byte first (seccomp(2)).
const (
	offsetNumber   = 0
	offsetABI      = 4
	offsetArgument = 16
)

// What the filter says. A clone3 that does not exist makes libraries use
// clone, whose flags can be seen.
const (
	allow   = unix.SECCOMP_RET_ALLOW
	forbid  = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	missing = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
)

// filter puts the seccomp filter on all threads. Kernels without seccomp have
// no filter, and that is no error.
func filter() (filtered bool, err error) {
	abi, known := architectures[runtime.GOARCH]
	if !known {
		return false, nil
	}
	if _, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0); errors.Is(err, unix.EINVAL) {
		return false, nil
	}
	code := program(abi)
	p := &unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	failed, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, address(p))
	runtime.KeepAlive(p)
	switch {
	case errno == unix.ENOSYS || errno == unix.EINVAL: // seccomp without filters
		return false, nil
	case errno != 0:
		return false, fmt.Errorf("set the seccomp filter: %w", errno)
	case failed != 0:
		return false, fmt.Errorf("set the seccomp filter: thread %d has another one", failed)
	}
	return true, nil
}

// program is the filter for the virtual machine of seccomp. Programs of another
// ABI than this one's can do nothing under it.
func program(abi uint32) []unix.SockFilter {
	code := []unix.SockFilter{
		load(offsetABI),
		skipIf(unix.BPF_JEQ, abi, 1),
		ret(forbid),
		load(offsetNumber),
	}
	code = append(code, onlyIf(unix.BPF_JGE, x32, forbid)...)
	code = append(code, onlyIf(unix.BPF_JEQ, unix.SYS_CLONE3, missing)...)
	for _, number := range denied {
		code = append(code, onlyIf(unix.BPF_JEQ, number, forbid)...)
	}
	code = append(code,
		skipIf(unix.BPF_JEQ, unix.SYS_CLONE, 1),
		ret(allow),
		load(offsetArgument))
	code = append(code, onlyIf(unix.BPF_JSET, namespaces, forbid)...)
	return append(code, ret(allow))
}

// load reads four octets of the call's description.
func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

// skipIf leaves out n steps if what was loaded compares so with k.
func skipIf(comparison uint16, k uint32, n uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | comparison, K: k, Jt: n}
}

// onlyIf ends with a result if what was loaded compares so with k.
func onlyIf(comparison uint16, k, result uint32) []unix.SockFilter {
	step := unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | comparison, K: k, Jf: 1}
	return []unix.SockFilter{step, ret(result)}
}

func ret(result uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: result}
}
