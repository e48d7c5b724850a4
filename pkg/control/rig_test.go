package control

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"igdd/pkg/event"
	"igdd/pkg/hosts"
	"igdd/pkg/portmap"
	"igdd/pkg/portmap/portmaptest"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// Hosts of the LAN.
var (
	laptop = addr("192.168.50.10")
	phone  = addr("192.168.50.11")
	server = addr("2001:db8:50::20")
)

// rig is a table with a server for the operator on it.
type rig struct {
	table    *portmap.Table
	firewall *portmaptest.Firewall
	server   *Server
	socket   string
	log      *transcript
	events   *event.Feed
	status   Status
	left     error // why rules are left
	traces   traces
	upstream portmaptest.Upstream
	state    portmap.NetworkState
}

// transcript is a log to look into while others write.
type transcript struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *transcript) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *transcript) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// rules let the LAN have what AstLinux lets it have.
var rules = []portmap.Rule{
	{Allow: true, External: portmap.Ports{{First: 1024, Last: 65535}}, Network: addr("192.168.50.0"), Mask: 0xffffff00, Internal: portmap.Ports{{First: 1024, Last: 65535}}},
	{External: portmap.Ports{{Last: 65535}}, Network: addr("0.0.0.0"), Internal: portmap.Ports{{Last: 65535}}},
}

// someMetrics are the daemon's.
const someMetrics = "# TYPE test_info gauge\ntest_info{version=\"1.2 <&>\"} 1\n"

// newRig starts table and server; both end with the test.
func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{firewall: new(portmaptest.Firewall), socket: filepath.Join(t.TempDir(), "ctl"), log: new(transcript), events: event.NewFeed()}
	log := slog.New(slog.NewTextHandler(r.log, nil))
	r.state = portmap.NetworkState{
		External: addr("11.22.33.44"),
		LANs:     []netip.Prefix{netip.MustParsePrefix("192.168.50.1/24"), netip.MustParsePrefix("2001:db8:50::1/64")},
		Own:      []netip.Addr{addr("192.168.50.1")},
		Forwards: []portmap.Forward{{Protocol: portmap.TCP, External: portmap.PortRange{First: 8443, Last: 8443}, Target: netip.AddrPortFrom(phone, 8443)}},
	}
	r.table = portmap.NewTable(portmap.Options{
		Policy:    &portmap.Policy{Rules: rules, Secure: true},
		Firewall:  r.firewall,
		Store:     &portmaptest.Store{},
		Upstream:  &r.upstream,
		Network:   r.state,
		Listening: func(_ portmap.Protocol, port uint16) bool { return port == 5000 },
		Listeners: func(portmap.Protocol) *portmap.PortSet { return new(portmap.PortSet) },
		Committed: func([]portmap.Change, bool) {},
		Log:       slog.New(slog.DiscardHandler),
	})
	r.status = healthy()
	r.server = New(Options{
		Socket:  r.socket,
		Table:   r.table,
		Status:  func() Status { return r.status },
		Metrics: func() string { return someMetrics },
		Left:    func() error { return r.left },
		NotSaved: func() error {
			if r.status.Leases != "" {
				return errors.New(r.status.Leases)
			}
			return nil
		},
		RuleText: func(r portmap.Rule) string {
			if r.Allow {
				return "allow the LAN"
			}
			return "deny the rest"
		},
		PortRules: func(p portmap.Protocol, external uint16) []string {
			if p == portmap.UDP && external == 5060 {
				return []string{"PREROUTING -s 192.0.2.7/32 -p udp -j DNAT"}
			}
			return nil
		},
		Trace:   r.trace,
		Traffic: r.traffic,
		Events:  r.events,
		Emit:    func(e event.Event) { e = r.events.Add(e); e.Log(log) },
		Explain: r.explain,
		Limits:  func() string { return " (limits)" },
		Ports:   func() string { return " (ports)" },
		Hosts: func() (map[netip.Addr]hosts.Host, error) {
			return map[netip.Addr]hosts.Host{
				laptop: {Addr: laptop, Hardware: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Name: "laptop", Answers: true},
				phone:  {Addr: phone, Name: "phone"},
			}, nil
		},
		Log: log,
	})
	run(t, r.table.Run)
	<-r.table.Started()
	run(t, r.server.Run)
	await(t, "the socket", func() bool { return r.tool("status").status == exitDone })
	return r
}

// explain answers a question as a client of NAT-PMP, and of UPnP with the exact port;
// PCP is disabled.
func (r *rig) explain(ctx context.Context, q Question) (e Explanation, err error) {
	if q.Origin == portmap.PCP {
		return Explanation{Unheard: "it is disabled"}, nil
	}
	req := portmap.Request{
		Origin: q.Origin, Client: q.Client, Protocol: q.Protocol, Internal: netip.AddrPortFrom(q.Client, q.Internal),
		External: q.External, Exact: q.Origin == portmap.UPnP, Lifetime: time.Hour,
	}
	d, err := r.table.Explain(ctx, req)
	if err != nil {
		return e, err
	}
	e.Decision = &d
	if d.Refusal != portmap.Granted {
		e.Fault = "error 1"
	} else if q.GetsOtherPort(&d) {
		req.Exact = true
		exact, err := r.table.Explain(ctx, req)
		e.Exact = &exact
		return e, err
	}
	return e, nil
}

// behindRouter puts a router in front that does the same for every mapping.
func (r *rig) behindRouter(t *testing.T, f portmap.Forwarding) {
	t.Helper()
	r.upstream.Report = r.table.Report
	r.upstream.Answer = func(m *portmap.Mapping) (portmap.Report, bool) {
		return portmap.Report{Key: m.Key, Forwarding: f}, f.State != portmap.Asking
	}
	r.state.Upstream = true
	if err := r.table.SetNetworkState(t.Context(), r.state); err != nil {
		t.Fatal(err)
	}
}

// healthy is the status of a router that is well.
func healthy() Status {
	return Status{
		Version: "1.2", Started: time.Now(), Protocols: []string{"NAT-PMP", "PCP"}, External: addr("11.22.33.44"),
		Uplinks:  []Link{{Name: "wan0", Up: true, Addresses: []netip.Prefix{netip.MustParsePrefix("11.22.33.44/24")}}},
		LANs:     []Link{{Name: "lan0", Up: true, Addresses: []netip.Prefix{netip.MustParsePrefix("192.168.50.1/24")}, Servers: []string{"NAT-PMP/PCP"}}},
		Firewall: Firewall{Healthy: true},
	}
}

// traffic counts a packet of 100 octets for each open port.
func (r *rig) traffic() (map[portmap.Key]Traffic, error) {
	counted := make(map[portmap.Key]Traffic)
	for _, m := range r.firewall.Open() {
		counted[m.Key] = Traffic{1, 100}
	}
	return counted, nil
}

// run runs f until the test ends.
func run(t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// await waits until something holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// open has a client open a port.
func (r *rig) open(t *testing.T, o portmap.Origin, p portmap.Protocol, client netip.Addr, external, internal uint16, lifetime time.Duration, description string) {
	t.Helper()
	a, err := r.table.Do(t.Context(), portmap.Request{
		Origin: o, Client: client, Protocol: p, Internal: netip.AddrPortFrom(client, internal),
		External: external, Exact: true, Lifetime: lifetime, Description: description,
	})
	if err = errors.Join(err, refusal(a)); err != nil {
		t.Fatal(err)
	}
}

// openMany opens UDP ports 40001 to 40000+n, one after another.
func (r *rig) openMany(t *testing.T, n int) {
	for i := range n {
		r.open(t, portmap.NATPMP, portmap.UDP, laptop, uint16(40001+i), uint16(4001+i), time.Hour, "")
	}
}

func refusal(a portmap.Answer) error {
	if a.Refusal != portmap.Granted {
		return errors.New(a.Refusal.String())
	}
	return nil
}

// called is what one call of the tool came to.
type called struct {
	status         exitStatus
	stdout, stderr string
}

// tool calls the tool.
func (r *rig) tool(args ...string) called {
	var stdout, stderr strings.Builder
	status := Main(append([]string{"-s", r.socket}, args...), &stdout, &stderr)
	return called{exitStatus(status), stdout.String(), stderr.String()}
}

// noHosts knows no hosts.
func noHosts() (map[netip.Addr]hosts.Host, error) { return nil, nil }

// testLog is the log of a server in a test.
func testLog(t *testing.T) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }
