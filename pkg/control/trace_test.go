package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"igdd/pkg/netlab"
	"igdd/pkg/portmap"
	"igdd/pkg/xtables"
)

// traces stands in for the daemon's trace.
type traces struct {
	asked []xtables.Connection
	find  func(c xtables.Connection) ([]Traced, error) // nil: every connection arrives at the host of its mapping
}

// trace follows a connection.
func (r *rig) trace(_ context.Context, c xtables.Connection) ([]Traced, error) {
	r.traces.asked = append(r.traces.asked, c)
	if r.traces.find != nil {
		return r.traces.find(c)
	}
	return r.arrives(c), nil
}

// arrives returns the path of a connection that arrives: at the host of its mapping, or
// at the router.
func (r *rig) arrives(c xtables.Connection) []Traced {
	c.In = "wan0"
	if !c.Destination.Addr().IsValid() {
		c.Destination = netip.AddrPortFrom(addr("11.22.33.44"), c.Destination.Port())
	}
	for _, m := range r.table.List() {
		if m.ExternalPort() == c.Destination.Port() && xtables.Protocol(m.Protocol) == c.Protocol {
			return []Traced{{Connection: c, Path: xtables.Path{To: m.Internal}, Owned: true}}
		}
	}
	return []Traced{{Connection: c, Path: xtables.Path{To: c.Destination, Local: true}}}
}

// rule returns a rule of a path, which matches for certain or perhaps.
func rule(program, table, chain string, index, depth int, text string, certain bool) xtables.Step {
	port := xtables.PortsOf(xtables.PortRange{First: 5000, Last: 5000}, xtables.TCP)
	s := xtables.Step{Program: program, Table: table, Chain: chain, Index: index, Depth: depth, Text: text, Rule: xtables.ParseRule(text), Ports: port}
	if certain {
		s.Must = port
	}
	return s
}

// TestTrace prints paths as text.
func TestTrace(t *testing.T) {
	r := newRig(t)
	r.open(t, portmap.PCP, portmap.TCP, laptop, 40000, 5000, time.Hour, "a \x1bgame")
	mapped := func(c xtables.Connection) ([]Traced, error) {
		list := r.arrives(c)
		list[0].Steps = []xtables.Step{
			rule("", "raw", "PREROUTING", 2, 0, "-m set --match-set bad src -j DROP", false),
			rule("", "nat", "PREROUTING", 0, 0, "-i wan0 -j MINIUPNPD", true),
			rule("", "nat", "MINIUPNPD", 6, 1, "-p tcp -m tcp --dport 40000 -j DNAT --to-destination 192.168.50.10:5000", true),
			rule("iptables-legacy", "filter", "FORWARD", 0, 0, "-j zone", true),
		}
		return list, nil
	}
	ending := func(p xtables.Path) func(xtables.Connection) ([]Traced, error) {
		return func(c xtables.Connection) ([]Traced, error) {
			list := r.arrives(c)
			p.To = list[0].Path.To
			list[0].Path, list[0].Owned = p, false
			return list, nil
		}
	}
	at := func(to string, local, listening bool) func(xtables.Connection) ([]Traced, error) {
		return func(c xtables.Connection) ([]Traced, error) {
			c.In, c.Destination = "wan0", netip.MustParseAddrPort("11.22.33.44:40000")
			p := Traced{Connection: c, Path: xtables.Path{Local: local}, Listening: listening}
			if to == "" {
				p.Fate, p.Doubt = xtables.Unknown, "nat PREROUTING -j DNAT --to-destination 10.0.0.1-10.0.0.9"
			} else {
				p.Path.To = netip.MustParseAddrPort(to)
			}
			return []Traced{p}, nil
		}
	}
	const heading = "TCP from 198.51.100.7 to 11.22.33.44:40000 by wan0\n"
	const notAsked = "listener:  not asked; --probe does\n"
	for _, tt := range []struct {
		what   string
		find   func(xtables.Connection) ([]Traced, error)
		status exitStatus
		want   string
	}{
		{"a mapping", mapped, exitDone, heading +
			"  raw PREROUTING 3: -m set --match-set bad src -j DROP  ...perhaps\n" +
			"  nat PREROUTING 1: -i wan0 -j MINIUPNPD\n" +
			"    nat MINIUPNPD 7: -p tcp -m tcp --dport 40000 -j DNAT --to-destination 192.168.50.10:5000\n" +
			"  filter FORWARD 1: (iptables-legacy) -j zone\n" +
			"mapping:   port 40000 to port 5000 of laptop (192.168.50.10), by PCP: a ?game\n" + notAsked +
			"verdict:   arrives at 192.168.50.10:5000\n"},
		{"a rule that stops it", ending(xtables.Path{Fate: xtables.Stopped, By: "filter FORWARD -j DROP"}), exitNo,
			heading + "verdict:   stopped: filter FORWARD -j DROP\n"},
		{"a rule that may stop it", ending(xtables.Path{Fate: xtables.Unknown, By: "filter FORWARD -m a -j DROP", Doubt: "filter FORWARD -m a -j DROP"}), exitNo,
			heading + notAsked + "verdict:   perhaps arrives at 192.168.50.10:5000; that depends on a rule which cannot be judged: filter FORWARD -m a -j DROP\n"},
		{"a rule that may let it pass", ending(xtables.Path{Fate: xtables.Unknown, By: "filter FORWARD policy DROP", Doubt: "filter FORWARD -m a -j ACCEPT"}), exitNo,
			heading + notAsked + "verdict:   perhaps arrives at 192.168.50.10:5000, perhaps stopped: filter FORWARD policy DROP; that depends on a rule which cannot be judged: filter FORWARD -m a -j ACCEPT\n"},
		{"the router", at("11.22.33.44:40000", true, false), exitNo,
			heading + "listener:  no program of the router listens there\nverdict:   arrives at 11.22.33.44:40000, the router itself\n"},
		{"a program of the router", at("11.22.33.44:22", true, true), exitDone,
			heading + "listener:  a program of the router listens there\nverdict:   arrives at 11.22.33.44:22, the router itself\n"},
		{"several hosts", at("", false, false), exitNo,
			heading + "verdict:   perhaps forwarded elsewhere: nat PREROUTING -j DNAT --to-destination 10.0.0.1-10.0.0.9\n"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			r.traces.find = tt.find
			if got := r.tool("trace", "198.51.100.7", "tcp", "40000"); got != (called{tt.status, tt.want, ""}) {
				t.Errorf("status %d:\n%swant %d:\n%s%s", got.status, got.stdout, tt.status, tt.want, got.stderr)
			}
		})
	}
}

// fromLAN returns a path of a connection of the laptop to a game's server, which leaves by
// wan0 unless the path says otherwise.
func fromLAN(p xtables.Path, steps ...xtables.Step) func(xtables.Connection) ([]Traced, error) {
	return func(c xtables.Connection) ([]Traced, error) {
		c.In = "lan0"
		p.To, p.Steps = c.Destination, steps
		if !p.Local {
			p.Out = "wan0"
		}
		return []Traced{{Connection: c, Path: p, FromLAN: true}}, nil
	}
}

// source returns the source as which a connection leaves.
func source(address string, first, last uint16, kept bool) xtables.Source {
	return xtables.Source{Addr: addr(address), Ports: xtables.PortRange{First: first, Last: last}, Kept: kept}
}

// TestTraceFromLAN prints paths of connections that leave.
func TestTraceFromLAN(t *testing.T) {
	r := newRig(t)
	r.open(t, portmap.PCP, portmap.UDP, laptop, 40000, 5000, time.Hour, "game")
	const (
		heading = "UDP from 192.168.50.10:5000 to 198.51.100.7:3478 by lan0\n"
		mapping = "mapping:   port 40000 to port 5000 of laptop (192.168.50.10), by PCP: game\n"
		leaves  = heading + mapping + "verdict:   leaves by wan0 for 198.51.100.7:3478 as "
		rules   = "nat POSTROUTING -m set --match-set a src -j ACCEPT"
	)
	own := source("192.168.50.10", 5000, 5000, true)
	for _, tt := range []struct {
		what   string
		find   func(xtables.Connection) ([]Traced, error)
		status exitStatus
		want   string
	}{
		{"the mapped port", fromLAN(xtables.Path{From: source("11.22.33.44", 40000, 40000, false)}, rule("", "nat", "POSTROUTING", 0, 0, "-o wan0 -j MINIUPNPD-OUTBOUND", true)), exitDone,
			heading + "  nat POSTROUTING 1: -o wan0 -j MINIUPNPD-OUTBOUND\n" + mapping + "verdict:   leaves by wan0 for 198.51.100.7:3478 as 11.22.33.44:40000\n"},
		{"its own port", fromLAN(xtables.Path{From: source("11.22.33.44", 5000, 5000, true)}), exitDone, leaves + "11.22.33.44:5000, unless another connection has that port\n"},
		{"one of some ports", fromLAN(xtables.Path{From: source("11.22.33.44", 5000, 5063, false)}), exitDone, leaves + "11.22.33.44 with a port from 5000 to 5063\n"},
		{"any port", fromLAN(xtables.Path{From: source("11.22.33.44", 0, 0, false)}), exitDone, leaves + "11.22.33.44 with a random port\n"},
		{"no translation", fromLAN(xtables.Path{From: own}), exitDone, leaves + "192.168.50.10:5000, which is not translated\n"},
		{"a rule that cannot be judged", fromLAN(xtables.Path{FromDoubt: rules}), exitNo, leaves + "a source that depends on a rule which cannot be judged: " + rules + "\n"},
		{"two variants", fromLAN(xtables.Path{}), exitNo,
			leaves + "one of two sources: both variants of iptables translate it, and it is not known which of them comes first\n"},
		{"a rule that stops it", fromLAN(xtables.Path{Fate: xtables.Stopped, By: "filter FORWARD -j DROP"}), exitNo, heading + mapping + "verdict:   stopped: filter FORWARD -j DROP\n"},
		{"a rule that may stop it", fromLAN(xtables.Path{Fate: xtables.Unknown, By: "filter FORWARD -m a -j DROP", Doubt: "filter FORWARD -m a -j DROP", From: own}), exitNo,
			heading + mapping + "verdict:   perhaps leaves by wan0 for 198.51.100.7:3478 as 192.168.50.10:5000, which is not translated; " +
				"that depends on a rule which cannot be judged: filter FORWARD -m a -j DROP\n"},
		{"the router", fromLAN(xtables.Path{Local: true}), exitNo,
			heading + mapping + "listener:  no program of the router listens there\nverdict:   arrives at 198.51.100.7:3478, the router itself\n"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			r.traces.find = tt.find
			if got := r.tool("trace", "192.168.50.10:5000", "udp", "198.51.100.7:3478"); got != (called{tt.status, tt.want, ""}) {
				t.Errorf("status %d:\n%swant %d:\n%s%s", got.status, got.stdout, tt.status, tt.want, got.stderr)
			}
		})
	}
	r.traces.find = fromLAN(xtables.Path{From: source("11.22.33.44", 0, 0, true)})
	if got := r.tool("trace", "192.168.50.10", "udp", "198.51.100.7:3478"); !strings.HasSuffix(got.stdout, "by lan0\nverdict:   leaves by wan0 for 198.51.100.7:3478 as 11.22.33.44\n") {
		t.Errorf("of any port: %+v", got)
	}
	got := r.tool("trace", "192.168.50.10:5000", "udp", "198.51.100.7:3478", "--probe")
	if got.status != exitUsage || !strings.Contains(got.stderr, "--probe is for connections from outside: 192.168.50.10 is on a LAN") {
		t.Errorf("with --probe: %+v", got)
	}
}

// TestTraceFromLANJSON demands the same as an object.
func TestTraceFromLANJSON(t *testing.T) {
	r := newRig(t)
	for _, tt := range []struct {
		path xtables.Path
		want string
	}{
		{xtables.Path{From: source("11.22.33.44", 40000, 40000, false)}, `"source":{"address":"11.22.33.44","first_port":40000,"last_port":40000,"kept":false}`},
		{xtables.Path{From: source("11.22.33.44", 0, 0, true)}, `"source":{"address":"11.22.33.44","kept":true}`},
		{xtables.Path{FromDoubt: "nat POSTROUTING -j X"}, `"source_depends_on":"nat POSTROUTING -j X"`},
	} {
		r.traces.find = fromLAN(tt.path)
		want := `[{"schema":1,"uplink":"wan0","lan":"lan0","protocol":"UDP","from":"192.168.50.10:5000","to":"198.51.100.7:3478",` +
			`"steps":[],"fate":"arrives","destination":"198.51.100.7:3478","router":false,` + tt.want + `}]`
		got := r.tool("--json", "trace", "192.168.50.10:5000", "udp", "198.51.100.7:3478")
		var compact bytes.Buffer
		if err := json.Compact(&compact, []byte(got.stdout)); err != nil || strings.TrimSpace(compact.String()) != want {
			t.Errorf("%v: %s\nwant %s", err, compact.String(), want)
		}
	}
}

// TestTraceChangedSource has rules that change the source of connections from outside, and
// a host of the LAN that reaches a mapping by the external address.
func TestTraceChangedSource(t *testing.T) {
	r := newRig(t)
	r.open(t, portmap.PCP, portmap.TCP, laptop, 40000, 5000, time.Hour, "")
	var from xtables.Source
	r.traces.find = func(c xtables.Connection) ([]Traced, error) {
		list := r.arrives(c)
		list[0].From, list[0].FromLAN, list[0].Out = from, c.Source.Addr() == addr("192.168.50.11"), "lan0"
		return list, nil
	}
	for _, tt := range []struct {
		args string
		from xtables.Source
		want string
	}{
		{"198.51.100.7 tcp 40000", source("198.51.100.7", 0, 0, true), "arrives at 192.168.50.10:5000"},
		{"198.51.100.7 tcp 40000", xtables.Source{}, "arrives at 192.168.50.10:5000"},
		{"198.51.100.7 tcp 40000", source("192.168.50.1", 0, 0, true), "arrives at 192.168.50.10:5000 as 192.168.50.1"},
		{"198.51.100.7:9 tcp 40000", source("192.168.50.1", 9, 9, true), "arrives at 192.168.50.10:5000 as 192.168.50.1:9, unless another connection has that port"},
		{"192.168.50.11:9 tcp 11.22.33.44:40000", source("192.168.50.1", 9, 9, true), "leaves by lan0 for 192.168.50.10:5000 as 192.168.50.1:9, unless another connection has that port"},
	} {
		from = tt.from
		got := r.tool(append([]string{"trace"}, strings.Fields(tt.args)...)...)
		if got.status != exitDone || !strings.HasSuffix(got.stdout, "\nverdict:   "+tt.want+"\n") || !strings.Contains(got.stdout, "mapping:   port 40000 to port 5000 of laptop") {
			t.Errorf("%s from %v: %+v, want %s", tt.args, tt.from, got, tt.want)
		}
	}
}

// TestTraceTwoUplinks demands one path for each uplink, and that all of them arrive.
func TestTraceTwoUplinks(t *testing.T) {
	r := newRig(t)
	r.open(t, portmap.PCP, portmap.TCP, laptop, 40000, 5000, time.Hour, "")
	fate := xtables.Arrives
	r.traces.find = func(c xtables.Connection) ([]Traced, error) {
		second := r.arrives(c)[0]
		second.In, second.Fate, second.By = "wan1", fate, "no route to 192.168.50.10"
		return append(r.arrives(c), second), nil
	}
	if got := r.tool("trace", "198.51.100.7", "tcp", "40000"); got.status != exitDone || strings.Count(got.stdout, " by wan1\n") != 1 {
		t.Errorf("trace = %+v", got)
	}
	fate = xtables.Stopped
	if got := r.tool("trace", "198.51.100.7", "tcp", "40000"); got.status != exitNo || !strings.Contains(got.stdout, "verdict:   stopped: no route to 192.168.50.10\n") {
		t.Errorf("trace = %+v", got)
	}
	r.traces.find = func(xtables.Connection) ([]Traced, error) { return nil, nil }
	if got := r.tool("trace", "198.51.100.7", "tcp", "40000"); got.status != exitFault || !strings.Contains(got.stderr, "no uplink is up and has an address") {
		t.Errorf("without uplinks = %+v", got)
	}
	r.traces.find = func(xtables.Connection) ([]Traced, error) { return nil, errors.New("iptables fails") }
	if got := r.tool("trace", "198.51.100.7", "tcp", "40000"); got.status != exitFault || !strings.Contains(got.stderr, "iptables fails") {
		t.Errorf("with a fault = %+v", got)
	}
}

// TestTraceJSON demands the same as an array of objects.
func TestTraceJSON(t *testing.T) {
	r := newRig(t)
	r.open(t, portmap.PCP, portmap.TCP, laptop, 40000, 5000, time.Hour, "game")
	r.traces.find = func(c xtables.Connection) ([]Traced, error) {
		list := r.arrives(c)
		list[0].Steps = []xtables.Step{rule("iptables-nft", "nat", "MINIUPNPD", 6, 1, "-j DNAT", true)}
		list[0].Fate, list[0].By, list[0].Doubt = xtables.Unknown, "policy", "rule"
		return list, nil
	}
	const want = `[{"schema":1,"uplink":"wan0","protocol":"TCP","from":"198.51.100.7:4000","to":"11.22.33.44:40000",` +
		`"steps":[{"program":"iptables-nft","table":"nat","chain":"MINIUPNPD","number":7,"depth":1,"rule":"-j DNAT","certain":true}],` +
		`"fate":"unknown","by":"policy","depends_on":"rule","destination":"192.168.50.10:5000","router":false,` +
		`"mapping":{"external_port":40000,"client":"192.168.50.10","client_port":5000,"host_name":"laptop","origins":["PCP"],"description":"game"}}]`
	got := r.tool("--json", "trace", "198.51.100.7:4000", "tcp", "40000")
	var compact strings.Builder
	var list []path
	if err := json.Unmarshal([]byte(got.stdout), &list); err != nil {
		t.Fatalf("%v: %+v", err, got)
	}
	if err := json.NewEncoder(&compact).Encode(list); err != nil || strings.TrimSpace(compact.String()) != want {
		t.Errorf("trace = %s\nwant %s", compact.String(), want)
	}
}

// TestTraceArguments demands what the daemon is asked, and errors for what it cannot be.
func TestTraceArguments(t *testing.T) {
	r := newRig(t)
	for _, tt := range []struct{ args, from, to, stderr string }{
		{"198.51.100.7 tcp 80", "198.51.100.7:0", ":80", ""},
		{"198.51.100.7:4000 TCP 80", "198.51.100.7:4000", ":80", ""},
		{"198.51.100.7 tcp 11.22.33.45:80", "198.51.100.7:0", "11.22.33.45:80", ""},
		{"2001:db8:ffff::7 tcp [2001:db8:50::20]:80", "[2001:db8:ffff::7]:0", "[2001:db8:50::20]:80", ""},
		{"[2001:db8:ffff::7] tcp [2001:db8:50::20]:80", "[2001:db8:ffff::7]:0", "[2001:db8:50::20]:80", ""},
		{"[2001:db8:ffff::7]:9 tcp [2001:db8:50::20]:80", "[2001:db8:ffff::7]:9", "[2001:db8:50::20]:80", ""},
		{"2001:db8:ffff::7 tcp 80", "", "", "IPv6 addresses are not translated: write the port as [ADDRESS]:PORT"},
		{"198.51.100.7 tcp [2001:db8:50::20]:80", "", "", "198.51.100.7 and 2001:db8:50::20 are not of the same family"},
		{"198.51.100.7 tcp 0", "", "", "a connection cannot go to port 0"},
		{"198.51.100.7 tcp http", "", "", `invalid port "http"`},
		{"198.51.100.7 icmp 80", "", "", `invalid protocol "icmp"`},
		{"laptop tcp 80", "", "", `invalid source "laptop"`},
		{"fe80::1%eth0 tcp [2001:db8:50::20]:80", "", "", `invalid source "fe80::1%eth0"`},
		{"198.51.100.7 tcp", "", "", "trace needs SOURCE PROTOCOL PORT"},
		{"127.0.0.1 tcp 80", "", "", "127.0.0.1 cannot be the source of a connection (martian source)"},
		{"0.0.0.0:80 tcp 80", "", "", "0.0.0.0 cannot be the source"},
		{"0.1.2.3 tcp 80", "", "", "0.1.2.3 cannot be the source"},
		{"224.0.0.1 tcp 80", "", "", "224.0.0.1 cannot be the source"},
		{"255.255.255.255 tcp 80", "", "", "255.255.255.255 cannot be the source"},
		{"::ffff:127.0.0.1 tcp 80", "", "", "127.0.0.1 cannot be the source"},
		{":: tcp [2001:db8:50::20]:80", "", "", ":: cannot be the source"},
		{"::1 tcp [2001:db8:50::20]:80", "", "", "::1 cannot be the source"},
		{"ff02::1 tcp [2001:db8:50::20]:80", "", "", "ff02::1 cannot be the source"},
	} {
		r.traces.asked = nil
		got := r.tool(append([]string{"trace"}, strings.Fields(tt.args)...)...)
		if tt.stderr != "" {
			if got.status != exitUsage || !strings.Contains(got.stderr, tt.stderr) || len(r.traces.asked) > 0 {
				t.Errorf("trace %s = %+v, want %q", tt.args, got, tt.stderr)
			}
			continue
		}
		var from, to netip.AddrPort
		from = netip.MustParseAddrPort(tt.from)
		if port, ok := strings.CutPrefix(tt.to, ":"); ok {
			to = netip.AddrPortFrom(netip.Addr{}, netip.MustParseAddrPort("0.0.0.0:"+port).Port())
		} else {
			to = netip.MustParseAddrPort(tt.to)
		}
		if c := (xtables.Connection{Source: from, Destination: to, Protocol: xtables.TCP}); len(r.traces.asked) != 1 || r.traces.asked[0] != c {
			t.Errorf("trace %s asks for %v, want %v: %+v", tt.args, r.traces.asked, c, got)
		}
	}
	if got := r.tool("list", "--probe"); got.status != exitUsage || !strings.Contains(got.stderr, "--probe is an option of trace") {
		t.Errorf("list --probe = %+v", got)
	}
}

// TestProbe has hosts that listen, that do not, that do not answer, and none at all.
func TestProbe(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{Clients: 2})
	r := newRig(t)
	r.status.LANs[0].Addresses = []netip.Prefix{netlab.RouterLAN}
	arrived := make(chan int, 1)
	lab.Clients[0].Echo(t, "tcp", ":4000")
	lab.Clients[0].Echo(t, "udp", ":4001")
	err := lab.Clients[0].Listen(func() error {
		c, err := net.ListenPacket("udp", ":4000")
		if err == nil {
			t.Cleanup(func() { c.Close() })
			go func() {
				n, _, _ := c.ReadFrom(make([]byte, 64))
				arrived <- n
			}()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	lab.Clients[1].Run(t, "/usr/sbin/iptables-nft", "-A", "INPUT", "-j", "DROP")
	for _, tt := range []struct {
		protocol, to, says string
		status             exitStatus
	}{
		{"tcp", "192.168.50.10:4000", "listener:  listens\n", exitDone},
		{"tcp", "192.168.50.10:4001", "listener:  refused: nothing listens there\n", exitNo},
		{"tcp", "192.168.50.11:4000", "listener:  no answer: the host is down, or its own firewall stops the router\n", exitNo},
		{"tcp", "192.168.50.99:4000", "listener:  no answer: the host is down, or its own firewall stops the router\n", exitNo},
		{"tcp", "11.22.33.1:4000", "listener:  not asked: it is not on a LAN that the daemon serves\n", exitDone},
		{"udp", "192.168.50.10:4000", "listener:  not known: a datagram to it was not answered\n", exitDone},
		{"udp", "192.168.50.10:4001", "listener:  listens\n", exitDone},
		{"udp", "192.168.50.10:4002", "listener:  refused: nothing listens there\n", exitNo},
		{"udp", "192.168.50.11:4000", "listener:  not known: a datagram to it was not answered\n", exitDone},
	} {
		r.traces.find = func(c xtables.Connection) ([]Traced, error) {
			c.In = "wan0"
			return []Traced{{Connection: c, Path: xtables.Path{To: netip.MustParseAddrPort(tt.to)}}}, nil
		}
		lab.Router.Do(func() error {
			if got := r.tool("trace", "198.51.100.7", tt.protocol, "40000", "--probe"); got.status != tt.status || !strings.Contains(got.stdout, tt.says) {
				t.Errorf("%s %s: %+v, want %q", tt.protocol, tt.to, got, tt.says)
			}
			if got := r.tool("trace", "198.51.100.7", tt.protocol, "40000"); got.status != exitDone || !strings.Contains(got.stdout, "listener:  not asked; --probe does\n") {
				t.Errorf("without --probe: %+v", got)
			}
			return nil
		})
	}
	if n := <-arrived; n != 0 {
		t.Errorf("a datagram of %d bytes arrived", n)
	}
}
