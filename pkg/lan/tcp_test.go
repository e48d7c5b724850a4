package lan

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"igdd/pkg/netlab"
)

// logBuffer collects log lines.
type logBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *logBuffer) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.String()
}

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
	log := new(logBuffer)
	var l *Listener
	err := lab.Router.Do(func() error {
		dev, err := net.InterfaceByName("lan0")
		if err == nil {
			l, err = ListenTCP(testLAN{dev.Index}, NewHosts(nil, slog.New(slog.NewTextHandler(log, nil))), "tcp4", 7001)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
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
	if text := log.text(); !strings.Contains(text, "on request") || !strings.Contains(text, "echo") {
		t.Errorf("log %s", text)
	}
	l.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
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
