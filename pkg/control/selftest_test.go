package control

import (
	"encoding/json"
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
ok        a NAT-PMP client on lan0 gets a port: 192.168.50.254 got port 49351
ok        its rules are in the kernel
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
	if err := json.Unmarshal([]byte(text), &steps); err != nil || len(steps) != 6 || steps[5].Result != stepOK {
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
	if got := <-done; got.status != exitNo || !strings.Contains(got.stdout, "gets a port: interrupted") {
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
		{func() { r.status.LANs[0].Addresses = []netip.Prefix{netip.MustParsePrefix("192.168.50.2/24")} }, "192.168.50.77", "failed    a NAT-PMP client on lan0 gets a port: the daemon did not receive the request"},
		{func() { r.status.LANs[0].Up = false }, "", "failed    a NAT-PMP client on lan0 gets a port: the interface is down"},
		{func() {}, "10.0.0.1", "failed    a NAT-PMP client gets a port: 10.0.0.1 is not on a LAN"},
		{func() {
			r.server.opts.Traffic = func() (map[portmap.Key]Traffic, error) { return nil, nil }
		}, "", "failed    its rules are in the kernel"},
		{func() { r.tool("block", "60", "udp", "1-65535") }, "", "failed    a NAT-PMP client on lan0 gets a port: 192.168.50.254 would be refused: blocked by the operator"},
	} {
		c.spoil()
		args := strings.Fields(c.client)
		if got := selftest(args...); got.status != exitNo || !strings.Contains(got.stdout, c.says) {
			t.Errorf("selftest = %+v, want %q", got, c.says)
		}
		r.status, r.socket, r.server.opts.Traffic = healthy(), socket, r.traffic
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
