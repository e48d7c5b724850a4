package syslog

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// limited is a log of what Limit passes on, at a time that a test chooses.
type limited struct {
	slog.Handler
	out strings.Builder
}

func newLimited() *limited {
	l := new(limited)
	l.Handler = Limit(NewText(&l.out, slog.LevelInfo))
	return l
}

// at logs a line n times at a time, and returns how many came through, and the
// last one.
func (l *limited) at(now time.Time, client string, level slog.Level, message string, n int) (passed int, last string) {
	l.out.Reset()
	h := l.Handler
	if client != "" {
		h = h.WithAttrs([]slog.Attr{slog.String("client", client)})
	}
	for range n {
		h.Handle(context.Background(), slog.NewRecord(now, level, message, 0))
	}
	lines := strings.Split(strings.TrimSpace(l.out.String()), "\n")
	return strings.Count(l.out.String(), "\n"), lines[len(lines)-1]
}

func TestLinesAreLimitedByMessageLevelAndClient(t *testing.T) {
	l, now := newLimited(), time.Now()
	for _, c := range []struct {
		client  string
		level   slog.Level
		message string
		want    int
	}{
		{"", slog.LevelWarn, "the firewall is stopped", burst},
		{"", slog.LevelWarn, "the firewall is stopped", 0},
		{"", slog.LevelWarn, "the firewall cannot be read", burst}, // it begins like another one
		{"", slog.LevelError, "the firewall is stopped", burst},
		{"192.0.2.1", slog.LevelWarn, "the firewall is stopped", burst},
		{"192.0.2.2", slog.LevelWarn, "the firewall is stopped", burst},
		{"192.0.2.2", slog.LevelWarn, "the firewall is stopped", 0},
		{"192.0.2.2", slog.LevelInfo, "redirecting port 80 UDP", burst},
		{"192.0.2.2", slog.LevelInfo, "redirecting port 40000 UDP", 0}, // it names another port alone
		{"192.0.2.2", slog.LevelInfo, "redirecting port 40000 TCP", burst},
		{"2001:db8::2", slog.LevelInfo, "redirecting port [2001:db8::2]:80 TCP", burst},
		{"2001:db8::2", slog.LevelInfo, "redirecting port [2001:db8::a]:81 TCP", 0},
		{"2001:db8::2", slog.LevelInfo, "redirecting port [dead::beef]:81 UDP", burst},
		{"2001:db8::2", slog.LevelInfo, "HTTP peer dead::beef is not from a LAN, closing the connection", burst},
		{"2001:db8::2", slog.LevelInfo, "HTTP peer dead::bee is not from a LAN, closing the connection", 0},
	} {
		if got, last := l.at(now, c.client, c.level, c.message, 2*burst); got != c.want {
			t.Errorf("client %q: %v %q: %d lines, want %d, the last %q", c.client, c.level, c.message, got, c.want, last)
		}
	}
}

func TestSkippedLinesAreCounted(t *testing.T) {
	l, now := newLimited(), time.Now()
	l.at(now, "192.0.2.1", slog.LevelInfo, "flood", burst+17)
	now = now.Add(window - 1)
	if got, _ := l.at(now, "192.0.2.1", slog.LevelInfo, "flood", 1); got != 0 {
		t.Error("the window ends too early")
	}
	now = now.Add(1)
	if got, line := l.at(now, "192.0.2.1", slog.LevelInfo, "flood", 1); got != 1 || !strings.HasSuffix(line, "msg=flood client=192.0.2.1 similar_lines_skipped=18") {
		t.Errorf("%d lines, %q", got, line)
	}
	if _, line := l.at(now, "192.0.2.1", slog.LevelInfo, "flood", 1); !strings.HasSuffix(line, "msg=flood client=192.0.2.1") {
		t.Errorf("the count is said twice: %q", line)
	}
}

// TestLinesAreLimitedByHost writes lines about clients with many addresses: those of
// one host count together, and the name of the host is not written.
func TestLinesAreLimitedByHost(t *testing.T) {
	l, now := newLimited(), time.Now()
	log := slog.New(l.Handler)
	for i := range 100 {
		log.With("host", "02:00:00:00:00:10", "client", fmt.Sprint("2001:db8::", i)).Info("refused")
	}
	lines := strings.Split(strings.TrimSpace(l.out.String()), "\n")
	if len(lines) != burst || !strings.HasSuffix(lines[burst-1], fmt.Sprint("msg=refused client=2001:db8::", burst-1)) {
		t.Errorf("%d lines, the last is %q", len(lines), lines[len(lines)-1])
	}
	if got, last := l.at(now, "192.0.2.1", slog.LevelInfo, "refused", 1); got != 1 {
		t.Errorf("another client: %d lines, %q", got, last)
	}
	l.out.Reset()
	log.With("host", "").With("client", "192.0.2.2").Info("refused")
	if got := l.out.String(); !strings.HasSuffix(got, "msg=refused client=192.0.2.2\n") {
		t.Errorf("a host without a name: %q", got)
	}
}

// TestLinesOfAllHostsAreLimited writes lines about more hosts than there are, as one
// that makes up hardware addresses: they have a limit together, hosts that have
// written none have a share of it, and the skipped lines are counted.
func TestLinesOfAllHostsAreLimited(t *testing.T) {
	l, now := newLimited(), time.Now()
	write := func(first, hosts, each int) (passed int) {
		for i := range hosts {
			n, _ := l.at(now, fmt.Sprint("host ", first+i), slog.LevelInfo, "refused", each)
			passed += n
		}
		return passed
	}
	if n := write(0, sharedBurst/burst, 1000); n != sharedBurst {
		t.Errorf("the first hosts write %d lines", n)
	}
	if n := write(1000, 1000, 2); n != totalBurst-sharedBurst {
		t.Errorf("%d other hosts write a line", n)
	}
	if n, _ := l.at(now, "", slog.LevelInfo, "another message", 1); n != 1 {
		t.Error("another message is not written")
	}
	now = now.Add(window)
	skipped := sharedBurst/burst*1000 + 2000 - totalBurst
	if _, line := l.at(now, "host 0", slog.LevelInfo, "refused", 1); !strings.HasSuffix(line, fmt.Sprint("similar_lines_skipped=", skipped)) {
		t.Errorf("%q, want %d skipped", line, skipped)
	}
}

func TestMemoryOfTheLimitIsBounded(t *testing.T) {
	l, now := newLimited(), time.Now()
	for i := range 10 * maxKinds {
		l.at(now, fmt.Sprint("client ", i), slog.LevelInfo, "hello", 1)
		l.at(now, fmt.Sprint("client ", i), slog.LevelInfo, "hello "+strings.Repeat("x", i%1000), 1)
	}
	if n := len(l.Handler.(*limiter).counts.seen); n > maxKinds {
		t.Errorf("%d kinds are remembered", n)
	}
	if l.Enabled(t.Context(), slog.LevelDebug) || !l.Enabled(t.Context(), slog.LevelInfo) {
		t.Error("the level is not heeded")
	}
	grouped := l.WithGroup("g").WithAttrs([]slog.Attr{slog.Int("n", 1)})
	l.out.Reset()
	grouped.Handle(t.Context(), slog.NewRecord(now, slog.LevelInfo, "grouped", 0))
	if !strings.HasSuffix(l.out.String(), "msg=grouped g.n=1\n") {
		t.Errorf("%q", &l.out)
	}
}

// TestLinesAreLimitedByKind writes lines with many messages that their logger says are
// of one kind.
func TestLinesAreLimitedByKind(t *testing.T) {
	l := newLimited()
	log := slog.New(l.Handler).With("kind", "refused").With("client", "192.0.2.1")
	for _, reason := range strings.Split("abcdefghijklmnopqrstuvwxyz", "") {
		log.Info("refusing a port because " + reason)
	}
	if lines := strings.Split(strings.TrimSpace(l.out.String()), "\n"); len(lines) != burst || !strings.HasSuffix(lines[0], `msg="refusing a port because a" client=192.0.2.1`) {
		t.Errorf("%d lines, the first is %q", len(lines), lines[0])
	}
}
