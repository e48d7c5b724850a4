package lan

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlab"
)

// echo answers a connection with its client, and panics if it is asked to.
func echo(c *Conn) {
	line := make([]byte, 5)
	io.ReadFull(c, line)
	if string(line) == "panic" {
		panic("on request")
	}
	io.WriteString(c, c.Client.String()+" "+string(c.Host))
}

// TestPanicEndsOneConnection has a fault in the handling of one connection while
// another is open.
func TestPanicEndsOneConnection(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{})
	log := new(lockedBuffer)
	l := listenTCP(t, lab, slog.New(slog.NewTextHandler(log, nil)))
	ended := make(chan error, 1)
	go func() { ended <- l.Serve(echo) }()
	other := dialRouter(t, lab)
	if got := ask(t, dialRouter(t, lab), "panic"); got != "" {
		t.Errorf("the faulty connection says %q", got)
	}
	for _, c := range []net.Conn{other, dialRouter(t, lab)} {
		if got := ask(t, c, "hello"); got != "192.168.50.10 192.168.50.10" {
			t.Errorf("another connection says %q", got)
		}
	}
	if text := log.String(); !strings.Contains(text, "on request") || !strings.Contains(text, "echo") {
		t.Errorf("log %s", text)
	}
	l.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestAcceptFails has errors of accept(2) before each connection is accepted, and then
// one that does not pass.
func TestAcceptFails(t *testing.T) {
	t.Parallel()
	lab := netlab.NewLab(t, netlab.Layout{})
	l := listenTCP(t, lab, slog.New(slog.DiscardHandler))
	accept, left := l.accept, slices.Clone(passing)
	l.accept = func() (*net.TCPConn, error) {
		switch len(left) {
		case 0:
			return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", unix.EINVAL)}
		case 1:
			left = nil
			return accept()
		}
		err := left[0]
		left = left[1:]
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", err)}
	}
	c := dialRouter(t, lab)
	ended := make(chan error, 1)
	go func() { ended <- l.Serve(echo) }()
	select {
	case err := <-ended: // the connection is still open
		if !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "lan0") {
			t.Errorf("error %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("an error that does not pass does not end Serve")
	}
	if got := ask(t, c, "hello"); got != "192.168.50.10 192.168.50.10" {
		t.Errorf("got %q", got)
	}
}

// listenTCP opens a port on the router's lan0.
func listenTCP(t *testing.T, lab *netlab.Lab, log *slog.Logger) (l *Listener) {
	t.Helper()
	err := lab.Router.Do(func() error {
		dev, err := net.InterfaceByName("lan0")
		if err == nil {
			l, err = ListenTCP(testLAN{dev.Index}, NewHosts(nil, log), "tcp4", 7001)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// dialRouter connects a client with the router.
func dialRouter(t *testing.T, lab *netlab.Lab) (c net.Conn) {
	t.Helper()
	err := lab.Clients[0].Do(func() (err error) { c, err = net.Dial("tcp", "192.168.50.1:7001"); return err })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// ask sends text and returns all that comes back.
func ask(t *testing.T, c net.Conn, text string) string {
	t.Helper()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}
