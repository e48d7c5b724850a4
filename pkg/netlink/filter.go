package netlink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Filter has the kernel pass on only the messages for which a program of the classic
// Berkeley Packet Filter returns their length.
func Filter(socket *os.File, filter []unix.SockFilter) error {
	raw, err := socket.SyscallConn()
	if err != nil {
		return fmt.Errorf("netlink: filter: %w", err)
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	controlErr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program)
	})
	if err := errors.Join(controlErr, err); err != nil {
		return fmt.Errorf("netlink: filter: %w", err)
	}
	return nil
}

// FilterOrder returns how a filter, which reads big-endian numbers, sees one of 16 bits
// in a message.
func FilterOrder(n uint16) uint32 {
	return uint32(binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, n)))
}
