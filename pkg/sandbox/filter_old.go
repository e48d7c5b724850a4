//go:build !arm64

package sandbox

import "golang.org/x/sys/unix"

// oldDenied are calls to deny that only older architectures have.
var oldDenied = []uint32{unix.SYS_SYMLINK}
