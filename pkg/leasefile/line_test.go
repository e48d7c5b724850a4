package leasefile

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"igdd/pkg/portmap"
)

func TestLeaseBothWays(t *testing.T) {
	for _, c := range []struct {
		text string
		want lease
	}{
		{"TCP:6666:192.168.101.20:5555:1795341352:test app", lease{portmap.TCP, 6666, netip.MustParseAddrPort("192.168.101.20:5555"), 1795341352, "test app", false}},
		{"UDP:7777:192.168.101.20:7777:0:game", lease{portmap.UDP, 7777, netip.MustParseAddrPort("192.168.101.20:7777"), 0, "game", false}},
		{"UDP:4001:192.168.101.20:4000:1795338444:NAT-PMP 4001 UDP", lease{portmap.UDP, 4001, netip.MustParseAddrPort("192.168.101.20:4000"), 1795338444, "NAT-PMP 4001 UDP", false}},
		{"TCP:1:10.0.0.1:65535:4294967295:", lease{portmap.TCP, 1, netip.MustParseAddrPort("10.0.0.1:65535"), 4294967295, "", false}},
		{"TCP:65535:10.0.0.1:1:1:Spiel für Zoë 🎮", lease{portmap.TCP, 65535, netip.MustParseAddrPort("10.0.0.1:1"), 1, "Spiel für Zoë 🎮", false}},
		{"UDP:80:10.0.0.1:80:0:game [restricted]", lease{portmap.UDP, 80, netip.MustParseAddrPort("10.0.0.1:80"), 0, "game", true}},
		{"UDP:80:10.0.0.1:80:0: [restricted]", lease{portmap.UDP, 80, netip.MustParseAddrPort("10.0.0.1:80"), 0, "", true}},
		{"UDP:80:10.0.0.1:80:0:<b>&amp;\"'\\", lease{portmap.UDP, 80, netip.MustParseAddrPort("10.0.0.1:80"), 0, "<b>&amp;\"'\\", false}},
	} {
		if got := string(c.want.append(nil)); got != c.text+"\n" {
			t.Errorf("written %q, want %q", got, c.text+"\n")
		}
		got, err := parseLease([]byte(c.text))
		if err != nil || got != c.want {
			t.Errorf("%q: read %+v, %v, want %+v", c.text, got, err, c.want)
		}
	}
}

// TestParseLease parses the lines that miniupnpd accepts (MUP-138), and others.
func TestParseLease(t *testing.T) {
	good := lease{portmap.TCP, 80, netip.MustParseAddrPort("10.0.0.1:8080"), 1795341352, "web", false}
	with := func(change func(*lease)) lease {
		l := good
		change(&l)
		return l
	}
	for _, c := range []struct {
		text string
		want lease
		err  error
	}{
		{text: "TCP:80:10.0.0.1:8080:1795341352:web", want: good},
		{text: "TCP:80:10.0.0.1:8080:1795341352:web\r", want: good},
		{text: "  TCP:80:10.0.0.1:8080:1795341352:  web\t ", want: good},
		{text: "tcp:80:10.0.0.1:8080:1795341352:web", want: good},
		{text: "udp:80:10.0.0.1:8080:1795341352:web", want: with(func(l *lease) { l.protocol = portmap.UDP })},
		{text: "TCP:80:10.0.0.1:8080:1795341352:", want: with(func(l *lease) { l.text = "" })},
		{text: "TCP:80:10.0.0.1:8080:1795341352:a:b::c", want: with(func(l *lease) { l.text = "a:b::c" })},
		{text: "TCP:80:10.0.0.1:8080:1795341352:a\x00b\x1bc\x7fd", want: with(func(l *lease) { l.text = "a b c d" })},
		{text: "TCP:80:10.0.0.1:8080:1795341352:caf\xe9", want: with(func(l *lease) { l.text = "caf\ufffd" })},
		{text: "TCP:080:10.0.0.1:8080:1795341352:web", want: good},

		{text: "TCP:80:10.0.0.1:8080:1795341352", err: errFields}, // perhaps truncated
		{text: "TCP:80:10.0.0.1", err: errFields},
		{text: ":::::", err: errProtocol},
		{text: "lease", err: errFields},
		{text: "\x00\x00\x00\x00", err: errFields},
		{text: "TCP;2001:db8::20;8080;;0;1;1795342292;IGD2 pinhole", err: errFields},
		{text: "TCP:80:2001:db8::20:8080:0:six", err: errAddress},
		{text: "SCTP:80:10.0.0.1:8080:0:", err: errProtocol},
		{text: "UDPLITE:80:10.0.0.1:8080:0:", err: errProtocol},
		{text: "6:80:10.0.0.1:8080:0:", err: errProtocol},
		{text: "TCP :80:10.0.0.1:8080:0:", err: errProtocol},
		{text: "TCP:70000:10.0.0.1:8080:0:", err: errPort},
		{text: "TCP:-5:10.0.0.1:8080:0:", err: errPort},
		{text: "TCP:+80:10.0.0.1:8080:0:", err: errPort},
		{text: "TCP: 80:10.0.0.1:8080:0:", err: errPort},
		{text: "TCP:0x50:10.0.0.1:8080:0:", err: errPort},
		{text: "TCP:8_0:10.0.0.1:8080:0:", err: errPort},
		{text: "TCP:0:10.0.0.1:8080:0:", err: errPort},
		{text: "TCP::10.0.0.1:8080:0:", err: errPort},
		{text: "TCP:80:10.0.0.1:0:0:", err: errPort},
		{text: "TCP:80:10.0.0.1:65536:0:", err: errPort},
		{text: "TCP:80::8080:0:", err: errAddress},
		{text: "TCP:80:10.1:8080:0:", err: errAddress},
		{text: "TCP:80:10.0.0.01:8080:0:", err: errAddress},
		{text: "TCP:80:10.0.0.1 :8080:0:", err: errAddress},
		{text: "TCP:80:10.0.0.256:8080:0:", err: errAddress},
		{text: "TCP:80:host.lan:8080:0:", err: errAddress},
		{text: "TCP:80:10.0.0.1:8080::", err: errExpiry},
		{text: "TCP:80:10.0.0.1:8080:never:", err: errExpiry},
		{text: "TCP:80:10.0.0.1:8080:-1:", err: errExpiry},
		{text: "TCP:80:10.0.0.1:8080:1e9:", err: errExpiry},
		{text: "TCP:80:10.0.0.1:8080:4294967296:", err: errExpiry},
		{text: "TCP:80:10.0.0.1:8080:99999999999999999999:", err: errExpiry},
	} {
		got, err := parseLease([]byte(c.text))
		if !errors.Is(err, c.err) || got != c.want {
			t.Errorf("%q: %+v, %v, want %+v, %v", c.text, got, err, c.want, c.err)
		}
	}
}

// TestLeaseText writes descriptions that could forge a line, hide a part of
// their own or not be shown at all.
func TestLeaseText(t *testing.T) {
	const head = "TCP:80:10.0.0.1:80:0:"
	room := maxLine - len(head) - 1
	for _, c := range []struct{ name, text, want string }{
		{"newline", "x\nTCP:22:10.0.0.1:22:0:y", "x TCP∶22∶10.0.0.1∶22∶0∶y"},
		{"carriage return", "a\rb", "a b"},
		{"colons", "::a:b:", "∶∶a∶b∶"},
		{"control characters", "a\x00b\x1b[31mc\x7fd\u0085e", "a b [31mc d e"},
		{"line and paragraph separators", "a\u2028b\u2029c", "a b c"},
		{"right-to-left override", "a\u202eexe.txt", "a exe.txt"},
		{"Latin-1", "caf\xe9", "caf\ufffd"},
		{"blanks around", " a b\t", "a b"},
		{"nothing but blanks", " \n ", ""},
		{"just fits", strings.Repeat("a", room), strings.Repeat("a", room)},
		{"one too many", strings.Repeat("a", room+1), strings.Repeat("a", room)},
		{"cut between runes", strings.Repeat("€", room), strings.Repeat("€", room/3)},
		{"colons grow", strings.Repeat(":", room), strings.Repeat("∶", room/3)},
	} {
		l := lease{protocol: portmap.TCP, external: 80, internal: netip.MustParseAddrPort("10.0.0.1:80"), text: c.text}
		if got := string(l.append([]byte("before"))); got != "before"+head+c.want+"\n" {
			t.Errorf("%s: %q, want %q", c.name, got, "before"+head+c.want+"\n")
		}
	}
}

func FuzzLease(f *testing.F) {
	for _, seed := range []string{
		"TCP:6666:192.168.101.20:5555:1795341352:test app:1",
		"UDP:7777:192.168.101.20:7777:0:",
		"tcp:1:0.0.0.0:1:4294967295:\xff\x00\u202e",
		" TCP:80:10.0.0.1:8080:0: a \r",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		first, err := parseLease(text)
		if err != nil {
			return
		}
		line := first.append(nil)
		body := strings.TrimSuffix(string(line), "\n")
		if len(line) > maxLine || !utf8.ValidString(body) || strings.ContainsAny(body, "\n\r\x00") || strings.Count(body, ":") != 5 {
			t.Fatalf("%q is written %q", text, line)
		}
		second, err := parseLease([]byte(body))
		if err != nil {
			t.Fatalf("%q is not read again: %v", line, err)
		}
		if again := second.append(nil); string(again) != string(line) {
			t.Fatalf("%q becomes %q", line, again)
		}
		first.text, second.text = "", ""
		if first != second {
			t.Fatalf("%+v becomes %+v", first, second)
		}
	})
}
