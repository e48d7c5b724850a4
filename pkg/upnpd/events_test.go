package upnpd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/lan"
	"igdd/pkg/portmap"
	"igdd/pkg/upnp"
)

// fakeTable is a table that has nothing but numbers.
type fakeTable struct {
	Table
	mappings atomic.Int32
}

func (f *fakeTable) Count() (int, uint32) {
	n := int(f.mappings.Load())
	return n, uint32(n)
}

func (f *fakeTable) External() netip.Addr { return netip.MustParseAddr("11.22.33.44") }

var _ Table = (*portmap.Table)(nil)

// subscriberRig is a server whose events go to subscribers through pipes, in a time
// that passes at once.
type subscriberRig struct {
	*Server
	table *fakeTable
	// answers is what subscribers do, by port, instead of answering well: an
	// empty text is no answer, "refuse" is no connection.
	answers map[uint16]string

	mu      sync.Mutex // guards the rest
	heard   map[uint16][]notice
	refused map[uint16]int
	open    int // connections
}

// notice is a message that came to a subscriber.
type notice struct{ seq, body string }

func newSubscriberRig(t *testing.T) *subscriberRig {
	t.Helper()
	p := &subscriberRig{
		table: new(fakeTable), answers: make(map[uint16]string),
		heard: make(map[uint16][]notice), refused: make(map[uint16]int),
	}
	p.Server = New(Options{
		Versions: []upnp.Version{upnp.V2}, Table: p.table, Log: slog.New(slog.DiscardHandler),
		Uplink: func() Uplink { return Uplink{Up: true, Since: time.Now()} },
	})
	p.subscriptions.dial = p.dial
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
	return p
}

// dial connects to a subscriber.
func (p *subscriberRig) dial(_ *subscription, _ context.Context, to netip.AddrPort) (net.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	answer, special := p.answers[to.Port()]
	if answer == "refuse" {
		p.refused[to.Port()]++
		return nil, fmt.Errorf("dial: %w", unix.ECONNREFUSED)
	}
	if answer == "unreachable" {
		return nil, fmt.Errorf("dial: %w", unix.EHOSTUNREACH)
	}
	if !special {
		answer = "HTTP/1.1 200 OK\r\n\r\n"
	}
	near, far := net.Pipe()
	p.open++
	go p.hear(far, to.Port(), answer)
	return near, nil
}

// hear is a subscriber's end of a connection.
func (p *subscriberRig) hear(c net.Conn, port uint16, answer string) {
	defer func() {
		c.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.open--
	}()
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	body, _ := io.ReadAll(r.Body)
	p.mu.Lock()
	p.heard[port] = append(p.heard[port], notice{r.Header.Get("SEQ"), string(body)})
	p.mu.Unlock()
	if answer == "" {
		io.Copy(io.Discard, c)
	}
	io.WriteString(c, answer)
}

// set changes what a subscriber does.
func (p *subscriberRig) set(port uint16, answer string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers[port] = answer
}

// got returns what a subscriber has heard, when all that happens at once has.
func (p *subscriberRig) got(port uint16) []notice {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.heard[port])
}

// change makes a mapping and lets all that follows from it at once happen.
func (p *subscriberRig) change() {
	p.table.mappings.Add(1)
	p.Changed()
	synctest.Wait()
}

// subscribe subscribes a client whose server has a port; it returns the SID,
// or the status of a refusal.
func (p *subscriberRig) subscribe(client string, port uint16) (sid string, status int) {
	r := &request{method: "SUBSCRIBE", path: "/evt/IPConn", client: netip.MustParseAddr(client), from: lan.Host(client), fields: map[string]string{
		"nt": "upnp:event", "callback": fmt.Sprintf("<http://%s:%d/>", client, port),
	}}
	reply := p.Server.subscribe(r)
	if reply.after != nil {
		reply.after(true)
	}
	synctest.Wait()
	sid, _, _ = strings.Cut(strings.TrimPrefix(string(reply.fields), "SID: "), "\r\n")
	return sid, reply.status
}

// TestBurst joins changes that come fast: the first is told at once, the last
// value always.
func TestBurst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newSubscriberRig(t)
		p.subscribe("192.168.50.10", 4000)
		time.Sleep(time.Second)
		for range 100 {
			p.change()
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Second)
		got := p.got(4000)
		if most := 2 + int(time.Second/eventGap); len(got) < 3 || len(got) > most {
			t.Errorf("%d messages for 100 changes in a second", len(got))
		}
		for i, m := range got {
			if m.seq != fmt.Sprint(i) {
				t.Errorf("message %d has number %s", i, m.seq)
			}
		}
		if last := got[len(got)-1].body; !strings.Contains(last, "<PortMappingNumberOfEntries>100<") || strings.Contains(last, "External") {
			t.Errorf("last message: %s", last)
		}
		if !strings.Contains(got[1].body, "<PortMappingNumberOfEntries>1<") {
			t.Errorf("second message: %s", got[1].body)
		}
	})
}

// TestSilentSubscriber has a subscriber that never answers: others hear at once, and it
// hears the newest when a message is given up.
func TestSilentSubscriber(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newSubscriberRig(t)
		p.set(4000, "")
		p.subscribe("192.168.50.10", 4000)
		p.subscribe("192.168.50.11", 4001)
		time.Sleep(2 * eventGap) // the first message, and a pause after it
		p.change()
		if mute, other := p.got(4000), p.got(4001); len(mute) != 1 || len(other) != 2 {
			t.Errorf("mute got %d messages, the other %d", len(mute), len(other))
		}
		time.Sleep(deliverWithin)
		if mute := p.got(4000); len(mute) != 2 || mute[1].seq != "1" || !strings.Contains(mute[1].body, "<PortMappingNumberOfEntries>1<") {
			t.Errorf("mute got %v", mute)
		}
		time.Sleep(10 * deliverWithin)
		if len(p.got(4000)) != 2 {
			t.Error("a lost message is sent again and again")
		}
	})
}

// TestGone drops who refuses again and again, and who does not know the
// subscription any more; less is forgiven.
func TestGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newSubscriberRig(t)
		p.set(4000, "refuse")
		p.set(4001, "HTTP/1.1 412 Precondition Failed\r\n\r\n")
		p.set(4002, "refuse")
		p.set(4003, "HTTP/1.1 500 Internal Server Error\r\n\r\n")
		for port := uint16(4000); port < 4004; port++ {
			p.subscribe("192.168.50.10", port)
		}
		time.Sleep(eventGap)
		for i := range 10 {
			if i == failuresToDrop-2 {
				p.set(4002, "HTTP/1.1 200 OK\r\n\r\n")
			}
			time.Sleep(repeatGap + eventGap)
			p.change()
		}
		for port, want := range map[uint16]int{4000: 0, 4001: 1, 4002: 10, 4003: 11} {
			if n := len(p.got(port)); n != want {
				t.Errorf("port %d heard %d messages, want %d", port, n, want)
			}
		}
		if n := p.refused[4000]; n != failuresToDrop {
			t.Errorf("tried %d times", n)
		}
		if n := len(p.subscriptions.places.Items()); n != 2 {
			t.Errorf("%d subscriptions are left", n)
		}
	})
}

// fill subscribes eight times from each of eight hosts, from 192.168.50.10 on.
func (p *subscriberRig) fill(t *testing.T) (sids []string) {
	t.Helper()
	client := netip.MustParseAddr("192.168.50.10")
	for range subscriptionsInAll / subscriptionsPerHost {
		for range subscriptionsPerHost {
			sid, status := p.subscribe(client.String(), 4000)
			if status != 200 {
				t.Fatalf("status %d", status)
			}
			sids = append(sids, sid)
		}
		client = client.Next()
	}
	return sids
}

// renews returns whether a subscription can be renewed by a client.
func (p *subscriberRig) renews(client, sid string) bool {
	r := &request{path: "/evt/IPConn", client: netip.MustParseAddr(client), fields: map[string]string{"sid": sid}}
	return p.Server.subscribe(r).status == 200
}

// TestHostWithMostGivesUp has all places taken, and by a host that has all that it may
// have.
func TestHostWithMostGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newSubscriberRig(t)
		sids := p.fill(t)
		time.Sleep(2 * eventGap)
		if _, status := p.subscribe("192.168.50.17", 4000); status != 503 || !p.renews("192.168.50.17", sids[56]) {
			t.Errorf("the ninth of a host: status %d, or its oldest is gone", status)
		}
		for i := range subscriptionsPerHost {
			if _, status := p.subscribe("192.168.50.200", 4000); status != 200 && i < subscriptionsPerHost-1 {
				t.Errorf("number %d of another host: status %d", i, status)
			}
		}
		if n := len(p.subscriptions.places.Items()); n != subscriptionsInAll {
			t.Errorf("%d subscriptions", n)
		}
		time.Sleep(shortestSubscription)
		if _, status := p.subscribe("192.168.50.210", 4000); status != 200 || len(p.subscriptions.places.Items()) != 1 {
			t.Errorf("after all have expired: status %d", status)
		}
	})
}

// TestUnheardSubscribersGiveUpFirst has subscriptions whose events nobody takes.
func TestUnheardSubscribersGiveUpFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newSubscriberRig(t)
		p.set(4001, "refuse")
		p.set(4002, "")
		var sids []string
		for i := range subscriptionsPerHost {
			port := uint16(4000)
			switch i {
			case 3:
				port = 4002
			case 5:
				port = 4001
			}
			sid, _ := p.subscribe("192.168.50.10", port)
			sids = append(sids, sid)
		}
		time.Sleep(2 * eventGap)
		for _, lost := range []int{5, 3, -1} {
			_, status := p.subscribe("192.168.50.10", 4000)
			time.Sleep(2*eventGap + deliverWithin)
			if lost < 0 && status != 503 || lost >= 0 && (status != 200 || p.renews("192.168.50.10", sids[lost])) {
				t.Errorf("status %d, or number %d is left", status, lost)
			}
		}
	})
}

// TestUnreachableSubscribers are dropped soon: by the first event that nobody takes, or
// when it has been refused repeatedly.
func TestUnreachableSubscribers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newSubscriberRig(t)
		p.set(4000, "refuse")
		p.set(4001, "unreachable")
		p.set(4002, "refuse")
		for port := uint16(4000); port < 4003; port++ {
			p.subscribe("192.168.50.10", port)
		}
		time.Sleep(2 * eventGap)
		p.set(4002, "HTTP/1.1 200 OK\r\n\r\n")
		time.Sleep(failuresToDrop * repeatGap)
		if got := p.got(4002); len(p.subscriptions.places.Items()) != 1 || len(got) != 1 || got[0].seq != "0" {
			t.Errorf("%d subscriptions are left; one who listens a moment later got %v", len(p.subscriptions.places.Items()), got)
		}
	})
}

// TestRestartedHost subscribes again and again without ending what it had: it gets a
// subscription in place of the one that it has not renewed for the longest time.
func TestRestartedHost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const host = "192.168.50.10"
		p := newSubscriberRig(t)
		var sids []string
		for range subscriptionsPerHost {
			sid, _ := p.subscribe(host, 4000)
			sids = append(sids, sid)
		}
		time.Sleep(newFor - time.Second)
		if !p.renews(host, sids[0]) {
			t.Fatal("not renewed")
		}
		if _, status := p.subscribe(host, 4000); status != 503 {
			t.Errorf("one more of new ones: status %d", status)
		}
		time.Sleep(time.Second)
		for _, lost := range []int{1, 2} {
			if _, status := p.subscribe(host, 4000); status != 200 || p.renews(host, sids[lost]) {
				t.Errorf("status %d, or number %d is left", status, lost)
			}
		}
		if !p.renews(host, sids[0]) || !p.renews(host, sids[3]) {
			t.Error("another one is lost")
		}
	})
}

// TestNothingIsSentAfterTheEnd has a delivery in progress when its subscription ends.
func TestNothingIsSentAfterTheEnd(t *testing.T) {
	t.Parallel()
	const host = "192.168.50.10"
	for name, end := range map[string]func(p *subscriberRig, sid string){
		"cancelled": func(p *subscriberRig, sid string) {
			p.unsubscribe(&request{path: "/evt/IPConn", client: netip.MustParseAddr(host), fields: map[string]string{"sid": sid}})
		},
		"displaced": func(p *subscriberRig, _ string) {
			for i := range subscriptionsPerHost * subscriptionsPerHost {
				p.subscribe(fmt.Sprintf("192.168.50.%d", 11+i/subscriptionsPerHost), 4001)
			}
			time.Sleep(2 * eventGap)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newSubscriberRig(t)
				p.set(4000, "")
				var sid string
				for range subscriptionsPerHost {
					sid, _ = p.subscribe(host, 4000)
				}
				time.Sleep(2 * eventGap)
				before := len(p.got(4000))
				end(p, sid)
				synctest.Wait()
				if before != subscriptionsPerHost || p.open >= before {
					t.Errorf("%d messages were on their way, %d are", before, p.open)
				}
			})
		})
	}
}

// TestForeignSID is renewed and ended by nobody but who got it, where it was got.
func TestForeignSID(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newSubscriberRig(t)
		sid, _ := p.subscribe("192.168.50.10", 4000)
		tests := []struct {
			client, path string
			status       int
		}{
			{"192.168.50.11", "/evt/IPConn", 412},
			{"192.168.50.10", "/evt/L3F", 412},
			{"192.168.50.10", "/evt/IPConn", 200},
		}
		for _, tt := range tests {
			r := &request{path: tt.path, client: netip.MustParseAddr(tt.client), fields: map[string]string{"sid": sid}}
			if got := p.Server.subscribe(r).status; got != tt.status {
				t.Errorf("%s renews at %s: %d", tt.client, tt.path, got)
			}
		}
		for _, tt := range tests {
			r := &request{path: tt.path, client: netip.MustParseAddr(tt.client), fields: map[string]string{"sid": sid}}
			if got := p.unsubscribe(r).status; got != tt.status {
				t.Errorf("%s unsubscribes at %s: %d", tt.client, tt.path, got)
			}
		}
	})
}

// TestSequenceWraps from the greatest number to 1: 0 is that of the first.
func TestSequenceWraps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newSubscriberRig(t)
		p.subscribe("192.168.50.10", 4000)
		time.Sleep(2 * eventGap) // the initial event
		p.subscriptions.mu.Lock()
		p.subscriptions.places.Items()[0].seq = 1<<32 - 1
		p.subscriptions.mu.Unlock()
		for range 2 {
			time.Sleep(2 * eventGap)
			p.change()
		}
		time.Sleep(2 * eventGap)
		if got := p.got(4000); len(got) != 3 || got[1].seq != "4294967295" || got[2].seq != "1" {
			t.Errorf("got %v", got)
		}
	})
}

// TestReplyIsLost takes the subscription back whose SID did not go out.
func TestReplyIsLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newSubscriberRig(t)
		r := &request{path: "/evt/IPConn", client: netip.MustParseAddr("192.168.50.10"), fields: map[string]string{
			"nt": "upnp:event", "callback": "<http://192.168.50.10:4000/>",
		}}
		p.Server.subscribe(r).after(false)
		if n := len(p.subscriptions.places.Items()); n != 0 {
			t.Errorf("%d subscriptions are left", n)
		}
	})
}

// asked is a table that does something when it is asked for the address.
type asked struct {
	fakeTable
	do func()
}

func (a *asked) External() netip.Addr {
	a.do()
	return a.fakeTable.External()
}

// TestEndWhileADeliveryBegins ends the server just before a subscriber's first
// event is on its way: the end waits for it.
func TestEndWhileADeliveryBegins(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan struct{})
	table := &asked{do: sync.OnceFunc(func() {
		cancel()
		select {
		case <-ended:
			t.Error("the server has ended, and then sends an event")
		case <-time.After(100 * time.Millisecond): // it waits
		}
	})}
	s := New(Options{
		Versions: []upnp.Version{upnp.V2}, Table: table, Log: slog.New(slog.DiscardHandler),
		Uplink: func() Uplink { return Uplink{} },
	})
	go func() { s.Run(ctx); close(ended) }()
	r := &request{path: "/evt/IPConn", client: netip.MustParseAddr("192.168.50.10"), fields: map[string]string{
		"nt": "upnp:event", "callback": "<http://192.168.50.10:4000/>",
	}}
	for runs := false; !runs; runtime.Gosched() {
		s.subscriptions.mu.Lock()
		runs = s.subscriptions.ctx != nil
		s.subscriptions.mu.Unlock()
	}
	s.subscribe(r).after(true)
	<-ended
}

// TestEventsByDescription wants to each subscriber the events of the description that it has
// seen, and of version 1 to old ones.
func TestEventsByDescription(t *testing.T) {
	t.Parallel()
	one, two, both := []upnp.Version{upnp.V1}, []upnp.Version{upnp.V2}, []upnp.Version{upnp.V1, upnp.V2}
	for _, tt := range []struct {
		versions    []upnp.Version
		path, agent string
		want        upnp.Version
	}{
		{both, "/evt/IPConn", modern, upnp.V1},
		{both, "/evt/IPConn2", modern, upnp.V2},
		{both, "/evt/IPConn2", xbox, upnp.V1},
		{both, "/evt/IPConn", "FDSSDP", upnp.V1},
		{both, "/evt/L3F", modern, upnp.V1},
		{both, "/evt/L3F2", modern, upnp.V2},
		{two, "/evt/IPConn", modern, upnp.V2},
		{two, "/evt/IPConn2", modern, upnp.V2},
		{two, "/evt/IPConn2", xbox, upnp.V1},
		{one, "/evt/IPConn", modern, upnp.V1},
	} {
		s := New(Options{Versions: tt.versions})
		r := &request{path: tt.path, fields: map[string]string{"user-agent": tt.agent}}
		if got := s.eventVersion(r); got != tt.want {
			t.Errorf("%v: %q at %s gets version %d", tt.versions, tt.agent, tt.path, got)
		}
	}
	s := New(Options{Versions: both})
	if got := s.versionAt(s.published("//EVT/ipconn2"), s.events["/evt/IPConn"]); got != upnp.V2 {
		t.Errorf("the path in another spelling is of version %d", got)
	}
	if s := New(Options{Versions: one}); s.events["/evt/IPConn2"] != nil || s.controls["/ctl/L3F2"] != nil {
		t.Error("version 1 alone has URLs of version 2")
	}
}

func TestReadAnswer(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]error{
		"HTTP/1.1 200 OK\r\n\r\n": nil, "HTTP/1.1 200 OK\r\n": nil, "HTTP/1.1 500 x\r\nA: b\r\n\r\n": nil, "nonsense\n\n": nil,
		"HTTP/1.1 412 x\r\n\r\n": errUnknown, "HTTP/1.0 412\n\n": errUnknown, "": io.EOF, "HTTP/1.1 200": io.EOF,
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 2*maxHead): nil, strings.Repeat("x", 2*maxHead): io.EOF,
	} {
		if err := readAnswer(strings.NewReader(answer)); !errors.Is(err, want) {
			t.Errorf("%.30q: %v, want %v", answer, err, want)
		}
	}
}
