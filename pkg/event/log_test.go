package event

import (
	"bytes"
	"log/slog"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// manual is the page that documents the lines.
const manual = "../../rootfs-overlay/usr/share/man/man8/miniupnpd.8"

// line is what the manual says a line looks like: its headline, and the names of what
// may follow.
type format struct {
	headlines  []*regexp.Regexp
	attributes []string
}

// documented reads the formats from the manual.
func documented(t *testing.T) (f format) {
	t.Helper()
	text, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), ".Ss Mappings\n")
	section, _, _ = strings.Cut(section, "\n.Sh ")
	placeholders := map[string]string{
		"port": `(\d+|\[[0-9a-f:]+\]:\d+)`, "protocol": "(TCP|UDP|TCP/UDP)", "reason": "(.+)", "subject": "([a-z0-9 .:-]+?)",
	}
	for line := range strings.Lines(section) {
		rest, is := strings.CutPrefix(strings.TrimSpace(line), ".It Li ")
		if !is {
			continue
		}
		if !strings.Contains(rest, `"`) {
			f.attributes = append(f.attributes, strings.Fields(rest)...)
			continue
		}
		var words []string
		literal, rest, _ := strings.Cut(strings.TrimPrefix(rest, `"`), `"`)
		words = append(words, regexp.QuoteMeta(literal))
		for _, word := range strings.Fields(rest) {
			switch p, is := placeholders[word]; {
			case is:
				words = append(words, p)
			case word != "Ar" && word != "Li":
				words = append(words, regexp.QuoteMeta(word))
			}
		}
		f.headlines = append(f.headlines, regexp.MustCompile("^"+strings.Join(words, " ")+"$"))
	}
	return f
}

// examples are events of every kind that the section of the manual is about.
func examples() []Event {
	hour := int64(3600)
	var list []Event
	for _, origin := range []string{"NAT-PMP", "PCP", "UPnP"} {
		for _, kind := range []Kind{Opened, Renewed, Closed, Dormant, Active, Refused, Reachable, Unreachable} {
			e := Event{
				Kind: kind, Origins: []string{origin}, Client: netip.MustParseAddr("192.168.50.10"), Host: "02:00:00:00:00:10",
				Protocol: "TCP", ExternalPort: 3001, Internal: netip.MustParseAddr("192.168.50.10"), InternalPort: 3000,
				MAC: "02:00:00:00:00:10", Description: "Bob's \"game\" because\x1b[2J", Remote: []string{"192.0.2.1/32"}, Lifetime: &hour, Disabled: true,
				OuterAddress: netip.MustParseAddr("11.22.33.44"), OuterPort: 40000,
			}
			switch kind {
			case Closed, Dormant, Unreachable:
				e.Reason, e.Client = "it has expired", netip.Addr{}
			case Refused:
				e.Reason, e.Rule, e.Holder, e.Block = "not authorized", "deny 0-65535 0.0.0.0/0 0-65535", "3001/TCP -> x (UPnP)", 3
			}
			pinhole := e
			pinhole.Pinhole, pinhole.Protocol, pinhole.Internal = true, "UDP", netip.MustParseAddr("2001:db8::10")
			list = append(list, e, pinhole)
		}
	}
	until := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	return append(list,
		Event{Kind: Refused, Delete: true, Protocol: "TCP", ExternalPort: 1, Reason: "no such mapping"},
		Event{Kind: Refused, Delete: true, Pinhole: true, Reason: "no such mapping"},
		Event{Kind: Deleted, Subject: "192.168.50.10 tcp", Closed: 2},
		Event{Kind: Blocked, Subject: "ports 1-2", Block: 4, Until: until},
		Event{Kind: Unblocked, Subject: "ports 1-2", Block: 4},
		Event{Kind: Unblocked, Subject: "ports 1-2", Block: 4, Reason: "it has ended"})
}

// TestLinesAreAsDocumented compares the line of each event with the manual.
func TestLinesAreAsDocumented(t *testing.T) {
	f := documented(t)
	if len(f.headlines) != 13 || len(f.attributes) != 14 {
		t.Fatalf("the manual has %d headlines and %d attributes", len(f.headlines), len(f.attributes))
	}
	used := make(map[int]bool)
	for _, e := range examples() {
		var out bytes.Buffer
		var message string
		var names []string
		e.Log(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{
			Level: slog.LevelDebug,
			ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				switch a.Key {
				case slog.TimeKey, slog.LevelKey, "host", "kind":
				case slog.MessageKey:
					message = a.Value.String()
				default:
					names = append(names, a.Key)
				}
				return a
			},
		})))
		if n := strings.Count(out.String(), "\n"); n != 1 {
			t.Errorf("%+v: %d lines", e, n)
		}
		found := false
		for i, headline := range f.headlines {
			if headline.MatchString(message) {
				used[i], found = true, true
			}
		}
		if !found {
			t.Errorf("not in the manual: %s", message)
		}
		if !isSubsequence(names, f.attributes) {
			t.Errorf("%s: attributes %v, want some of %v in their order", message, names, f.attributes)
		}
	}
	if len(used) != len(f.headlines) {
		t.Errorf("%d of the %d lines in the manual were seen", len(used), len(f.headlines))
	}
}

// isSubsequence reports whether the list has the names in their order.
func isSubsequence(names, list []string) bool {
	for _, name := range names {
		for len(list) > 0 && list[0] != name {
			list = list[1:]
		}
		if len(list) == 0 {
			return false
		}
	}
	return true
}

// TestLevels says which lines are notices: what opens, closes and is refused, and what
// the operator does.
func TestLevels(t *testing.T) {
	for kind, want := range map[Kind]slog.Level{
		Opened: levelNotice, Closed: levelNotice, Refused: levelNotice, Deleted: levelNotice, Blocked: levelNotice, Unblocked: levelNotice,
		Renewed: slog.LevelInfo, Dormant: slog.LevelInfo, Active: slog.LevelInfo, Repaired: slog.LevelWarn, Uplink: slog.LevelWarn,
		Reachable: slog.LevelInfo, Unreachable: levelNotice,
	} {
		e := Event{Kind: kind}
		if got, _ := e.headline(); got != want {
			t.Errorf("%s: %v, want %v", kind, got, want)
		}
	}
	if len(Kinds()) != 13 {
		t.Error("a kind is missing here")
	}
	public := Event{Kind: Uplink, Address: netip.MustParseAddr("11.22.33.44"), Interface: "eth0"}
	private := public
	private.Reason = PrivateUplink
	for want, e := range map[string]Event{
		"Public IP address 11.22.33.44 on ext interface eth0: Port forwarding is enabled":                                                   public,
		"Reserved / private IP address 11.22.33.44 on ext interface eth0: ports are forwarded, but a router upstream must forward them too": private,
		"ext interface eth0 has no IPv4 address. Network is down":                                                                           {Kind: Uplink, Interface: "eth0"},
	} {
		if _, got := e.headline(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestReachability says whether remote hosts reach a mapping, what else it takes, and
// nothing at all where another line says the same of all mappings.
func TestReachability(t *testing.T) {
	reachable := Event{Kind: Reachable, Protocol: "TCP", ExternalPort: 3001, OuterAddress: netip.MustParseAddr("11.22.33.44"), OuterPort: 40000}
	further := reachable
	further.Reason = PrivateUplink
	of := Event{Kind: Unreachable, Protocol: "TCP", ExternalPort: 3001, Reason: "it does not answer"}
	shared := of
	shared.Shared = true
	for want, e := range map[string]Event{
		"level=INFO msg=\"port 3001 TCP is reachable from outside\" kind=reachable outer=11.22.33.44:40000\n":                                                   reachable,
		"level=INFO msg=\"port 3001 TCP is reachable from outside, but a router upstream must forward the ports too\" kind=reachable outer=11.22.33.44:40000\n": further,
		"level=INFO+2 msg=\"port 3001 TCP is not reachable from outside because it does not answer\" kind=unreachable\n":                                        of,
		"": shared,
	} {
		var out bytes.Buffer
		e.Log(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}})))
		if got := out.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
