package sandbox

import (
	"errors"
	"reflect"
	"syscall"
)

// onAllThreads makes a system call on every thread of the process: privileges belong
// to threads, and a new thread has those of the one that starts it.
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

// pointer returns the address of what p points to, for a system call. That is on the
// heap, because reflection makes it escape, and does not move; the caller keeps it
// alive until the call is over.
func pointer(p any) uintptr { return uintptr(reflect.ValueOf(p).UnsafePointer()) }
