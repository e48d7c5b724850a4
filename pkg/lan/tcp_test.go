package lan

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlab"
)

// echoLater answers no connection at once.
func echoLater(*Arrival) (rest func(*Conn)) { return echo }

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
	go func() { ended <- l.Serve(echoLater) }()
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

// TestAnsweredAtOnce answers connections before there is a goroutine for them. One has a
// fault, and one says nothing until it is accepted.
func TestAnsweredAtOnce(t *testing.T) {
	t.Parallel()
	lab := netlab.NewLab(t, netlab.Layout{})
	log := new(lockedBuffer)
	l := listenTCP(t, lab, slog.New(slog.NewTextHandler(log, nil)))
	ended, silences := make(chan error, 1), make(chan struct{}, 1)
	go func() {
		ended <- l.Serve(func(a *Arrival) (rest func(*Conn)) {
			line := make([]byte, 5)
			n, err := a.Read(line)
			switch {
			case errors.Is(err, unix.EAGAIN): // the kernel has waited in vain
				silences <- struct{}{}
				return echo
			case string(line[:n]) == "panic":
				panic("at once")
			}
			io.WriteString(a, "at once "+a.Local.String())
			return nil
		})
	}()
	silent := dialRouter(t, lab)
	for text, want := range map[string]string{"panic": "", "hello": "at once 192.168.50.1"} {
		if got := ask(t, dialRouter(t, lab), text); got != want {
			t.Errorf("%s: got %q", text, got)
		}
	}
	if text := log.String(); strings.Count(text, "panic=") != 1 {
		t.Errorf("log %s", text)
	}
	<-silences
	if got := ask(t, silent, "hello"); got != "192.168.50.10 192.168.50.10" {
		t.Errorf("the silent one gets %q", got)
	}
	l.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestIsSettled has a client send more than is read, and one read nothing.
func TestIsSettled(t *testing.T) {
	t.Parallel()
	lab := netlab.NewLab(t, netlab.Layout{})
	l := listenTCP(t, lab, slog.New(slog.DiscardHandler))
	ended, settled := make(chan error, 1), make(chan bool, 2)
	go func() {
		ended <- l.Serve(func(a *Arrival) (rest func(*Conn)) {
			line := make([]byte, 5)
			for _, err := a.Read(line); errors.Is(err, unix.EAGAIN); _, err = a.Read(line) {
				time.Sleep(time.Millisecond)
			}
			if string(line) == "write" {
				a.Write(make([]byte, 1<<16))
			}
			settled <- a.IsSettled()
			return func(c *Conn) { settled <- c.IsSettled() }
		})
	}()
	for text, want := range map[string]bool{"hello": true, "hello\r\n": false, "write": false} {
		c := dialRouterBy(t, lab, net.Dialer{Control: receiveLittle})
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		if atOnce, later := <-settled, <-settled; atOnce != want || later != want {
			t.Errorf("%q: at once %v, later %v, want %v", text, atOnce, later, want)
		}
		c.Close()
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
	l.accept = func() (int, syscall.Sockaddr, error) {
		switch len(left) {
		case 0:
			return -1, nil, unix.EINVAL
		case 1:
			left = nil
			return accept()
		}
		err := left[0]
		left = left[1:]
		return -1, nil, err
	}
	c := dialRouter(t, lab)
	ended := make(chan error, 1)
	go func() { ended <- l.Serve(echoLater) }()
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

// receiveLittle gives a socket the smallest receive buffer, some kB.
func receiveLittle(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1) })
}

// dialRouter connects a client with the router.
func dialRouter(t *testing.T, lab *netlab.Lab) net.Conn {
	t.Helper()
	return dialRouterBy(t, lab, net.Dialer{})
}

// dialRouterBy connects a client with the router.
func dialRouterBy(t *testing.T, lab *netlab.Lab, d net.Dialer) (c net.Conn) {
	t.Helper()
	err := lab.Clients[0].Do(func() (err error) { c, err = d.Dial("tcp", "192.168.50.1:7001"); return err })
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
