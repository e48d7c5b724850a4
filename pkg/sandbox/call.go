package sandbox

import (
	"errors"
	"reflect"
	"syscall"
)

// onAllThreads makes a system call on every thread of the process: rights belong
// to threads, and new ones have those of the thread that starts them.
func onAllThreads(call, a1, a2, a3 uintptr) error {
	_, _, errno := syscall.AllThreadsSyscall(call, a1, a2, a3)
	switch errno {
	case 0:
		return nil
	case syscall.ENOTSUP:
		return errors.New("the program must be built with CGO_ENABLED=0")
	}
	return errno
}

// address returns where the kernel finds what p points to. That is on the
// heap, since reflection makes it escape, and nothing on the heap moves; the
// caller keeps it alive until the call is over.
func address(p any) uintptr { return uintptr(reflect.ValueOf(p).UnsafePointer()) }
