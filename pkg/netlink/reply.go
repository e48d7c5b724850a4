package netlink

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

// errMalformed marks a reply that ends within a message.
var errMalformed = errors.New("netlink: the kernel's reply is malformed")

// reply is the reply to one request, as far as it has been received.
type reply struct {
	messages    []Message
	complete    bool
	interrupted bool // the table changed during the dump

	single bool // one message completes it
}

// newReply returns the empty reply to a request with these flags.
func newReply(flags uint16) *reply {
	return &reply{single: flags&unix.NLM_F_ACK == 0 && flags&unix.NLM_F_DUMP != unix.NLM_F_DUMP}
}

// bufferLen returns the buffer size for each datagram of the reply.
func (r *reply) bufferLen() int {
	if r.single {
		return messageBuffer
	}
	return tableBuffer
}

// read adds the messages of a datagram, of which it keeps parts.
func (r *reply) read(b []byte) error {
	for len(b) > 0 && !r.complete {
		m, number, rest, ok := cutMessage(b)
		if !ok {
			return errMalformed
		}
		if number == sequence {
			if err := r.add(m); err != nil {
				return err
			}
		}
		b = rest
	}
	return nil
}

// add adds a message, or evaluates a control message.
func (r *reply) add(m Message) error {
	r.interrupted = r.interrupted || m.Flags&unix.NLM_F_DUMP_INTR != 0
	switch m.Type {
	case unix.NLMSG_NOOP:
	case unix.NLMSG_OVERRUN:
		return unix.ENOBUFS
	case unix.NLMSG_ERROR, unix.NLMSG_DONE:
		r.complete = true
		return status(m.Data)
	default:
		r.messages = append(r.messages, m)
		r.complete = r.single
	}
	return nil
}

// status decodes the beginning of struct nlmsgerr, or the data of NLMSG_DONE: 0 or a
// negative error number.
func status(data []byte) error {
	if len(data) < 4 {
		return errMalformed
	}
	if errno := int32(binary.NativeEndian.Uint32(data)); errno != 0 {
		return unix.Errno(-errno)
	}
	return nil
}

// align rounds a length up to the boundary of messages and attributes.
func align(length int) int { return (length + 3) &^ 3 }
