package lan

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls below never wait: the descriptor does not, or there is nothing to wait for. So the
// scheduler is not told of them. It would take those that last 20 µs, in which the kernel
// delivers a packet, for ones that wait, and move the only processor to another thread and
// back: a third of the time of a request with its own connection.

// readNow reads what has arrived.
func readNow(fd int, p []byte) (int, error) { return callNow(unix.SYS_READ, fd, p) }

// writeNow writes as much as the kernel has room for.
func writeNow(fd int, p []byte) (int, error) { return callNow(unix.SYS_WRITE, fd, p) }

// callNow makes a system call with a descriptor and a buffer, which is not empty.
func callNow(call uintptr, fd int, p []byte) (int, error) {
	n, _, errno := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// closeNow closes a descriptor.
func closeNow(fd int) { unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// isQueued reports whether there are octets of which a request of ioctl(2) tells the number.
func isQueued(fd int, request uintptr) bool {
	var n int32
	_, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(&n)))
	return errno == 0 && n > 0
}
