// Package netlink exchanges messages with the Linux kernel (netlink(7)).
package netlink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"os"

	"golang.org/x/sys/unix"
)

// sequence is the sequence number of every request: a socket has one at a time.
const sequence = 1

// Buffer sizes for a datagram of a reply, in bytes. A single message takes up to some
// 2,000. The kernel fills each datagram of a table up to the size of a page, or of the
// previous read if that was larger; so all reads of a reply have the same size.
const (
	messageBuffer = 4096
	tableBuffer   = 16384
)

// maxTries limits how often a table is read that changes during the read.
const maxTries = 4

// Message is a netlink message, without length, sequence number and port.
type Message struct {
	Type  uint16
	Flags uint16 // NLM_F_*
	Data  []byte // what follows struct nlmsghdr: a struct of the protocol, then attributes
}

// encode appends the message as a request: struct nlmsghdr and the data. The port
// is 0, because the kernel knows that of the sender.
func (m Message) encode(b []byte) []byte {
	b = binary.NativeEndian.AppendUint32(b, uint32(unix.SizeofNlMsghdr+len(m.Data)))
	b = binary.NativeEndian.AppendUint16(b, m.Type)
	b = binary.NativeEndian.AppendUint16(b, m.Flags|unix.NLM_F_REQUEST)
	b = binary.NativeEndian.AppendUint32(b, sequence)
	b = binary.NativeEndian.AppendUint32(b, 0)
	return append(b, m.Data...)
}

// cutMessage decodes the message at the beginning of a datagram, and returns its sequence
// number and what follows. Its data are a part of the datagram.
func cutMessage(b []byte) (m Message, number uint32, rest []byte, ok bool) {
	if len(b) < unix.SizeofNlMsghdr {
		return m, 0, nil, false
	}
	length := int(binary.NativeEndian.Uint32(b))
	if length < unix.SizeofNlMsghdr || length > len(b) {
		return m, 0, nil, false
	}
	m.Type, m.Flags = binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:])
	m.Data = b[unix.SizeofNlMsghdr:length:length]
	return m, binary.NativeEndian.Uint32(b[8:]), b[min(len(b), align(length)):], true
}

// Messages yields the messages in a datagram of notices, as far as they are well-formed.
// Their data are parts of it.
func Messages(notices []byte) iter.Seq[Message] {
	return func(yield func(Message) bool) {
		for {
			m, _, rest, ok := cutMessage(notices)
			if !ok || !yield(m) {
				return
			}
			notices = rest
		}
	}
}

// Dump returns the messages of a routing table for all families: links, addresses
// or neighbours, by its request RTM_GET*.
func Dump(request uint16) ([]Message, error) {
	return Execute(unix.NETLINK_ROUTE, Message{Type: request, Flags: unix.NLM_F_DUMP, Data: []byte{unix.AF_UNSPEC}})
}

// Execute sends a request to the part of the kernel that speaks a protocol
// (NETLINK_ROUTE …) and returns the messages that answer it: with NLM_F_DUMP a
// table, with NLM_F_ACK those before the acknowledgement, else one. An error of
// the kernel is a unix.Errno. It never waits for a reply. A table that changed
// while the kernel listed it is read again, a few times.
func Execute(protocol int, request Message) ([]Message, error) {
	s := Socket{Protocol: protocol}
	defer s.Close()
	return s.Execute(request)
}

// untilConsistent returns the first reply that no change interrupted, or the last
// of maxTries: where everything keeps changing it is as good as any later one.
func untilConsistent(read func() (*reply, error)) ([]Message, error) {
	for try := 1; ; try++ {
		r, err := read()
		if err != nil {
			return nil, err
		}
		if !r.interrupted || try == maxTries {
			return r.messages, nil
		}
	}
}

// send hands the kernel a datagram of requests.
func send(fd int, datagram []byte) error {
	return retryInterrupted(func() error {
		return unix.Sendto(fd, datagram, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	})
}

// receive reads the next datagram of the kernel. It does not wait: the kernel
// handles a request before sending returns, and puts the next part of a table
// into the socket's queue before it hands out the last.
func receive(fd int, b []byte) (n int, err error) {
	for {
		var from unix.Sockaddr
		err := retryInterrupted(func() (err error) {
			n, from, err = unix.Recvfrom(fd, b, unix.MSG_DONTWAIT|unix.MSG_TRUNC)
			return err
		})
		switch sender, _ := from.(*unix.SockaddrNetlink); {
		case err != nil:
			return 0, err
		case sender == nil || sender.Pid != 0: // another process sent it
		case n > len(b): // MSG_TRUNC makes it the length that was sent
			return 0, unix.EMSGSIZE
		default:
			return n, nil
		}
	}
}

// retryInterrupted makes a system call again while a signal interrupts it.
func retryInterrupted(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// Subscribe returns a socket that receives the notices of multicast groups, a
// mask of RTMGRP_*. Reading waits for the next one and returns ENOBUFS when some
// were lost.
func Subscribe(protocol int, groups uint32) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, fmt.Errorf("netlink: open protocol %d: %w", protocol, err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("netlink: join groups %#x: %w", groups, err)
	}
	return os.NewFile(uintptr(fd), "netlink"), nil
}
