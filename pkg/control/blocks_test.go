package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"igdd/pkg/event"
	"igdd/pkg/portmap"
)

// The hardware address of the laptop, in the ways in which it can be written.
const laptopMAC = "02:00:00:00:00:01"

// openFrom has a host with a known hardware address and name ask for TCP port 9000.
func (r *rig) openFrom(t *testing.T, client netip.Addr, mac, name string) portmap.Answer {
	t.Helper()
	a, err := r.table.Do(t.Context(), portmap.Request{
		Origin: portmap.PCP, Client: client, Protocol: portmap.TCP, Internal: netip.AddrPortFrom(client, 9000), External: 9000, Exact: true,
		Lifetime: time.Hour, Host: portmap.Host{Hardware: mac, Names: []string{name}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestBlockWords blocks in all words, lists and lifts it, and asks in between.
func TestBlockWords(t *testing.T) {
	for _, tt := range []struct {
		words, list string // of the table, without times
		blocked     bool   // the laptop's TCP port 9000
	}{
		{"192.168.50.10", "192.168.50.10 - - -", true},
		{"tcp 192.168.50.10 9000-9001", "192.168.50.10 - TCP 9000-9001", true},
		{"udp 192.168.50.10", "192.168.50.10 - UDP -", false},
		{"02-00-00-00-00-01", laptopMAC + " - - -", true},
		{"9000 0200.0000.0001 TCP", laptopMAC + " - TCP 9000", true},
		{"02:00:00:00:00:02", "02:00:00:00:00:02 - - -", false},
		{"laptop", "laptop - - -", true},
		{"9001 laptop", "laptop - - 9001", false},
		{"phone", "phone - - -", false},
		{"9000", "- - - 9000", true},
		{"::ffff:192.168.50.10", "192.168.50.10 - - -", true},
		{"2001:db8:50::20", "2001:db8:50::20 - - -", false},
	} {
		r := newRig(t)
		if got := r.tool(append([]string{"block", "forever"}, strings.Fields(tt.words)...)...); got != (called{exitDone, "0 mappings closed\nblock 1 is in force forever\n", ""}) {
			t.Fatalf("block forever %s = %+v", tt.words, got)
		}
		a := r.openFrom(t, laptop, laptopMAC, "laptop")
		if (a.Block != nil) != tt.blocked || (a.Refusal == portmap.Granted) == tt.blocked {
			t.Errorf("under block %s: %v", tt.words, a.Refusal)
		}
		got := strings.Split(r.tool("blocks").stdout, "\n")
		want := regexp.MustCompile(`^1 ` + regexp.QuoteMeta(tt.list) + ` \d{4}-\d\d-\d\d \d\d:\d\d:\d\d forever - [01] (-|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)$`)
		if len(got) != 3 || !want.MatchString(strings.Join(strings.Fields(got[1]), " ")) {
			t.Errorf("blocks after block %s = %q, want %v", tt.words, got, want)
		}
		for _, want := range []called{{exitDone, "1 block lifted\n", ""}, {exitNothing, "0 blocks lifted\n", ""}} {
			if got := r.tool(append([]string{"unblock"}, strings.Fields(tt.words)...)...); got != want {
				t.Errorf("unblock %s = %+v, want %+v", tt.words, got, want)
			}
		}
		if a := r.openFrom(t, laptop, laptopMAC, "laptop"); a.Refusal != portmap.Granted {
			t.Errorf("after unblock %s: %v", tt.words, a.Refusal)
		}
	}
}

// TestBlocksJSON lists blocks as JSON.
func TestBlocksJSON(t *testing.T) {
	r := newRig(t)
	if got := r.tool("blocks", "--json"); got != (called{exitDone, "[]\n", ""}) {
		t.Errorf("no blocks = %+v", got)
	}
	began := time.Now().Add(-time.Second)
	var made struct {
		Schema, Closed int
		Block          BlockEntry
	}
	bound := portmap.HostSelector{Addr: laptop, Bound: []string{laptopMAC, "02:00:00:00:00:03"}}
	if _, err := r.table.Block(t.Context(), portmap.Block{Selector: portmap.Selector{Host: bound, Protocol: portmap.TCP, External: portmap.PortRange{First: 9000, Last: 9010}}}); err != nil {
		t.Fatal(err)
	}
	r.openFrom(t, laptop, laptopMAC, "")
	if err := json.Unmarshal([]byte(r.tool("block", "--json", "7d", "phone").stdout), &made); err != nil || made.Schema != 1 || made.Closed != 0 || made.Block.ID != 2 {
		t.Errorf("block = %+v, %v", made, err)
	}
	text := r.tool("blocks", "--json").stdout
	var list []BlockEntry
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list) != 2 || strings.Count(text, "\n") != 2 {
		t.Fatalf("%v: %s", err, text)
	}
	first, second := list[0], list[1]
	if fmt.Sprintln(first.Schema, first.ID, first.Host, first.MACs, first.Protocol, first.FirstPort, first.LastPort, first.Hits) != "1 1 192.168.50.10 [02:00:00:00:00:01 02:00:00:00:00:03] TCP 9000 9010 1\n" ||
		first.Until != nil || first.Remaining != nil || first.LastHit == nil || first.LastHit.Before(began) {
		t.Errorf("the first is %+v", first)
	}
	if second.Host != "phone" || second.MACs != nil || second.LastHit != nil || second.Until == nil || second.Until.Sub(second.Since) != 7*24*time.Hour || *second.Remaining > 7*24*3600 || *second.Remaining < 7*24*3600-60 {
		t.Errorf("the second is %+v", second)
	}
	for _, name := range []string{`[{"schema":1,"id":1,`, `"until":null`, `"remaining_seconds":null`, `"last_hit":null`, `"host":"phone"`} {
		if !strings.Contains(text, name) {
			t.Errorf("%s is missing in %s", name, text)
		}
	}
	if got := r.tool("unblock", "--json", "2"); got.status != exitDone || collapseBlanks(got.stdout) != "{\n\"schema\": 1,\n\"lifted\": 1\n}" {
		t.Errorf("unblock = %+v", got)
	}
}

// TestUnblockByNumber lifts a block by its number, and by a port that is a number.
func TestUnblockByNumber(t *testing.T) {
	r := newRig(t)
	for _, words := range []string{"block 1h 3", "block 1h laptop", "block 1h 7000", "block 1h 7000", "block 1h tcp 7000"} {
		r.tool(strings.Fields(words)...)
	}
	for _, c := range []struct {
		words string
		want  called
		left  string
	}{
		{"3", called{exitDone, "1 block lifted\n", ""}, "[1 2 4 5]"},
		{"3", called{exitDone, "1 block lifted\n", ""}, "[2 4 5]"}, // the block of port 3, as there is no third one
		{"3", called{exitNothing, "0 blocks lifted\n", ""}, "[2 4 5]"},
		{"70000", called{exitNothing, "0 blocks lifted\n", ""}, "[2 4 5]"},
		{"7000", called{exitDone, "1 block lifted\n", ""}, "[2 5]"},
		{"LAPTOP.lan", called{exitDone, "1 block lifted\n", ""}, "[5]"},
		{"7000 tcp", called{exitDone, "1 block lifted\n", ""}, "[]"},
	} {
		if got := r.tool(append([]string{"unblock"}, strings.Fields(c.words)...)...); got != c.want {
			t.Errorf("unblock %s = %+v", c.words, got)
		}
		var left []int
		for _, b := range r.table.Blocks() {
			left = append(left, b.ID)
		}
		if fmt.Sprint(left) != c.left {
			t.Errorf("after unblock %s there are %v, want %s", c.words, left, c.left)
		}
	}
}

// TestBlockTimes blocks for times that are written in different ways.
func TestBlockTimes(t *testing.T) {
	r := newRig(t)
	for i, c := range []struct {
		time, left string
		want       time.Duration
	}{
		{"600", "10m0s", 10 * time.Minute}, {"10m", "10m0s", 10 * time.Minute}, {"2h", "2h0m0s", 2 * time.Hour},
		{"30h", "1d6h0m0s", 30 * time.Hour}, {"7d", "7d0s", 7 * 24 * time.Hour}, {"3650d", "3650d0s", 3650 * 24 * time.Hour},
	} {
		began := time.Now()
		got := r.tool("block", c.time, "7000")
		end := r.table.Blocks()[i].Until
		if got.status != exitDone || end.Before(began.Add(c.want)) || end.After(time.Now().Add(c.want)) {
			t.Errorf("block %s = %+v, until %v", c.time, got, end)
		}
		if want := fmt.Sprintf("until %s (%s left)", end.Round(time.Second).Format(time.DateTime), c.left); !strings.Contains(got.stdout, want) && time.Since(began) < time.Second {
			t.Errorf("block %s says %q, want %q", c.time, got.stdout, want)
		}
	}
	for _, line := range []string{
		"block 0d 80", "block -1d 80", "block 1.5d 80", "block 200000d 80", "block d 80", "block forever", "block forever tcp", "block Forever 80",
		"block 1h laptop phone", "block 1h laptop 192.168.50.10", "block 1h 02:00:00:00:00:01 02:00:00:00:00:02", "block 1h lap/top", "block 1h tcp sctp",
		"unblock", "unblock tcp", "unblock 0", "unblock -1", "unblock 1 2", "blocks 1",
	} {
		if got := r.tool(strings.Fields(line)...); got.status != exitUsage || got.stdout != "" || !strings.HasSuffix(got.stderr, usageHint+"\n") {
			t.Errorf("%q = %+v", line, got)
		}
	}
}

// TestDeleteByHost deletes a host's mappings by what it is called.
func TestDeleteByHost(t *testing.T) {
	for _, which := range []string{"02:00:00:00:00:01", "192.168.50.10 9000", "tcp 02:00:00:00:00:01"} {
		r := newRig(t)
		r.openFrom(t, laptop, laptopMAC, "laptop")
		r.open(t, portmap.UPnP, portmap.TCP, phone, 8080, 8080, 0, "")
		if got := r.tool(append([]string{"delete"}, strings.Fields(which)...)...); got != (called{exitDone, "1 mapping closed\n", ""}) || len(r.table.List()) != 1 {
			t.Errorf("delete %s = %+v", which, got)
		}
	}
}

// failing is a table that cannot save blocks, and knows no names.
type failing struct{ *portmap.Table }

func (f failing) Block(ctx context.Context, b portmap.Block) (portmap.BlockResult, error) {
	if b.Host.Name != "" {
		return portmap.BlockResult{}, errors.New("no host has the name")
	}
	set, err := f.Table.Block(ctx, b)
	set.Unsaved = errors.New("the disk is full")
	return set, err
}

func (f failing) Unblock(ctx context.Context, which func(*portmap.Block) bool) ([]*portmap.Block, error, error) {
	lifted, _, err := f.Table.Unblock(ctx, which)
	return lifted, errors.New("the disk is full"), err
}

// TestOperatorIsToldWhatFails sets and lifts blocks that cannot be saved, or made.
func TestOperatorIsToldWhatFails(t *testing.T) {
	r := newRig(t)
	r.server.opts.Table = failing{r.table}
	const unsaved = "it is done, but not saved, and a restart undoes it: the disk is full"
	if got := r.tool("block", "1h", "7000"); got.status != exitFault || !strings.Contains(got.stdout, "block 1 is in force") || !strings.Contains(got.stderr, unsaved) {
		t.Errorf("block = %+v", got)
	}
	if got := r.tool("block", "1h", "nobody"); got.status != exitFault || got.stdout != "" || !strings.Contains(got.stderr, "cannot block: no host has the name") {
		t.Errorf("block of no host = %+v", got)
	}
	if got := r.tool("unblock", "1"); got.status != exitFault || got.stdout != "1 block lifted\n" || !strings.Contains(got.stderr, unsaved) {
		t.Errorf("unblock = %+v", got)
	}
	if got := r.tool("unblock", "1"); got != (called{exitNothing, "0 blocks lifted\n", ""}) {
		t.Errorf("unblock again = %+v", got)
	}
	r.server.opts.Table, r.status.Leases = r.table, "the folder does not exist"
	if got := r.tool("block", "1h", "7000"); got.status != exitFault || !strings.Contains(got.stderr, "a restart undoes it: the folder does not exist") {
		t.Errorf("block without a lease file = %+v", got)
	}
}

// TestBlocksOfNoClient blocks what is no client's, and what may be one's later.
func TestBlocksOfNoClient(t *testing.T) {
	r := newRig(t)
	for words, want := range map[string]called{
		"0.0.0.0":                     {exitFault, "", "miniupnpctl: cannot block: 0.0.0.0 is not the address of one host; use that of a client\n"},
		"tcp 80 192.168.50.1":         {exitFault, "", "miniupnpctl: cannot block: 192.168.50.1 is the router's own address; use that of a client\n"},
		"ff:ff:ff:ff:ff:ff udp 80-90": {exitFault, "", "miniupnpctl: cannot block: ff:ff:ff:ff:ff:ff is not the hardware address of one host; use that of a client\n"},
	} {
		if got := r.tool(strings.Fields("block 1h " + words)...); got != want {
			t.Errorf("block 1h %s = %+v", words, got)
		}
	}
	for _, words := range []string{"block 1h", "delete", "unblock", "explain"} {
		got := r.tool(append(strings.Fields(words), strings.Fields("fe80::1%br0 tcp 80 80")...)...)
		if got.status != exitUsage || !strings.Contains(got.stderr, `"fe80::1%br0": leave out the zone %br0, or use the hardware address`) {
			t.Errorf("%s with a zone = %+v", words, got)
		}
	}
	if n := len(r.table.Blocks()); n > 0 {
		t.Errorf("%d blocks are in force", n)
	}
	const warning = "10.9.9.9 is on no LAN that the daemon serves now"
	if got := r.tool("block", "forever", "10.9.9.9"); got != (called{exitDone, "0 mappings closed\nblock 1 is in force forever\nwarning: " + warning + "\n", ""}) {
		t.Errorf("elsewhere: %+v", got)
	}
	var printed blocked
	got := r.tool("--json", "block", "forever", "10.9.9.9")
	if err := json.Unmarshal([]byte(got.stdout), &printed); err != nil || printed.Warning != warning || got.status != exitDone {
		t.Errorf("elsewhere: %+v, %v", got, err)
	}
}

// TestHostNamesHaveNoCase names a host in other letters, and with a domain.
func TestHostNamesHaveNoCase(t *testing.T) {
	r := newRig(t)
	for _, name := range []string{"laptop", "LAPTOP", "Laptop.lan"} {
		r.openFrom(t, laptop, laptopMAC, "laptop")
		for _, tt := range []struct{ words, says string }{
			{"delete " + name, "1 mapping closed"},
			{"explain " + name + " tcp 7000 7000 as natpmp", "granted"},
			{"block forever " + name, "block"},
			{"unblock " + name, "1 block lifted"},
		} {
			if got := r.tool(strings.Fields(tt.words)...); got.status != exitDone || !strings.Contains(got.stdout, tt.says) {
				t.Errorf("%s = %+v", tt.words, got)
			}
		}
	}
}

// TestOperatorIsToldWhatIsLeft closes mappings whose rules the firewall cannot delete.
func TestOperatorIsToldWhatIsLeft(t *testing.T) {
	r := newRig(t)
	r.left = errors.New("IPv4: another program holds the lock")
	const left = "rules of closed mappings are still in the firewall: IPv4: another program holds the lock"
	const says = "miniupnpctl: it is done, but " + left + "; they go as soon as that is possible\n"
	r.openMany(t, 3)
	for _, c := range []struct{ words, stdout string }{
		{"delete 40001", "1 mapping closed\n"},
		{"delete 40001", "0 mappings closed\n"},
		{"delete --json 40002", "{\n  \"schema\": 1,\n  \"closed\": 1\n}\n"},
		{"block forever 40003", "1 mapping closed\nblock 1 is in force forever\n"},
	} {
		if got := r.tool(strings.Fields(c.words)...); got != (called{exitFault, c.stdout, says}) {
			t.Errorf("%s = %+v", c.words, got)
		}
	}
	for _, e := range r.events.History(4) {
		if e.Reason != left {
			t.Errorf("%s has the reason %q", e.Kind, e.Reason)
		}
	}
	if line := `level=WARN msg="operator: blocked 40003, but ` + left + `"`; !strings.Contains(r.log.String(), line) {
		t.Errorf("the log lacks %s:\n%s", line, r.log)
	}
	r.status.Leases = "the disk is full"
	if got := r.tool("block", "forever", "40004"); got.status != exitFault || got.stderr != says+"it is done, but not saved, and a restart undoes it: the disk is full\n" {
		t.Errorf("with a full disk: %+v", got)
	}
	r.left, r.status.Leases = nil, ""
	if got := r.tool("block", "forever", "40005"); got.status != exitDone || got.stderr != "" {
		t.Errorf("later: %+v", got)
	}
}

// TestActsAreEvents looks at what watchers and the log are told.
func TestActsAreEvents(t *testing.T) {
	r := newRig(t)
	r.open(t, portmap.UPnP, portmap.TCP, phone, 8080, 8080, 0, "")
	for _, words := range []string{"delete tcp 8080", "block 1h laptop udp 7000-7009", "block forever 192.168.50.11", "unblock 1", "unblock 1"} {
		r.tool(strings.Fields(words)...)
	}
	var got []string
	for _, e := range r.events.History(10) {
		got = append(got, fmt.Sprint(e.Kind, " ", e.Subject, " ", e.Block, " ", e.Closed, " ", e.Until.IsZero()))
	}
	want := []string{
		fmt.Sprint(event.Deleted, " tcp 8080 0 1 true"), fmt.Sprint(event.Blocked, " laptop udp 7000-7009 1 0 false"),
		fmt.Sprint(event.Blocked, " 192.168.50.11 2 0 true"), fmt.Sprint(event.Unblocked, " laptop udp 7000-7009 1 0 true"),
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("events\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, says := range []string{`msg="operator: deleted tcp 8080" kind=deleted closed=1`, `msg="operator: blocked laptop udp 7000-7009" kind=blocked block=1 until=`, `msg="operator: unblocked laptop udp 7000-7009" kind=unblocked block=1`} {
		if !strings.Contains(r.log.String(), says) {
			t.Errorf("the log lacks %s:\n%s", says, r.log.String())
		}
	}
}
