package netlink

import (
	"bytes"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// safeDatagram is the size in bytes of a datagram for which the buffer of any socket is
// large enough.
const safeDatagram = 32768

// Socket is a socket for many requests, one at a time. It is opened with the first and
// again after an error that may leave parts of a reply unread.
type Socket struct {
	Protocol int // NETLINK_*; the zero one is NETLINK_ROUTE

	mu     sync.Mutex // guards what follows
	fd     int
	isOpen bool
	buffer []byte // for a single message
}

// Execute does what the function of that name does.
func (s *Socket) Execute(request Message) ([]Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return untilConsistent(func() (*reply, error) { return s.exchange(request) })
}

// ExecuteBatch sends requests in one datagram, as subsystems of netfilter demand that
// are changed as a whole. The data of each has a length that is a multiple of four. The
// last one that can fail demands an acknowledgement (NLM_F_ACK). The error is the first
// of the kernel's, a unix.Errno; then none of the requests has been carried out.
func (s *Socket) ExecuteBatch(requests []Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.open(); err != nil {
		return err
	}
	var datagram []byte
	for _, m := range requests {
		datagram = m.encode(datagram)
	}
	if len(datagram) > safeDatagram {
		// Where that is not allowed, sending fails.
		unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, len(datagram))
	}
	err := newReply(unix.NLM_F_ACK).receiveFor(datagram, s.fd, make([]byte, tableBuffer))
	if err != nil { // more errors may follow
		s.close()
	}
	return err
}

// Close closes the socket, which the next request opens again.
func (s *Socket) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.close()
}

func (s *Socket) close() {
	if s.isOpen {
		unix.Close(s.fd)
		s.isOpen = false
	}
}

// open opens the socket, if it is closed.
func (s *Socket) open() (err error) {
	if s.isOpen {
		return nil
	}
	if s.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, s.Protocol); err != nil {
		return fmt.Errorf("netlink: open protocol %d: %w", s.Protocol, err)
	}
	s.isOpen = true
	return nil
}

// exchange sends a request once and reads its reply.
func (s *Socket) exchange(request Message) (*reply, error) {
	if err := s.open(); err != nil {
		return nil, err
	}
	r := newReply(request.Flags)
	buf := s.buffer
	if len(buf) != r.bufferLen() {
		buf = make([]byte, r.bufferLen())
	}
	if r.single {
		s.buffer = buf
	}
	if err := r.receiveFor(request.encode(nil), s.fd, buf); err != nil {
		if !r.complete {
			s.close()
		}
		return nil, err
	}
	return r, nil
}

// receiveFor sends the requests in a datagram and reads the reply to them, each datagram
// of it into buf.
func (r *reply) receiveFor(requests []byte, fd int, buf []byte) error {
	if err := send(fd, requests); err != nil {
		return fmt.Errorf("netlink: send: %w", err)
	}
	for !r.complete {
		n, err := receive(fd, buf)
		if err != nil {
			return fmt.Errorf("netlink: receive: %w", err)
		}
		if err := r.read(bytes.Clone(buf[:n])); err != nil {
			return err
		}
	}
	return nil
}
