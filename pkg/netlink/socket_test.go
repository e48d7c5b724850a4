package netlink

import (
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlab"
)

// TestSocket sends requests of all kinds through one socket: what one leaves unread is no
// part of the next reply.
func TestSocket(t *testing.T) {
	ifinfo := func(index byte) []byte {
		data := make([]byte, unix.SizeofIfInfomsg)
		binary.NativeEndian.PutUint32(data[4:], uint32(index))
		return data
	}
	do(t, netlab.New(t, "netlink"), func() error {
		var s Socket
		defer s.Close()
		for _, again := range []string{"first", "again", "after Close"} {
			messages, err := s.Execute(Message{Type: unix.RTM_GETLINK, Data: ifinfo(1)})
			if err != nil || linkNames(messages) != "lo" {
				t.Errorf("%s: link 1: %+v, %v", again, messages, err)
			}
			fd := s.fd
			if _, err := s.Execute(Message{Type: unix.RTM_GETLINK, Data: ifinfo(99)}); !errors.Is(err, unix.ENODEV) || s.fd != fd || !s.isOpen {
				t.Errorf("%s: a link that does not exist: %v, socket %d, open %v, before %d", again, err, s.fd, s.isOpen, fd)
			}
			messages, err = s.Execute(Message{Type: unix.RTM_GETLINK, Flags: unix.NLM_F_DUMP, Data: []byte{unix.AF_UNSPEC}})
			if err != nil || linkNames(messages) != "lo" {
				t.Errorf("%s: all links: %+v, %v", again, messages, err)
			}
			// Without NLM_F_ACK the kernel says nothing to it.
			if _, err := s.Execute(Message{Type: unix.RTM_SETLINK, Data: ifinfo(1)}); !errors.Is(err, unix.EAGAIN) || s.isOpen {
				t.Errorf("%s: a request without an answer: %v, open %v", again, err, s.isOpen)
			}
			if again == "again" {
				s.Close()
				s.Close()
			}
		}
		request := Message{Type: unix.RTM_GETLINK, Data: ifinfo(1), Flags: unix.NLM_F_ACK}
		if messages, err := s.Execute(request); err != nil || linkNames(messages) != "lo" {
			t.Errorf("with an acknowledgement: %+v, %v", messages, err)
		}
		if messages, err := s.Execute(Message{Type: unix.RTM_GETLINK, Data: ifinfo(1)}); err != nil || linkNames(messages) != "lo" {
			t.Errorf("then: %+v, %v", messages, err)
		}
		return nil
	})
}
