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

func TestMemoryOfTheLimitIsBounded(t *testing.T) {
	l, now := newLimited(), time.Now()
	for i := range 10 * maxKinds {
		l.at(now, fmt.Sprint("client ", i), slog.LevelInfo, "hello", 1)
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
