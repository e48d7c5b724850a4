package control

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/lan"
	"igdd/pkg/netlab"
	"igdd/pkg/pcpd"
	"igdd/pkg/portmap"
	"igdd/pkg/xtables"
)

// lanInterface is the first LAN of a lab as servers see it.
type lanInterface struct{ index int }

func (l lanInterface) Name() string             { return "lan0" }
func (l lanInterface) Index() int               { return l.index }
func (l lanInterface) Prefixes() []netip.Prefix { return []netip.Prefix{netlab.RouterLAN} }

// newLANRig makes a lab whose router serves NAT-PMP, and returns a way to
// call the tool there.
func newLANRig(t *testing.T) (*rig, *netlab.Lab, func(args ...string) called) {
	t.Helper()
	lab := netlab.NewLab(t, netlab.Layout{})
	r := newRig(t)
	var l *pcpd.Listener
	err := lab.Router.Do(func() error {
		device, err := net.InterfaceByName("lan0")
		if err != nil {
			return err
		}
		l, err = pcpd.New(pcpd.Options{NATPMP: true, Hosts: lan.NewHosts(nil, r.server.opts.Log), Table: r.table, Log: r.server.opts.Log}).Listen(lanInterface{device.Index})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, l.Serve)
	return r, lab, func(args ...string) (got called) {
		lab.Router.Do(func() error { got = r.tool(append([]string{"selftest"}, args...)...); return nil })
		return got
	}
}

func TestSelftestOfAHealthyRouter(t *testing.T) {
	r, _, selftest := newLANRig(t)
	const want = `ok        the daemon answers
ok        the uplink has an address
ok        the firewall's chains, jumps and rules are in place
ok        a NAT-PMP client on lan0 gets a TCP port: 192.168.50.254 got port 49351
ok        its rules are in the kernel
ok        a connection from the Internet arrives
ok        the mapping can be deleted
ok        a NAT-PMP client on lan0 gets a UDP port: 192.168.50.254 got port 49351
ok        its rules are in the kernel
ok        a connection from the Internet arrives
ok        the mapping can be deleted
`
	if got := selftest(); got != (called{exitDone, want, ""}) {
		t.Errorf("selftest = %+v\nlog: %s", got, r.log)
	}
	if got := selftest("192.168.50.77"); got.status != exitDone || !strings.Contains(got.stdout, "192.168.50.77 got port") {
		t.Errorf("selftest of a client = %+v", got)
	}
	var steps []step
	text := selftest("--json").stdout
	if err := json.Unmarshal([]byte(text), &steps); err != nil || len(steps) != 11 || steps[10].Result != stepOK {
		t.Errorf("as JSON: %v: %s", err, text)
	}
	r.status.Protocols = []string{"UPnP"}
	if got := selftest(); got.status != exitDone || !strings.Contains(got.stdout, "skipped   a NAT-PMP client gets a port: NAT-PMP is disabled") {
		t.Errorf("without NAT-PMP = %+v", got)
	}
	if n := len(r.table.List()); n != 0 {
		t.Errorf("%d mappings are left behind", n)
	}
}

// TestSelftestTakesNobodysAddress has a host at the last address of the network that
// the router has never heard of. A host that is named is not entered as a neighbour.
func TestSelftestTakesNobodysAddress(t *testing.T) {
	_, lab, selftest := newLANRig(t)
	lab.Clients[0].Address(t, "eth0", netip.MustParsePrefix("192.168.50.254/24"))
	if got := selftest(); got.status != exitDone || !strings.Contains(got.stdout, "192.168.50.253 got port") {
		t.Errorf("selftest = %+v", got)
	}
	if got := selftest("192.168.50.10"); got.status != exitDone || !strings.Contains(got.stdout, "192.168.50.10 got port") {
		t.Errorf("selftest of a client = %+v", got)
	}
	if left := lab.Router.Run(t, "ip", "neigh", "show"); strings.Contains(left, "192.168.50.253") || strings.Contains(left, testHardware.String()) {
		t.Errorf("neighbours of the test are left: %s", left)
	}
}

// TestInterruptedSelftest ends the test while it waits for a daemon that does not
// answer.
func TestInterruptedSelftest(t *testing.T) {
	r, lab, selftest := newLANRig(t)
	r.status.LANs[0].Addresses = []netip.Prefix{netip.MustParsePrefix("192.168.50.2/24")}
	done := make(chan called, 1)
	go func() { done <- selftest() }()
	neighbours := func() string { return lab.Router.Run(t, "ip", "neigh", "show") }
	for end := time.Now().Add(15 * time.Second); !strings.Contains(neighbours(), testHardware.String()); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the test has entered no neighbour after 15 seconds")
		}
	}
	syscall.Kill(os.Getpid(), syscall.SIGINT)
	if got := <-done; got.status != exitNo || !strings.HasSuffix(got.stdout, "gets a TCP port: interrupted\n") {
		t.Errorf("selftest = %+v", got)
	}
	if left := neighbours(); strings.Contains(left, testHardware.String()) {
		t.Errorf("neighbours of the test are left: %s", left)
	}
}

func TestSelftestSaysWhichStepFails(t *testing.T) {
	r, _, selftest := newLANRig(t)
	socket := r.socket
	for _, c := range []struct {
		spoil  func()
		client string
		says   string
	}{
		{func() { r.socket += "x" }, "", "failed    the daemon answers: cannot connect to the daemon"},
		{func() { r.status.External = netip.Addr{} }, "", "failed    the uplink has an address"},
		{func() { r.status.Firewall = Firewall{Trouble: "stopped"} }, "", "failed    the firewall's chains, jumps and rules are in place: unhealthy: stopped"},
		{func() { r.status.LANs[0].Addresses = []netip.Prefix{netip.MustParsePrefix("192.168.50.2/24")} }, "192.168.50.77", "failed    a NAT-PMP client on lan0 gets a TCP port: the daemon did not receive the request"},
		{func() {
			r.status.LANs[0].Addresses = []netip.Prefix{netip.MustParsePrefix("192.168.50.2/24")}
			r.status.Firewall.Trouble = "IPv4: it is locked"
		}, "192.168.50.77", "failed    a NAT-PMP client on lan0 gets a TCP port: no answer, perhaps because of the firewall: IPv4: it is locked\n"},
		{func() { r.status.LANs[0].Up = false }, "", "failed    a NAT-PMP client on lan0 gets a port: the interface is down"},
		{func() {}, "10.0.0.1", "failed    a NAT-PMP client gets a port: 10.0.0.1 is not on a LAN"},
		{func() {
			r.server.opts.Traffic = func() (map[portmap.Key]Traffic, error) { return nil, nil }
		}, "", "failed    its rules are in the kernel"},
		{func() { r.tool("block", "60", "udp", "1-65535") }, "", "failed    a NAT-PMP client on lan0 gets a UDP port: 192.168.50.254 would be refused: blocked by the operator"},
		{func() { r.traces.find = r.ends(xtables.Path{Fate: xtables.Stopped, By: "filter FORWARD -j DROP"}) }, "192.168.50.77",
			"failed    a connection from the Internet arrives: stopped: filter FORWARD -j DROP\n"},
		{func() { r.traces.find = r.ends(xtables.Path{To: netip.MustParseAddrPort("192.168.50.9:80")}) }, "192.168.50.77",
			"failed    a connection from the Internet arrives: it arrives at 192.168.50.9:80 instead\n"},
		{func() {
			r.traces.find = func(xtables.Connection) ([]Traced, error) { return nil, errors.New("iptables fails") }
		}, "192.168.50.77", "failed    a connection from the Internet arrives: iptables fails\n"},
	} {
		c.spoil()
		args := strings.Fields(c.client)
		if got := selftest(args...); got.status != exitNo || !strings.Contains(got.stdout, c.says) {
			t.Errorf("selftest = %+v, want %q", got, c.says)
		}
		r.status, r.socket, r.server.opts.Traffic, r.traces.find = healthy(), socket, r.traffic, nil
	}
}

// ends has the connections of a uplink end so.
func (r *rig) ends(p xtables.Path) func(xtables.Connection) ([]Traced, error) {
	return func(c xtables.Connection) ([]Traced, error) {
		c.In = "wan0"
		return []Traced{{Connection: c, Path: p}}, nil
	}
}

// TestSelftestNotes has a firewall rule that may stop connections, and one that takes
// each TCP port: the first is a note, the second is named although UDP works.
func TestSelftestNotes(t *testing.T) {
	r, _, selftest := newLANRig(t)
	r.traces.find = func(c xtables.Connection) ([]Traced, error) {
		list := r.arrives(c)
		list[0].Fate, list[0].By, list[0].Doubt = xtables.Unknown, "filter FORWARD -m a -j DROP", "filter FORWARD -m a -j DROP"
		return list, nil
	}
	const note = "ok        a connection from the Internet arrives: perhaps arrives at 192.168.50.77:49351; that depends on a rule which cannot be judged: filter FORWARD -m a -j DROP\n"
	if got := selftest("192.168.50.77"); got.status != exitDone || strings.Count(got.stdout, note) != 2 {
		t.Errorf("selftest = %+v, want twice %q", got, note)
	}
	for _, c := range r.traces.asked {
		if a := c.Source.Addr(); a.IsPrivate() || c.Destination.Addr().IsValid() || c.Destination.Port() != 49351 {
			t.Errorf("it traces %+v", c)
		}
	}
	r.takeTCP(t)
	got := selftest("192.168.50.77")
	const refused = "failed    a NAT-PMP client on lan0 gets a TCP port: 192.168.50.77 would be refused: no port left (ports): PREROUTING -p tcp -j DNAT takes connections first\n"
	if got.status != exitNo || !strings.Contains(got.stdout, refused) || !strings.Contains(got.stdout, "ok        a NAT-PMP client on lan0 gets a UDP port") {
		t.Errorf("selftest = %+v, want %q", got, refused)
	}
}

// takeTCP has the firewall forward each TCP port.
func (r *rig) takeTCP(t *testing.T) {
	state := r.state
	state.Forwards = []portmap.Forward{{Protocol: portmap.TCP, External: portmap.PortRange{First: 0, Last: 65535}, Target: netip.AddrPortFrom(phone, 0)}}
	if err := r.table.SetNetworkState(t.Context(), state); err != nil {
		t.Fatal(err)
	}
	r.server.opts.PortRules = func(p portmap.Protocol, _ uint16) []string {
		if p == portmap.TCP {
			return []string{"PREROUTING -p tcp -j DNAT"}
		}
		return nil
	}
}

func TestLastHost(t *testing.T) {
	for network, want := range map[string]string{
		"192.168.50.1/24": "192.168.50.254", "10.0.0.1/8": "10.255.255.254", "192.168.1.1/30": "192.168.1.2", "172.16.5.9/20": "172.16.15.254",
	} {
		if got := lastHost(netip.MustParsePrefix(network)); got != addr(want) {
			t.Errorf("%s: %v, want %s", network, got, want)
		}
	}
}

// TestInterruptedSelftestFails interrupts a test that no step of has failed.
func TestInterruptedSelftestFails(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	well := []step{newStep("the daemon answers", nil)}
	if got := untilInterrupted(ctx, well); len(got) != 1 {
		t.Errorf("not interrupted: %+v", got)
	}
	cancel()
	if got := untilInterrupted(ctx, well); len(got) != 2 || !got[1].hasFailed() || got[1].Detail != "interrupted" {
		t.Errorf("interrupted: %+v", got)
	}
	failed := append(well, newStep("another", errors.New("interrupted")))
	if got := untilInterrupted(ctx, failed); len(got) != 2 {
		t.Errorf("interrupted in a step: %+v", got)
	}
}
