package upnpd

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"igdd/pkg/lan"
	"igdd/pkg/portmap"
)

// faultyTable is a table whose methods panic while it is faulty.
type faultyTable struct {
	Table
	faulty atomic.Bool
}

func (f *faultyTable) check() {
	if f.faulty.Load() {
		panic("faulty table")
	}
}

func (f *faultyTable) Do(ctx context.Context, r portmap.Request) (portmap.Answer, error) {
	f.check()
	return f.Table.Do(ctx, r)
}

func (f *faultyTable) List() []*portmap.Mapping {
	f.check()
	return f.Table.List()
}

func (f *faultyTable) External() netip.Addr {
	f.check()
	return f.Table.External()
}

// logLines collects log lines.
type logLines struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(p)
}

func (l *logLines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.String()
}

// exchange sends a request on a new connection from c1 and returns all that comes back.
func (h *testGateway) exchange(t *testing.T, request string) string {
	t.Helper()
	c, err := h.dial("c1", netip.MustParseAddrPort(hosts["gw1"]+":5555"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, request) // the connection may end before all is read
	text, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestPanicsEndOneConnection has a fault in the table, more often than a host may have
// connections: each ends its connection and nothing else.
func TestPanicsEndOneConnection(t *testing.T) { bothWays(t, testPanicsEndOneConnection) }

func testPanicsEndOneConnection(t *testing.T, atOnce bool) {
	t.Parallel()
	log := new(logLines)
	h := newTestNet(t).newGateway(t, served(atOnce))
	table := &faultyTable{Table: h.table}
	h.server.opts.Table, h.server.opts.Hosts = table, lan.NewHosts(nil, slog.New(slog.NewTextHandler(log, nil)))
	h.listen(t)
	requests := []string{
		fatMapping(4000, "x"), fatCall("/ctl/IPConn", v2, "GetListOfPortMappings", listOfAll), plainCall("GetExternalIPAddress", ""),
	}
	table.faulty.Store(true)
	const times = connectionsPerHost + 1
	for range times {
		for _, request := range requests {
			if got := h.exchange(t, request); got != "" {
				t.Errorf("a faulty table answers %s", got)
			}
		}
	}
	if text := log.text(); strings.Count(text, `panic="faulty table"`) != times*len(requests) || !strings.Contains(text, "addPortMapping") {
		t.Errorf("log %s", text)
	}
	table.faulty.Store(false)
	for _, request := range requests {
		if got := h.exchange(t, request); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
			t.Errorf("got %s", got)
		}
	}
}

// TestPanicEndsOneSubscription has a fault in the delivery to one subscriber.
func TestPanicEndsOneSubscription(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, log := newSubscriberRig(t), new(logLines)
		p.subscriptions.log = slog.New(slog.NewTextHandler(log, nil))
		p.subscriptions.dial = func(sub *subscription, ctx context.Context, to netip.AddrPort) (net.Conn, error) {
			if to.Port() == 4000 {
				panic("faulty delivery")
			}
			return p.dial(sub, ctx, to)
		}
		lost, _ := p.subscribe("192.168.50.10", 4000)
		p.subscribe("192.168.50.11", 4001)
		time.Sleep(2 * eventGap)
		p.change()
		if n := len(p.got(4001)); n != 2 || p.renews("192.168.50.10", lost) {
			t.Errorf("the other one got %d messages, or the faulty one is left", n)
		}
		if text := log.text(); strings.Count(text, `panic="faulty delivery"`) != 1 || !strings.Contains(text, "notify") {
			t.Errorf("log %s", text)
		}
	})
}
