package control

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"igdd/pkg/event"
	"igdd/pkg/portmap"
)

// seedMappings opens one mapping of each kind.
func seedMappings(t *testing.T) *rig {
	r := newRig(t)
	r.open(t, portmap.NATPMP, portmap.UDP, laptop, 40000, 4000, 90*time.Minute, "")
	r.open(t, portmap.UPnP, portmap.TCP, phone, 8080, 8080, 0, "Bob's <game>\x1b[2J")
	r.open(t, portmap.PCP, portmap.TCP, server, 4430, 4430, time.Minute, "web")
	return r
}

func TestListPrintsATable(t *testing.T) {
	r := newRig(t)
	const header = "PROTO  EXTERNAL  CLIENT  PORT  HOST  MAC  BY  LEFT  PACKETS  BYTES  DESCRIPTION\n"
	if got := r.tool("list"); got != (called{exitDone, header, ""}) {
		t.Errorf("empty list = %+v", got)
	}
	began := time.Now()
	r = seedMappings(t)
	want := `
PROTO  EXTERNAL  CLIENT           PORT  HOST         MAC                BY       LEFT      PACKETS  BYTES  DESCRIPTION
UDP    40000     192.168.50.10    4000  laptop       02:00:00:00:00:01  NAT-PMP  1h30m0s   1        100    NAT-PMP 40000 UDP
TCP    8080      192.168.50.11    8080  phone(gone)  -                  UPnP     forever   1        100    Bob's <game>?[2J
TCP    4430      2001:db8:50::20  4430  -            -                  PCP      1m0s      1        100    web
`
	if got := r.tool("list"); got.status != exitDone || asAtFirst(collapseBlanks(got.stdout), began, 90*time.Minute, time.Minute) != collapseBlanks(want) {
		t.Errorf("list = %+v\nwant %s", got, want)
	}
	for line := range strings.Lines(r.tool("list").stdout) {
		if n := strings.Index(line, "  "); n < 0 || line[7] == ' ' || line[6] != ' ' {
			t.Errorf("columns do not stand below each other: %q", line)
		}
	}
}

// asAtFirst has durations in a text say what they were when the test began: what
// is left of a lease gets less on a busy machine, and what has run gets more.
func asAtFirst(text string, began time.Time, first ...time.Duration) string {
	for passed := time.Second; passed <= time.Since(began); passed += time.Second {
		for _, d := range first {
			text = strings.NewReplacer(" "+(d-passed).String(), " "+d.String(), " "+(d+passed).String(), " "+d.String()).Replace(text)
		}
	}
	return text
}

// collapseBlanks makes every run of blanks one, so that a second more or less in a
// column does not matter to the others.
func collapseBlanks(s string) string {
	var lines []string
	for line := range strings.Lines(strings.TrimSpace(s)) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return strings.Join(lines, "\n")
}

func TestListAsJSON(t *testing.T) {
	r := newRig(t)
	if got := r.tool("list", "--json"); got != (called{exitDone, "[]\n", ""}) {
		t.Errorf("empty list = %+v", got)
	}
	began := time.Now()
	r = seedMappings(t)
	left, minute, one, hundred := int64(5400), int64(60), uint64(1), uint64(100)
	want := []Entry{
		{Schema: 1, Protocol: "UDP", ExternalPort: 40000, Client: laptop, ClientPort: 4000, MAC: "02:00:00:00:00:01", HostName: "laptop", Origins: []string{"NAT-PMP"}, Description: "NAT-PMP 40000 UDP", Enabled: true, Remaining: &left, Packets: &one, Bytes: &hundred},
		{Schema: 1, Protocol: "TCP", ExternalPort: 8080, Client: phone, ClientPort: 8080, HostName: "phone", Gone: true, Origins: []string{"UPnP"}, Description: "Bob's <game>\x1b[2J", Enabled: true, Packets: &one, Bytes: &hundred},
		{Schema: 1, Protocol: "TCP", ExternalPort: 4430, Pinhole: true, Client: server, ClientPort: 4430, Origins: []string{"PCP"}, Description: "web", Enabled: true, Remaining: &minute, Packets: &one, Bytes: &hundred},
	}
	var got []Entry
	text := r.tool("--json", "list").stdout
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	for i, e := range got { // a busy machine may have let some seconds pass
		if w := want[i].Remaining; w != nil && e.Remaining != nil && *w-*e.Remaining <= int64(time.Since(began)/time.Second) {
			*w = min(*w, *e.Remaining)
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("list = %s", text)
	}
	if n := strings.Count(text, "\n"); n != 3 {
		t.Errorf("%d lines for 3 mappings: %s", n, text)
	}
	for _, name := range []string{`"protocol":"UDP"`, `"external_port":40000`, `"client":"192.168.50.10"`, fmt.Sprintf(`"remaining_seconds":%d`, *want[0].Remaining), `"remaining_seconds":null`, `"packets":1`} {
		if !strings.Contains(text, name) {
			t.Errorf("%s is missing in %s", name, text)
		}
	}
}

// TestListSaysWhyAMappingIsDormant takes the LAN away.
func TestListSaysWhyAMappingIsDormant(t *testing.T) {
	r := newRig(t)
	r.open(t, portmap.NATPMP, portmap.UDP, laptop, 40000, 4000, time.Hour, "")
	if err := r.table.SetNetworkState(t.Context(), portmap.NetworkState{External: addr("11.22.33.44")}); err != nil {
		t.Fatal(err)
	}
	if got := r.tool("list").stdout; !strings.Contains(got, "NAT-PMP(dormant)") || !strings.Contains(got, "NAT-PMP 40000 UDP [no LAN has the target's network]\n") {
		t.Errorf("list = %s", got)
	}
	if got := r.tool("list", "--json").stdout; !strings.Contains(got, `"dormant":true,"dormant_reason":"no LAN has the target's network"`) {
		t.Errorf("list --json = %s", got)
	}
}

func TestStatus(t *testing.T) {
	r := seedMappings(t)
	began := time.Now()
	r.status.Started = began.Add(-time.Hour)
	want := `version: 1.2
running: 1h0m0s
protocols: NAT-PMP, PCP
external address: 11.22.33.44
uplink wan0: up 11.22.33.44/24
lan lan0: up 192.168.50.1/24 serving NAT-PMP/PCP
firewall: healthy: chains, jumps and rules in place
mappings: 3 of 3 clients`
	if got := r.tool("status"); got.status != exitDone || asAtFirst(collapseBlanks(got.stdout), began, time.Hour) != want {
		t.Errorf("status = %+v", got)
	}
	var s Status
	if err := json.Unmarshal([]byte(r.tool("status", "-json").stdout), &s); err != nil || s.Mappings != 3 || s.External != addr("11.22.33.44") || !s.Firewall.Healthy {
		t.Errorf("status = %+v, %v", s, err)
	}
	for says, spoil := range map[string]func(*Status){
		"external address: none":                                  func(s *Status) { s.External = netip.Addr{} },
		"firewall: unhealthy: chains, jumps or rules are missing": func(s *Status) { s.Firewall.Healthy = false },
		"firewall: unhealthy: it is stopped":                      func(s *Status) { s.Firewall = Firewall{Trouble: "it is stopped"} },
		"helper: unhealthy: it has ended":                         func(s *Status) { s.Helper = "it has ended" },
		"leases: not saved: the disk is full":                     func(s *Status) { s.Leases = "the disk is full" },
	} {
		kept := r.status
		spoil(&r.status)
		if got := r.tool("status"); got.status != exitNo || !strings.Contains(collapseBlanks(got.stdout), says) {
			t.Errorf("%s: %+v", says, got)
		}
		r.status = kept
	}
	r.status.Note = "private"
	r.status.LANs = []Link{{Name: "lan1"}}
	r.status.Firewall.Repairs, r.status.Firewall.Repaired = 2, time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	for _, says := range []string{"note: private", "lan lan1: down", "repairs: 2 last 2026-11-25 12:00:00"} {
		if got := r.tool("status"); got.status != exitDone || !strings.Contains(collapseBlanks(got.stdout), says) {
			t.Errorf("%s: %+v", says, got)
		}
	}
}

func TestPlurals(t *testing.T) {
	for n, want := range map[int]string{0: "0 clients", 1: "1 client", 2: "2 clients"} {
		if got := plural(n, "client"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	r := newRig(t)
	r.openMany(t, 3)
	if got := collapseBlanks(r.tool("status").stdout); !strings.HasSuffix(got, "\nmappings: 3 of 1 client") {
		t.Errorf("status = %s", got)
	}
	if got := r.tool("delete", "40001-40002"); got.stdout != "2 mappings closed\n" {
		t.Errorf("delete = %+v", got)
	}
}

func TestDelete(t *testing.T) {
	for _, c := range []struct {
		which  string
		status exitStatus
		says   string
		left   int
	}{
		{"192.168.50.10", exitDone, "1 mapping closed\n", 2},
		{"tcp 1-65535", exitDone, "2 mappings closed\n", 1},
		{"8080", exitDone, "1 mapping closed\n", 2},
		{"192.168.50.11 TCP 8080", exitDone, "1 mapping closed\n", 2},
		{"8080-8080 192.168.50.11", exitDone, "1 mapping closed\n", 2},
		{"2001:db8:50::20 4430", exitDone, "1 mapping closed\n", 2},
		{"udp 8080", exitNothing, "0 mappings closed\n", 3},
		{"192.168.50.10 8080", exitNothing, "0 mappings closed\n", 3},
	} {
		r := seedMappings(t)
		got := r.tool(append([]string{"delete"}, strings.Fields(c.which)...)...)
		if got != (called{c.status, c.says, ""}) || len(r.table.List()) != c.left {
			t.Errorf("delete %s = %+v, %d mappings left", c.which, got, len(r.table.List()))
		}
		if len(r.firewall.Open()) != c.left {
			t.Errorf("delete %s: %d open in the firewall", c.which, len(r.firewall.Open()))
		}
	}
}

func TestDeleteRefusesNothing(t *testing.T) {
	r := seedMappings(t)
	if got := r.tool("delete", "--json", "8080"); got.status != exitDone || collapseBlanks(got.stdout) != "{\n\"schema\": 1,\n\"closed\": 1\n}" {
		t.Errorf("delete = %+v", got)
	}
	r.open(t, portmap.UPnP, portmap.TCP, phone, 8080, 8080, 0, "again")
}

func TestBlock(t *testing.T) {
	r := seedMappings(t)
	if got := r.tool("block", "1h", "192.168.50.11"); got.status != exitDone || got.stderr != "" || !strings.HasPrefix(got.stdout, "1 mapping closed\nblock 1 is in force until ") {
		t.Errorf("block = %+v", got)
	}
	ask := portmap.Request{Origin: portmap.NATPMP, Client: phone, Protocol: portmap.TCP, Internal: netip.AddrPortFrom(phone, 9000), Lifetime: time.Hour}
	if a, err := r.table.Do(t.Context(), ask); err != nil || a.Refusal != portmap.Blocked {
		t.Errorf("under a block: %v, %v", a.Refusal, err)
	}
	if got := r.tool("explain", "192.168.50.11", "tcp", "9000", "9000"); got.status != exitNo || !strings.Contains(collapseBlanks(got.stdout), "reason: blocked by the operator\nblock: 1, until "+timeText(r.table.Blocks()[0].Until.Round(time.Second))+" (") {
		t.Errorf("explain = %+v", got)
	}
	if got := r.tool("veto", "60", "udp", "7000-8000"); got.status != exitDone || got.stderr != "" || !strings.HasPrefix(got.stdout, "0 mappings closed\nblock 2 is in force until ") {
		t.Errorf("block by its other name, of what is not there = %+v", got)
	}
}

func TestExplain(t *testing.T) {
	r := seedMappings(t)
	if got := r.tool("block", "forever", "tcp", "7000"); got.status != exitDone {
		t.Fatal(got)
	}
	const allowed = "\nreason: granted\nrule: allow the LAN"
	for _, c := range []struct {
		ask    string
		status exitStatus
		want   string
	}{
		{"192.168.50.10 tcp 5555 5555 as natpmp", exitDone, "NAT-PMP: granted, external port 5555" + allowed},
		{"192.168.50.10 tcp 5555 5555 as NAT-PMP", exitDone, "NAT-PMP: granted, external port 5555" + allowed},
		{"laptop tcp 0 5555 as natpmp", exitDone, "NAT-PMP: granted, external port 5555" + allowed},
		{"02:00:00:00:00:01 tcp 0 5555 as natpmp", exitDone, "NAT-PMP: granted, external port 5555" + allowed},
		{"192.168.50.10 udp 40000 4000 as natpmp", exitDone, "NAT-PMP: granted, external port 40000" + allowed + "\nmapping: 40000/UDP -> 192.168.50.10:4000 (NAT-PMP)"},
		{"192.168.50.10 udp 41000 4000 as natpmp", exitDone, "NAT-PMP: granted, external port 40000\nreason: port 40000 instead of 41000: the client's port has a mapping already\nmapping: 40000/UDP -> 192.168.50.10:4000 (NAT-PMP)"},
		{"192.168.50.10 tcp 5555 5555 as pcp", exitNo, "PCP: no answer: it is disabled"},
		{"192.168.50.10 tcp 5555 5555", exitDone, "NAT-PMP: granted, external port 5555" + allowed + "\nPCP: no answer: it is disabled\nUPnP: granted, external port 5555" + allowed},
		{"192.168.50.10 tcp 8080 5555", exitNo, "NAT-PMP: granted, external port 8081\nreason: port 8081 instead of 8080: port is taken by another mapping\nmapping: 8080/TCP -> 192.168.50.11:8080 (UPnP)\n" +
			"PCP: no answer: it is disabled\nUPnP: refused: error 1\nreason: port is taken by another mapping\nmapping: 8080/TCP -> 192.168.50.11:8080 (UPnP)"},
		{"192.168.50.10 tcp 5000 5555 as natpmp", exitDone, "NAT-PMP: granted, external port 5555\nreason: port 5555 instead of 5000: port is used by the router"},
		{"192.168.50.10 tcp 8443 5555 as upnp", exitNo, "UPnP: refused: error 1\nreason: port is taken by a static forward\nmapping: 8443/TCP -> 192.168.50.11:8443 (static forward)"},
		{"192.168.50.10 tcp 22 22 as natpmp", exitNo, "NAT-PMP: refused: error 1\nreason: not authorized\nrule: deny the rest"},
		{"192.168.50.11 tcp 0 8443 as natpmp", exitDone, "NAT-PMP: granted, external port 8443" + allowed},
		{"192.168.50.11 udp 5060 5060 as natpmp", exitDone, "NAT-PMP: granted, external port 5060" + allowed + "\nfirewall: PREROUTING -s 192.0.2.7/32 -p udp -j DNAT takes matching connections first"},
		{"192.168.99.10 tcp 5555 5555 as natpmp", exitNo, "NAT-PMP: refused: error 1\nreason: target is not a host on a LAN"},
		{"::ffff:192.168.50.10 tcp 5555 5555 as natpmp", exitDone, "NAT-PMP: granted, external port 5555" + allowed},
		{"192.168.50.10 tcp 7000 7000 as upnp", exitNo, "UPnP: refused: error 1\nreason: blocked by the operator\nblock: 1, forever"},
	} {
		got := r.tool(append([]string{"explain"}, strings.Fields(c.ask)...)...)
		if got.status != c.status || collapseBlanks(got.stdout) != c.want {
			t.Errorf("explain %s = %d\n%s\nwant %d\n%s", c.ask, got.status, collapseBlanks(got.stdout), c.status, c.want)
		}
	}
	if n := len(r.table.List()); n != 3 {
		t.Errorf("explaining left %d mappings, want 3", n)
	}
	if got := r.tool("explain", "nobody", "tcp", "22", "22"); got.status != exitFault || !strings.Contains(got.stderr, "no host nobody is known") {
		t.Errorf("of nobody: %+v", got)
	}
	var list []verdict
	text := r.tool("--json", "explain", "192.168.50.10", "tcp", "22", "22").stdout
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list) != 3 || list[0].Granted || list[0].Rule != "deny the rest" || list[1].Unheard == "" || list[2].Schema != 1 {
		t.Errorf("%v: %s", err, text)
	}
}

// TestExplainBlockUntil shows the end of a block in the operator's time zone and as JSON.
func TestExplainBlockUntil(t *testing.T) {
	until := time.Date(2026, 11, 27, 13, 5, 10, 0, time.UTC)
	v := verdict{Block: 3, BlockUntil: &until}
	if got, want := v.blockText(until.Add(-59*time.Minute)), "3, until "+timeText(until)+" (59m0s left)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	r := newRig(t)
	r.tool("block", "1h", laptop.String())
	r.tool("block", "forever", phone.String())
	for host, want := range map[string]bool{laptop.String(): true, phone.String(): false} {
		var list []verdict
		text := r.tool("--json", "explain", host, "tcp", "9000", "9000", "as", "natpmp").stdout
		if err := json.Unmarshal([]byte(text), &list); err != nil || len(list) != 1 || list[0].Block == 0 || list[0].Reason != "blocked by the operator" {
			t.Fatalf("%v: %s", err, text)
		}
		got := list[0].BlockUntil
		if (got != nil) != want || want && !got.Equal(r.table.Blocks()[0].Until.Round(time.Second)) {
			t.Errorf("the block of %s ends at %v", host, got)
		}
	}
}

// TestExplainForwards explains requests where a static forward has every port of a
// protocol.
func TestExplainForwards(t *testing.T) {
	r := newRig(t)
	all := portmap.Forward{Protocol: portmap.TCP, External: portmap.PortRange{First: 1, Last: 65535}, Target: netip.AddrPortFrom(phone, 0)}
	with := portmap.NetworkState{External: addr("11.22.33.44"), LANs: []netip.Prefix{netip.MustParsePrefix("192.168.50.1/24")}, Forwards: []portmap.Forward{all}}
	if err := r.table.SetNetworkState(t.Context(), with); err != nil {
		t.Fatal(err)
	}
	for ask, want := range map[string]string{
		"192.168.50.10 tcp 5555 5555 as natpmp": "NAT-PMP: refused: error 1\nreason: no port left (ports)\nmapping: 1-65535/TCP -> 192.168.50.11 (static forward)",
		"192.168.50.10 tcp 0 5555 as natpmp":    "NAT-PMP: refused: error 1\nreason: no port left (ports)\nmapping: 1-65535/TCP -> 192.168.50.11 (static forward)",
		"192.168.50.10 tcp 5555 5555 as upnp":   "UPnP: refused: error 1\nreason: port is taken by a static forward\nmapping: 1-65535/TCP -> 192.168.50.11 (static forward)",
	} {
		if got := r.tool(append([]string{"explain"}, strings.Fields(ask)...)...); got.status != exitNo || collapseBlanks(got.stdout) != want {
			t.Errorf("explain %s = %+v\nwant %s", ask, got, want)
		}
	}
	if got := r.tool("explain", laptop.String(), "udp", "5555", "5555", "as", "natpmp"); got.status != exitDone {
		t.Errorf("of the other protocol: %+v", got)
	}
}

// TestExplainUnheardClient explains a request from a network that has gone, and with it
// its mapping.
func TestExplainUnheardClient(t *testing.T) {
	r := seedMappings(t)
	if err := r.table.SetNetworkState(t.Context(), portmap.NetworkState{External: addr("11.22.33.44")}); err != nil {
		t.Fatal(err)
	}
	const pcp = "PCP: no answer: it is disabled; its mapping is dormant: no LAN has the target's network"
	if got := r.tool("explain", laptop.String(), "udp", "40000", "4000", "as", "pcp"); got.status != exitNo || collapseBlanks(got.stdout) != pcp {
		t.Errorf("explain = %+v", got)
	}
}

// TestExplainUncertainBlock explains a request of which it is not known whether the
// blocked host makes it.
func TestExplainUncertainBlock(t *testing.T) {
	r := newRig(t)
	r.tool("block", "forever", laptopMAC)
	const want = "NAT-PMP: refused: error 1\nreason: rules or blocks depend on an address of the host that is not known\nblock: 1, forever"
	if got := r.tool("explain", phone.String(), "tcp", "9000", "9000", "as", "natpmp"); got.status != exitNo || collapseBlanks(got.stdout) != want {
		t.Errorf("explain = %+v", got)
	}
}

// TestExplainDormantMapping explains the renewal of a pinhole without IPv6.
func TestExplainDormantMapping(t *testing.T) {
	r := seedMappings(t)
	lans := []netip.Prefix{netip.MustParsePrefix("192.168.50.1/24"), netip.MustParsePrefix("2001:db8:50::1/64")}
	without := portmap.NetworkState{External: addr("11.22.33.44"), LANs: lans, NoIPv6: true}
	if err := r.table.SetNetworkState(t.Context(), without); err != nil {
		t.Fatal(err)
	}
	const want = "NAT-PMP: granted, external port 4430\nreason: the mapping is dormant: there is no IPv6 firewall"
	if got := r.tool("explain", server.String(), "tcp", "4430", "4430"); !strings.HasPrefix(collapseBlanks(got.stdout), want) {
		t.Errorf("explain = %+v", got)
	}
}

func TestFlagsMayStandAnywhere(t *testing.T) {
	r := seedMappings(t)
	for _, line := range []string{"--json delete udp 7000", "delete --json udp 7000", "delete udp --json 7000", "delete udp 7000 --json"} {
		if got := r.tool(strings.Fields(line)...); got.status != exitNothing || collapseBlanks(got.stdout) != "{\n\"schema\": 1,\n\"closed\": 0\n}" {
			t.Errorf("%s = %+v", line, got)
		}
	}
}

func TestUsage(t *testing.T) {
	r := newRig(t)
	for _, line := range []string{
		"dance", "list 1", "status 1", "delete", "delete tcp", "delete 0", "delete 70000", "delete -1", "delete 9-8", "delete 80 81",
		"delete 192.168.50.10 192.168.50.11", "delete tcp udp 80", "delete sctp 80", "delete 80-", "block", "block 60", "block 0 80", "block soon 80", "block -5m 80", "block 1ms 80", "veto", "veto 0 80",
		"explain", "explain 1-2 tcp 1 1", "explain 192.168.50.10 tcp 1 1 as", "explain 192.168.50.10 tcp 1 1 as igd", "explain 192.168.50.10 tcp 1 1 by pcp", "explain 192.168.50.10 icmp 1 1", "explain 192.168.50.10 tcp 1 0", "explain 192.168.50.10 tcp x 1",
		"explain 192.168.50.10 tcp 1 65536", "watch 1", "history 0", "history x", "history 1 2", "selftest router", "selftest ::1", "selftest 192.168.50.9 x", "--yaml list", "list --yaml",
	} {
		got := r.tool(strings.Fields(line)...)
		if got.status != exitUsage || got.stdout != "" || !strings.HasSuffix(got.stderr, usageHint+"\n") {
			t.Errorf("%q = %+v", line, got)
		}
	}
	for _, line := range []string{"-h", "list -h", "--help"} {
		if got := r.tool(strings.Fields(line)...); got != (called{exitDone, usage(), ""}) {
			t.Errorf("%q = %+v", line, got)
		}
	}
}

func TestToolWithoutADaemon(t *testing.T) {
	r := &rig{socket: t.TempDir() + "/ctl"}
	for _, line := range []string{"list", "list --json", "status", "delete 80", "explain 192.168.50.10 tcp 80 80"} {
		got := r.tool(strings.Fields(line)...)
		if got.status != exitFault || got.stdout != "" || !strings.Contains(got.stderr, "cannot connect to the daemon at ") {
			t.Errorf("%s: %+v", line, got)
		}
	}
	l, err := net.Listen("unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for says, reply := range map[string]string{
		"is incomplete: unexpected EOF": `{"entry":{"protocol":"UDP"}}` + "\n" + `{"en`,
		"is incomplete: EOF":            "",
		"is incomplete: invalid":        "what?\n",
		"out of sorts":                  `{"error":"out of sorts","end":true}` + "\n",
	} {
		go func() {
			if c, err := l.Accept(); err == nil {
				readRequest(c)
				c.Write([]byte(reply))
				c.Close()
			}
		}()
		if got := r.tool("list"); got.status != exitFault || got.stdout != "" || !strings.Contains(got.stderr, says) {
			t.Errorf("%s: %+v", says, got)
		}
	}
}

// TestTimesOfDays shows the same long time in the texts of list, watch and status.
func TestTimesOfDays(t *testing.T) {
	long := int64(30 * 3600)
	var status strings.Builder
	if err := printStatus(&status, Status{Started: time.Unix(0, 0)}, time.Unix(long, 0)); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"list": row(&Entry{Remaining: &long}), "watch": mappingText(&event.Event{Lifetime: &long}), "status": status.String(),
	} {
		if !strings.Contains(text, "1d6h0m0s") {
			t.Errorf("%s: %q", name, text)
		}
	}
}
