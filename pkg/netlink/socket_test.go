package netlink

import (
	"encoding/binary"
	"errors"
	"fmt"
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

// TestSocketExecuteBatch makes tables of nftables, and fails to: all in a datagram or none.
func TestSocketExecuteBatch(t *testing.T) {
	const newTable, getTable = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWTABLE, unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETTABLE
	table := func(kind, flags uint16, name string) Message {
		data := AppendAttribute([]byte{unix.NFPROTO_IPV4, 0, 0, 0}, unix.NFTA_TABLE_NAME, append([]byte(name), 0))
		const userdata, longest = 6, 256
		return Message{Type: kind, Flags: flags, Data: AppendAttribute(data, userdata, make([]byte, longest))}
	}
	batch := func(requests ...Message) []Message {
		limits := []byte{0, 0, 0, unix.NFNL_SUBSYS_NFTABLES}
		begin, end := Message{Type: unix.NFNL_MSG_BATCH_BEGIN, Data: limits}, Message{Type: unix.NFNL_MSG_BATCH_END, Data: limits}
		return append(append([]Message{begin}, requests...), end)
	}
	const create, last = unix.NLM_F_CREATE | unix.NLM_F_EXCL, unix.NLM_F_CREATE | unix.NLM_F_EXCL | unix.NLM_F_ACK
	do(t, netlab.New(t, "netlink"), func() error {
		s := Socket{Protocol: unix.NETLINK_NETFILTER}
		defer s.Close()
		if err := s.ExecuteBatch(batch(table(newTable, create, "a"), table(newTable, last, "b"))); err != nil {
			t.Errorf("two tables: %v", err)
		}
		if err := s.ExecuteBatch(batch(table(newTable, create, "c"), table(newTable, create, "a"), table(newTable, last, "d"))); !errors.Is(err, unix.EEXIST) {
			t.Errorf("a table that exists: %v", err)
		}
		var many []Message // more than a socket's buffer usually takes
		for i := range 1000 {
			many = append(many, table(newTable, create, fmt.Sprint("t", i)))
		}
		if err := s.ExecuteBatch(batch(append(many, table(newTable, last, "e"))...)); err != nil {
			t.Errorf("many tables: %v", err)
		}
		messages, err := s.Execute(Message{Type: getTable, Flags: unix.NLM_F_DUMP, Data: make([]byte, 4)})
		if len(messages) != 1003 {
			t.Errorf("%d tables, want 1003", len(messages))
		}
		return err
	})
}
