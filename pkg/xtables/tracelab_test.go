package xtables_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"igdd/pkg/netlab"
	"igdd/pkg/netlab/packetlab"
	"igdd/pkg/xtables"

	"golang.org/x/sys/unix"
)

// devices are those of the router on which rules are tried. Its default route is
// by wan0.
var devices = []packetlab.Device{
	{Name: "wan0", Addresses: prefixes("11.22.33.1/24", "11.22.33.9/24", "2001:db8:33::1/64", "2001:db8:33::9/64")},
	{Name: "ppp0", Addresses: prefixes("22.33.44.1/24", "2001:db8:44::1/64")},
	{Name: "lan0", Addresses: prefixes("192.168.77.1/24", "192.168.50.1/24", "2001:db8:77::1/64")},
	{Name: "dmz0", Addresses: prefixes("192.168.88.1/24", "10.42.0.1/16", "2001:db8:88::1/64")},
	{Name: "docker0", Addresses: prefixes("172.17.0.1/16")},
	{Name: "docker_gwbridge", Addresses: prefixes("172.18.0.1/16")},
}

func prefixes(texts ...string) (list []netip.Prefix) {
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

// route is the router's routing. Between two IPv6 addresses of the same network the kernel
// chooses for MASQUERADE by rules of its own.
func route(to netip.Addr) (xtables.Route, error) {
	way := xtables.Route{Out: devices[0].Name}
	if to.Is4() {
		way.Masquerade = devices[0].Addresses[0].Addr()
	}
	for _, d := range devices {
		for i, p := range d.Addresses {
			if p.Addr() == to {
				return xtables.Route{Local: true}, nil
			}
			if p.Contains(to) && (i == 0 || d.Addresses[i-1].Masked() != p.Masked()) {
				way = xtables.Route{Out: d.Name, Masquerade: p.Addr()}
			}
		}
	}
	return way, nil
}

// family is what differs between both.
type family struct {
	program   string // its name, "iptables"
	af        byte
	gateway   string   // of the default route
	folder    string   // of the rule sets, below testdata
	common    []string // packets that every rule set gets
	random    randomWords
	leastSets int // how many rule sets and packets there are at least
	leastRows int
}

// rulesLab is a router on which rules are tried.
type rulesLab struct {
	*packetlab.Lab
	family  *family
	tools   string
	hasSets bool
}

// newRulesLab makes a router with one variant of iptables.
func newRulesLab(t testing.TB, f *family, variant string) *rulesLab {
	t.Helper()
	l := &rulesLab{Lab: packetlab.New(t, devices...), family: f, tools: netlab.Tools(t, variant)}
	l.Router.IP(t, "route", "add", "default", "via", f.gateway)
	return l
}

// noRules are tables without rules.
const noRules = `*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
COMMIT
*mangle
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
COMMIT
`

// load replaces all rules and sets.
func (l *rulesLab) load(text string, sets ...packetlab.Set) (xtables.Snapshot, error) {
	err := l.Router.Do(func() error {
		if l.hasSets {
			if _, err := l.run("-restore", noRules); err != nil {
				return err
			}
			if err := packetlab.DestroySets(); err != nil {
				return err
			}
		}
		l.hasSets = len(sets) > 0
		for _, set := range sets {
			if err := set.Create(l.family.af); err != nil {
				return err
			}
		}
		_, err := l.run("-restore", noRules+text)
		return err
	})
	if err != nil {
		return nil, err
	}
	return l.snapshot()
}

// snapshot returns the rules as iptables-save prints them.
func (l *rulesLab) snapshot() (s xtables.Snapshot, err error) {
	err = l.Router.Do(func() error {
		saved, err := l.run("-save", "")
		if err == nil {
			s, err = xtables.ParseSnapshot(saved)
		}
		return err
	})
	return s, err
}

// run runs a program of the family on the thread's namespace.
func (l *rulesLab) run(part, input string, args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(l.tools, l.family.program+part), args...)
	var errors bytes.Buffer
	cmd.Env, cmd.Stdin, cmd.Stderr = l.Router.Env(), strings.NewReader(input), &errors
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s%s: %w: %s", l.family.program, part, err, errors.Bytes())
	}
	return string(out), err
}

// row is a packet with what the kernel and trace say of it.
type row struct {
	packet  packetlab.Packet
	arrival packetlab.Arrival
	path    xtables.Path
}

// rows sends the packets and traces them.
func (l *rulesLab) rows(s xtables.Snapshot, packets []packetlab.Packet) ([]row, error) {
	arrivals, err := l.Send(packets...)
	if err != nil {
		return nil, err
	}
	var list []row
	for i, p := range packets {
		c := xtables.Connection{In: p.In, Source: p.Source, Destination: p.Destination, Protocol: xtables.Protocol(p.Protocol), NoIPsec: true}
		list = append(list, row{p, arrivals[i], xtables.Trace(c, route, xtables.Variant{Tables: s})})
	}
	return list, nil
}

// perhaps reports whether trace does not know what becomes of the packet.
func (r row) perhaps() bool {
	return r.path.Fate == xtables.Unknown || r.path.Fate == xtables.Arrives && !r.path.Local && r.path.From == xtables.Source{}
}

// agrees reports whether what trace says is what happened. Trace may not know
// what ends a packet, but know where it goes if it arrives.
func (r row) agrees() bool {
	switch {
	case r.arrival == packetlab.Arrival{}:
		return r.path.Fate != xtables.Arrives
	case r.path.Fate == xtables.Stopped:
		return false
	case r.path.To == netip.AddrPort{}:
		return r.perhaps()
	case !r.path.To.Addr().IsValid():
		return r.path.Local && r.arrival.Local && r.path.To.Port() == r.arrival.To.Port()
	}
	way, _ := route(r.path.To.Addr())
	return r.path.To == r.arrival.To && r.path.Local == r.arrival.Local && way.Local == r.arrival.Local && (way.Local || way.Out == r.arrival.Out && r.agreesOnSource())
}

// agreesOnSource reports whether trace says what the source became, if it says that it
// knows. Here no other connection has its port.
func (r row) agreesOnSource() bool {
	from, port := r.path.From, r.arrival.From.Port()
	switch {
	case from == xtables.Source{}:
		return r.path.FromDoubt != ""
	case from.Addr != r.arrival.From.Addr():
		return false
	case from.Ports == xtables.PortRange{}:
		return !from.Kept
	}
	return from.Ports.First <= port && port <= from.Ports.Last
}

// String describes the row for a message.
func (r row) String() string {
	names := map[int]string{int(xtables.TCP): "tcp", int(xtables.UDP): "udp"}
	was := "it was dropped"
	if (r.arrival != packetlab.Arrival{}) {
		was = fmt.Sprintf("it came out at %q for %v from %v (local: %v)", r.arrival.Out, r.arrival.To, r.arrival.From, r.arrival.Local)
	}
	says := [...]string{xtables.Arrives: "arrives", xtables.Stopped: "is stopped", xtables.Unknown: "perhaps arrives"}
	return fmt.Sprintf("%s by %s from %v to %v: trace says it %s at %v from %v (local: %v) by %q, but %s", names[r.packet.Protocol], r.packet.In, r.packet.Source,
		r.packet.Destination, says[r.path.Fate], r.path.To, r.path.From, r.path.Local, r.path.By, was)
}

// smallest returns as few of the rules as still make the kernel and trace
// disagree about a packet, without comments.
func (l *rulesLab) smallest(text string, sets []packetlab.Set, p packetlab.Packet) string {
	lines := slices.DeleteFunc(strings.SplitAfter(text, "\n"), func(line string) bool { return strings.HasPrefix(line, "#") })
	for changed := true; changed; {
		changed = false
		for i := len(lines) - 1; i >= 0; i-- {
			if !strings.HasPrefix(lines[i], "-A") && !strings.HasPrefix(lines[i], ":") {
				continue
			}
			fewer := slices.Delete(slices.Clone(lines), i, i+1)
			if s, err := l.load(strings.Join(fewer, ""), sets...); err == nil {
				if rows, err := l.rows(s, []packetlab.Packet{p}); err == nil && !rows[0].agrees() {
					lines, changed = fewer, true
				}
			}
		}
	}
	return strings.Join(lines, "")
}

// report fails the test for each row on which the kernel and trace disagree, and
// returns how many there are on which trace is not sure.
func (l *rulesLab) report(t *testing.T, text string, sets []packetlab.Set, rows []row) (perhaps int) {
	t.Helper()
	failed := false
	for _, r := range rows {
		if r.perhaps() {
			perhaps++
		}
		if r.agrees() {
			continue
		}
		t.Error(r)
		if !failed {
			t.Logf("fewest rules:\n%s", l.smallest(text, sets, r.packet))
		}
		failed = true
	}
	return perhaps
}

// compare loads rules and fails the test for each packet on which the kernel and
// trace disagree. It returns how many there are on which trace is not sure.
func (l *rulesLab) compare(t *testing.T, text string, packets []packetlab.Packet, sets ...packetlab.Set) (perhaps int) {
	t.Helper()
	s, err := l.load(text, sets...)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	rows, err := l.rows(s, packets)
	if err != nil {
		t.Fatal(err)
	}
	return l.report(t, text, sets, rows)
}

// families are both.
var families = []*family{&ipv4, &ipv6}

var ipv4 = family{
	program: "iptables", af: unix.AF_INET, gateway: "11.22.33.254", folder: "trace", leastSets: 90, leastRows: 4000,
	common: []string{
		"wan0 tcp,udp 198.51.100.7 11.22.33.1 22,80,443,5000",
		"wan0 tcp,udp 203.0.113.5 11.22.33.1 80,500",
		"wan0 tcp,udp 198.51.100.7 192.168.77.10 80,5000",
		"ppp0 tcp 198.51.100.7 22.33.44.1,192.168.77.10 80,5000",
		"lan0 tcp,udp 192.168.77.20 203.0.113.9,192.168.77.1 80",
	},
	random: randomWords{
		sources:      []string{"198.51.100.7", "198.51.100.200", "203.0.113.5", "192.168.77.20"},
		destinations: []string{"11.22.33.1", "11.22.33.1", "11.22.33.1", "11.22.33.9", "22.33.44.1", "192.168.77.1", "192.168.77.10", "192.168.88.5", "203.0.113.9"},
		networks: []string{"198.51.100.0/24", "198.51.100.7/32", "203.0.113.0/24", "192.168.0.0/16", "192.168.77.10/32", "11.22.33.1/32", "11.22.33.0/24",
			"0.0.0.0/1", "192.168.77.8/29", "0.0.0.1/0.0.0.1", "11.0.0.9/255.0.0.255", "10.0.0.0/8"},
		ranges:     []string{"198.51.100.1-198.51.100.100", "11.22.33.1-11.22.33.8", "192.168.77.10-192.168.77.11", "192.168.77.11-203.0.113.5"},
		targets:    []string{"192.168.77.10", "192.168.77.10", "192.168.77.11", "192.168.88.5", "11.22.33.1", "11.22.33.9", "192.168.77.1", "203.0.113.77"},
		newSources: []string{"11.22.33.1", "11.22.33.9", "192.168.77.1", "203.0.113.7"},
		netmaps:    []string{"192.168.77.0/24", "192.168.88.5/32", "10.42.0.0/16"},
		rejections: []string{"icmp-port-unreachable", "icmp-host-prohibited", "icmp-admin-prohibited"},
		icmp:       "-m ttl --ttl-lt 5",
	},
}

var ipv6 = family{
	program: "ip6tables", af: unix.AF_INET6, gateway: "2001:db8:33::fe", folder: "trace6", leastSets: 20, leastRows: 400,
	common: []string{
		"wan0 tcp,udp 2001:db8:ffff::7 2001:db8:33::1 22,80,443,5000",
		"wan0 tcp,udp 2001:db8:ffff::7,2001:db8:eeee::5 2001:db8:77::10 80,5000",
		"ppp0 tcp 2001:db8:ffff::7 2001:db8:44::1,2001:db8:77::10 80",
		"lan0 tcp,udp 2001:db8:77::20 2001:db8:eeee::9,2001:db8:77::1 80",
	},
	random: randomWords{
		sources:      []string{"2001:db8:ffff::7", "2001:db8:ffff::200", "2001:db8:eeee::5", "2001:db8:77::20"},
		destinations: []string{"2001:db8:33::1", "2001:db8:33::1", "2001:db8:33::9", "2001:db8:44::1", "2001:db8:77::1", "2001:db8:77::10", "2001:db8:77::10", "2001:db8:88::5", "2001:db8:eeee::9"},
		networks: []string{"2001:db8:ffff::/48", "2001:db8:ffff::7/128", "2001:db8:eeee::/64", "2001:db8::/32", "2001:db8:77::10/128", "2001:db8:33::1/128", "2001:db8:33::/64",
			"::/1", "2001:db8:77::8/125", "::10/::ffff", "::7/::ffff:ffff:ffff:ffff", "fe80::/10"},
		ranges:     []string{"2001:db8:ffff::1-2001:db8:ffff::100", "2001:db8:33::1-2001:db8:33::8", "2001:db8:77::10-2001:db8:77::11", "2001:db8:77::11-2001:db8:eeee::5"},
		targets:    []string{"2001:db8:77::10", "2001:db8:77::11", "2001:db8:88::5", "2001:db8:33::1", "2001:db8:33::9", "2001:db8:77::1", "2001:db8:eeee::77"},
		newSources: []string{"2001:db8:33::1", "2001:db8:33::9", "2001:db8:77::1", "2001:db8:eeee::7"},
		netmaps:    []string{"2001:db8:77::/64", "2001:db8:88::5/128", "2001:db8:88::/64"},
		rejections: []string{"icmp6-port-unreachable", "icmp6-adm-prohibited", "icmp6-addr-unreachable"},
		icmp:       "-m hl --hl-lt 5",
	},
}
