package lan

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// passing are the errors of accept(2) and recvmsg(2) after which the next call can
// succeed: the process or the kernel is short of something, the network had an error
// that concerns one connection, or a firewall forbids one.
var passing = []unix.Errno{
	unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.EINTR, unix.EAGAIN, unix.ECONNABORTED, unix.EPERM,
	unix.ENETDOWN, unix.EPROTO, unix.ENOPROTOOPT, unix.EHOSTDOWN, unix.ENONET, unix.EHOSTUNREACH, unix.EOPNOTSUPP, unix.ENETUNREACH,
}

// errorPause is the wait after such an error.
const errorPause = 100 * time.Millisecond

// isPassing reports whether the next call can succeed.
func isPassing(err error) bool {
	return slices.ContainsFunc(passing, func(e unix.Errno) bool { return errors.Is(err, e) })
}

// Recover ends a panic in the handling of one client's request, logs it and calls
// cleanUp. It is deferred.
func Recover(log *slog.Logger, client netip.Addr, cleanUp func()) {
	if p := recover(); p != nil {
		log.Error("a fault of this program; the request is dropped, please report this", "client", client, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		cleanUp()
	}
}
