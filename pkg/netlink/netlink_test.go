package netlink

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlab"
)

// do runs f in a network namespace.
func do(t *testing.T, ns *netlab.Namespace, f func() error) {
	t.Helper()
	if err := ns.Do(f); err != nil {
		t.Error(err)
	}
}

// linkNames returns the names in messages about links.
func linkNames(messages []Message) string {
	var names []string
	for _, m := range messages {
		names = append(names, string(bytes.TrimRight(Attribute(m.Data[unix.SizeofIfInfomsg:], unix.IFLA_IFNAME), "\x00")))
	}
	return strings.Join(names, " ")
}

func TestDump(t *testing.T) {
	ns := netlab.New(t, "netlink")
	const pairs = 20 // whose links are more than fit into one datagram
	for i := range pairs {
		ns.IP(t, "link", "add", fmt.Sprintf("a%d", i), "type", "veth", "peer", "name", fmt.Sprintf("b%d", i))
	}
	do(t, ns, func() error {
		messages, err := Dump(unix.RTM_GETLINK)
		if names := linkNames(messages); len(messages) != 1+2*pairs || !strings.HasPrefix(names, "lo ") || !strings.HasSuffix(names, " a19") {
			t.Errorf("links: %s", names)
		}
		return err
	})
}

// TestExecute sends requests of each kind: for one message, with an
// acknowledgement, and those that the kernel refuses.
func TestExecute(t *testing.T) {
	ifinfo := func(index byte) []byte {
		data := make([]byte, unix.SizeofIfInfomsg)
		binary.NativeEndian.PutUint32(data[4:], uint32(index))
		return data
	}
	do(t, netlab.New(t, "netlink"), func() error {
		messages, err := Execute(unix.NETLINK_ROUTE, Message{Type: unix.RTM_GETLINK, Data: ifinfo(1)})
		if err != nil || len(messages) != 1 || linkNames(messages) != "lo" {
			t.Errorf("link 1: %+v, %v", messages, err)
		}
		messages, err = Execute(unix.NETLINK_ROUTE, Message{Type: unix.RTM_GETLINK, Flags: unix.NLM_F_ACK, Data: ifinfo(1)})
		if err != nil || len(messages) != 1 {
			t.Errorf("link 1 with an acknowledgement: %+v, %v", messages, err)
		}
		messages, err = Execute(unix.NETLINK_ROUTE, Message{Type: unix.RTM_SETLINK, Flags: unix.NLM_F_ACK, Data: ifinfo(1)})
		if err != nil || len(messages) != 0 {
			t.Errorf("a change of nothing: %+v, %v", messages, err)
		}
		if _, err = Execute(unix.NETLINK_ROUTE, Message{Type: unix.RTM_GETLINK, Data: ifinfo(99)}); !errors.Is(err, unix.ENODEV) {
			t.Errorf("a link that does not exist: %v", err)
		}
		if _, err = Execute(unix.NETLINK_ROUTE, Message{Type: unix.RTM_GETLINK, Flags: unix.NLM_F_ACK, Data: []byte{0}}); !errors.Is(err, unix.EINVAL) {
			t.Errorf("a request that is cut short: %v", err)
		}
		if _, err = Execute(99, Message{}); err == nil {
			t.Error("a protocol that does not exist has an answer")
		}
		// Without NLM_F_ACK the kernel says nothing to it: nothing is waited for.
		if _, err = Execute(unix.NETLINK_ROUTE, Message{Type: unix.RTM_SETLINK, Data: ifinfo(1)}); !errors.Is(err, unix.EAGAIN) {
			t.Errorf("a request without an answer: %v", err)
		}
		return nil
	})
}

func TestUntilConsistent(t *testing.T) {
	steady, changed, fails := &reply{messages: make([]Message, 1)}, &reply{messages: make([]Message, 2), interrupted: true}, errors.New("fails")
	for name, tt := range map[string]struct {
		replies  []*reply // nil: an error
		reads    int
		messages int
		err      error
	}{
		"at once":            {[]*reply{steady}, 1, 1, nil},
		"the third time":     {[]*reply{changed, changed, steady}, 3, 1, nil},
		"never":              {[]*reply{changed, changed, changed, changed, steady}, maxTries, 2, nil},
		"an error":           {[]*reply{nil, steady}, 1, 0, fails},
		"an error, later on": {[]*reply{changed, nil}, 2, 0, fails},
	} {
		reads := 0
		messages, err := untilConsistent(func() (*reply, error) {
			if reads++; tt.replies[reads-1] == nil {
				return nil, fails
			}
			return tt.replies[reads-1], nil
		})
		if reads != tt.reads || len(messages) != tt.messages || err != tt.err {
			t.Errorf("%s: %d messages, %v, after %d reads", name, len(messages), err, reads)
		}
	}
}

// TestReceive reads what is not the kernel's whole answer: what another process
// sends, and what does not fit.
func TestReceive(t *testing.T) {
	do(t, netlab.New(t, "netlink"), func() error {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		other, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer unix.Close(other)
		if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return err
		}
		name, err := unix.Getsockname(fd)
		if err != nil {
			return err
		}
		if err := unix.Sendto(other, link, 0, name); err != nil {
			return err
		}
		if _, err := receive(fd, make([]byte, 4096)); !errors.Is(err, unix.EAGAIN) {
			t.Errorf("another process's message was read: %v", err)
		}
		if err := send(fd, Message{Type: unix.RTM_GETLINK, Flags: unix.NLM_F_DUMP, Data: []byte{0}}.encode(nil)); err != nil {
			return err
		}
		if _, err := receive(fd, make([]byte, 64)); !errors.Is(err, unix.EMSGSIZE) {
			t.Errorf("a message was cut: %v", err)
		}
		return nil
	})
}

func TestRetryInterrupted(t *testing.T) {
	calls, fails := 0, errors.New("fails")
	err := retryInterrupted(func() error {
		if calls++; calls < 3 {
			return unix.EINTR
		}
		return fails
	})
	if calls != 3 || err != fails {
		t.Errorf("%d calls, %v", calls, err)
	}
}

func TestSubscribe(t *testing.T) {
	ns := netlab.New(t, "netlink")
	var socket *os.File
	do(t, ns, func() (err error) { socket, err = Subscribe(unix.NETLINK_ROUTE, unix.RTMGRP_LINK); return err })
	if t.Failed() {
		return
	}
	defer socket.Close()
	ns.IP(t, "link", "set", "lo", "down")
	socket.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := socket.Read(make([]byte, 1<<16)); err != nil {
		t.Error(err)
	}
	if _, err := Subscribe(99, 0); err == nil {
		t.Error("a protocol that does not exist has notices")
	}
}
