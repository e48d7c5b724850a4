package lan

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlab"
)

// recorder notes the payloads that are handled.
type recorder struct {
	mu   sync.Mutex
	list []string
}

func (r *recorder) note(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, s)
}

func (r *recorder) has(want ...string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Equal(r.list, want)
}

// receive opens sockets with hosts, handles what arrives and demands that Receive ends
// without an error.
func receive(t *testing.T, lab *netlab.Lab, hosts *Hosts, handle func(Datagram)) Sockets {
	t.Helper()
	sockets, err := listenFor(lab, hosts, exclusive[0])
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		if err := sockets[0].Receive(func(_ *Socket, d Datagram) { handle(d) }); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { sockets.Close(); work.Wait() })
	return sockets
}

// sendTo sends payloads from the client to the router.
func sendTo(t *testing.T, lab *netlab.Lab, payloads ...string) {
	t.Helper()
	var c net.Conn
	if err := lab.Clients[0].Do(func() (err error) { c, err = net.Dial("udp", "192.168.50.1:7000"); return err }); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, p := range payloads {
		if _, err := io.WriteString(c, p); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPanicEndsOneDatagram panics in the handling of a datagram, also of one that had to
// wait for its sender.
func TestPanicEndsOneDatagram(t *testing.T) {
	for name, waits := range map[string]bool{"at once": false, "waits": true} {
		t.Run(name, func(t *testing.T) {
			lab := netlab.NewLab(t, netlab.Layout{})
			var log lockedBuffer
			table := newFakeNeighbours()
			hosts := NewHosts(table, slog.New(slog.NewTextHandler(&log, nil)))
			var handled recorder
			receive(t, lab, hosts, func(d Datagram) {
				handled.note(string(d.Payload))
				if string(d.Payload) == "bad" {
					panic("as the test wants it")
				}
			})
			if !waits {
				table.enterOn(linkIndex(t, lab), "192.168.50.10", 1)
			}
			sendTo(t, lab, "good", "bad", "better")
			if waits {
				await(t, "three requests", func() bool {
					hosts.mu.Lock()
					defer hosts.mu.Unlock()
					return len(hosts.queues) == 1 && len(hosts.queues[0].requests) == 3
				})
				if !handled.has() {
					t.Errorf("handled before the sender is known: %v", handled.list)
				}
				table.enterOn(linkIndex(t, lab), "192.168.50.10", 1)
			}
			await(t, "all three", func() bool { return handled.has("good", "bad", "better") })
			await(t, "a line of log", func() bool { return strings.Contains(log.String(), "as the test wants it") })
			if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "client=192.168.50.10") {
				t.Errorf("log: %s", text)
			}
		})
	}
}

// linkIndex returns the index of lan0.
func linkIndex(t *testing.T, lab *netlab.Lab) (index int) {
	t.Helper()
	if err := lab.Router.Do(func() error {
		dev, err := net.InterfaceByName("lan0")
		if err == nil {
			index = dev.Index
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return index
}

// lockedBuffer is a log.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// hostUnreachable returns the message that the client cannot be reached (RFC 792), in
// answer to a datagram from port 7000 of the router.
func hostUnreachable() []byte {
	b := []byte{3, 1, 0, 0, 0, 0, 0, 0} // type, code, checksum, unused
	b = append(b, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0, 192, 168, 50, 1, 192, 168, 50, 10)
	b = append(b, 7000>>8, 7000&255, 4, 0, 0, 8, 0, 0)
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	sum = ^(sum>>16 + sum&0xffff)
	b[2], b[3] = byte(sum>>8), byte(sum)
	return b
}

// TestReceiveErrorsPass has the kernel report errors to a socket.
func TestReceiveErrorsPass(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{})
	var handled recorder
	sockets := receive(t, lab, everyone, func(d Datagram) { handled.note(string(d.Payload)) })
	option := func(level, name int) (value int) {
		sockets[0].raw.Control(func(fd uintptr) { value, _ = unix.GetsockoptInt(int(fd), level, name) })
		return value
	}
	sockets[0].raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVERR, 1) })
	if option(unix.IPPROTO_IP, unix.IP_RECVERR) != 1 {
		t.Fatal("the kernel reports no errors")
	}
	var c net.Conn
	if err := lab.Clients[0].Do(func() (err error) { c, err = net.Dial("ip4:icmp", "192.168.50.1"); return err }); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var want []string
	for range 3 {
		if _, err := c.Write(hostUnreachable()); err != nil {
			t.Fatal(err)
		}
		await(t, "the kernel's error", func() bool { return reportedError(sockets[0]) })
		sendTo(t, lab, "after it")
		want = append(want, "after it")
		await(t, "the datagram after it", func() bool { return handled.has(want...) })
	}
}

// reportedError takes an error from the queue of a socket and reports whether there was
// one. It remains the result of the next call of recvmsg(2).
func reportedError(s *Socket) (found bool) {
	s.raw.Control(func(fd uintptr) {
		_, _, _, _, err := unix.Recvmsg(int(fd), make([]byte, 512), make([]byte, 512), unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		found = err == nil
	})
	return found
}

func TestIsPassing(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{unix.EHOSTUNREACH, true},
		{unix.ENETDOWN, true},
		{unix.ENOBUFS, true},
		{&net.OpError{Op: "read", Err: os.NewSyscallError("recvmsg", unix.ENOMEM)}, true},
		{fmt.Errorf("wrapped: %w", unix.EMFILE), true},
		{unix.EBADF, false},
		{unix.ENOTSOCK, false},
		{errors.New("other"), false},
		{nil, false},
	} {
		if got := isPassing(tt.err); got != tt.want {
			t.Errorf("%v: %v", tt.err, got)
		}
	}
}
