package control

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"igdd/pkg/hosts"
	"igdd/pkg/netlab"
	"igdd/pkg/portmap"
)

// TestErrorsOfArguments compares the reason, and that nothing but a hint follows.
func TestErrorsOfArguments(t *testing.T) {
	r := newRig(t)
	for line, want := range map[string]string{
		"dance":                             `unknown command "dance"`,
		"list --yaml":                       `unknown option -yaml`,
		"list -s":                           `option -s: missing value`,
		"list --json=perhaps":               `invalid boolean value "perhaps" for -json: parse error`,
		"list --probe":                      `--probe is an option of trace`,
		"status now":                        `unexpected argument "now"`,
		"delete":                            `delete needs a host or external ports`,
		"delete tcp":                        `delete needs a host or external ports`,
		"delete 9-8":                        `port range "9-8": first port is above last port`,
		"delete 0":                          `invalid port "0"`,
		"delete 0-9":                        `invalid port "0"`,
		"delete 70000":                      `invalid port "70000"`,
		"delete 1-70000":                    `invalid port "70000"`,
		"delete 80-":                        `invalid port ""`,
		"delete 80 81":                      `"81": name one host, one protocol and one port or range`,
		"delete tcp udp 80":                 `"udp": name one host, one protocol and one port or range`,
		"delete 192.168.50.1 192.168.50.2":  `"192.168.50.2": name one host, one protocol and one port or range`,
		"block":                             `missing time`,
		"block soon 80":                     `invalid time "soon": write seconds, or 10m, 2h, 7d`,
		"block 60":                          `block needs a host or external ports`,
		"unblock":                           `unblock needs the number of a block, or the words that it was set with`,
		"delete sctp 80":                    `"sctp": name one host, one protocol and one port or range`,
		"explain":                           `explain needs CLIENT PROTOCOL EXTERNAL INTERNAL, and perhaps as natpmp, as pcp or as upnp`,
		"explain 1-2 tcp 1 1":               `invalid host "1-2"`,
		"explain laptop tcp 1 1 as igd":     `invalid protocol "igd": natpmp, pcp or upnp`,
		"explain 192.168.50.10 icmp 1 1":    `invalid protocol "icmp": tcp or udp`,
		"explain 192.168.50.10 tcp 65536 1": `invalid port "65536"`,
		"explain 192.168.50.10 tcp 1 x":     `invalid port "x"`,
		"explain 192.168.50.10 tcp 1 0":     `the client's port cannot be 0`,
		"trace 198.51.100.7 tcp":            `trace needs SOURCE PROTOCOL PORT`,
		"trace somewhere tcp 80":            `invalid source "somewhere": write ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT`,
		"history x":                         `invalid number of events "x"`,
		"selftest ::1":                      `invalid IPv4 address "::1"`,
	} {
		got := r.tool(strings.Fields(line)...)
		first, rest, _ := strings.Cut(got.stderr, "\n")
		if got.status != exitUsage || first != "miniupnpctl: invalid arguments: "+want || rest != "Run miniupnpctl -h for the commands.\n" {
			t.Errorf("%q: %d, %s\nwant %s", line, got.status, first, want)
		}
	}
}

func TestToolNeedsRoot(t *testing.T) {
	netlab.NeedRoot(t, "setresuid")
	r := newRig(t)
	if err := openFolders(filepath.Dir(r.socket)); err != nil {
		t.Fatal(err)
	}
	var got called
	if err := asUnprivileged(func() error { got = r.tool("list"); return nil }); err != nil {
		t.Fatal(err)
	}
	if want := (called{exitFault, "", "miniupnpctl: cannot connect to the daemon at " + r.socket + ": must be run as root\n"}); got != want {
		t.Errorf("got %+v", got)
	}
}

func TestSocketThatIsNone(t *testing.T) {
	r := &rig{socket: filepath.Join(t.TempDir(), strings.Repeat("long", 64))}
	if got := r.tool("list"); got.status != exitFault || !strings.HasPrefix(got.stderr, "miniupnpctl: dial unix") {
		t.Errorf("got %+v", got)
	}
	r.socket = filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(r.socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := r.tool("list"); got.status != exitFault || !strings.Contains(got.stderr, "is it running?") {
		t.Errorf("got %+v", got)
	}
}

// TestListWithoutCountersAndHosts lists although neither can be read, and logs why.
func TestListWithoutCountersAndHosts(t *testing.T) {
	r := seedMappings(t)
	options := r.server.opts
	options.Socket = filepath.Join(t.TempDir(), "ctl")
	options.Traffic = func() (map[portmap.Key]Traffic, error) { return nil, errors.New("no iptables-save") }
	options.Hosts = func() (map[netip.Addr]hosts.Host, error) { return nil, errors.New("no netlink") }
	run(t, New(options).Run)
	r.socket = options.Socket
	await(t, "the socket", func() bool { return r.tool("status").status == exitDone })
	if got := r.tool("list"); got.status != exitDone || strings.Count(got.stdout, "\n") != 4 {
		t.Errorf("got %+v", got)
	}
	for _, says := range []string{`msg="cannot read the counters of the rules" err="no iptables-save"`, `msg="cannot read which hosts are on the LAN" err="no netlink"`} {
		if !strings.Contains(r.log.String(), says) {
			t.Errorf("the log lacks %s: %s", says, r.log)
		}
	}
}

func TestErrorsOfTheTable(t *testing.T) {
	r := newRig(t)
	options := r.server.opts
	options.Socket = filepath.Join(t.TempDir(), "ctl")
	options.Explain = func(context.Context, Question) (Explanation, error) {
		return Explanation{}, errors.New("the table has ended")
	}
	run(t, New(options).Run)
	r.socket = options.Socket
	await(t, "the socket", func() bool { return r.tool("status").status == exitDone })
	if got := r.tool("explain", "192.168.50.10", "tcp", "80", "80"); got != (called{exitFault, "", "miniupnpctl: the table has ended\n"}) {
		t.Errorf("got %+v", got)
	}
}

func TestNetworkWithoutUnusedAddress(t *testing.T) {
	r := newRig(t)
	_, err := (&tool{socket: r.socket}).unusedAddr(netip.MustParsePrefix("192.168.50.1/31"), 1)
	if err == nil || err.Error() != "no unused address in 192.168.50.0/31 to test with" {
		t.Errorf("got %v", err)
	}
}

// TestTestClientWithoutDaemon looks for an address of which no daemon knows.
func TestTestClientWithoutDaemon(t *testing.T) {
	missing := &tool{socket: filepath.Join(t.TempDir(), "ctl")}
	if _, err := missing.newTestClient("no interface", netip.Prefix{}, netip.Addr{}); err == nil {
		t.Error("a client on an interface that is not there")
	}
	if _, err := missing.unusedAddr(netip.MustParsePrefix("192.168.50.1/24"), 1); !errors.Is(err, errNoDaemon) {
		t.Errorf("got %v", err)
	}
}

// TestDaemonThatHangsUp answers nothing.
func TestDaemonThatHangsUp(t *testing.T) {
	near, far := net.Pipe()
	far.Close()
	err := exchange(near, request{Do: doList}, func(reply) error { return nil })
	if err == nil || !strings.HasPrefix(err.Error(), "cannot send the request to the daemon: ") {
		t.Errorf("got %v", err)
	}
}
