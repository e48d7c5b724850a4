package syslog

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// How often a line may be written in a window before it is only counted. Lines
// are the same if they have the level, the message but for its numbers, and the
// client in common.
const (
	burst  = 10
	window = time.Minute
	// maxKinds bounds the memory: when so many different lines are known, counting
	// begins anew.
	maxKinds = 512
)

// limiter passes on a burst of each kind of line, and says later how many were
// skipped.
type limiter struct {
	next   slog.Handler
	client string
	counts *counts
}

// Limit returns a handler that passes records on to next, but of each message,
// for each attribute "client" of the logger, only so many in a time.
func Limit(next slog.Handler) slog.Handler {
	return &limiter{next: next, counts: &counts{seen: make(map[kind]*count)}}
}

// kind is what the same lines have in common.
type kind struct {
	level           slog.Level
	client, message string
}

// kindOf returns the kind of a record. Numbers do not count: a client can name
// any port, and each of them would be another message.
func kindOf(client string, r slog.Record) kind {
	var previous rune
	message := strings.Map(func(c rune) rune {
		inNumber := isDigit(c) && isDigit(previous)
		previous = c
		switch {
		case inNumber:
			return -1
		case isDigit(c):
			return '0'
		}
		return c
	}, r.Message)
	return kind{r.Level, client, message}
}

func isDigit(c rune) bool { return '0' <= c && c <= '9' }

type counts struct {
	mu   sync.Mutex
	seen map[kind]*count
}

type count struct {
	since      time.Time
	n, skipped int
}

// add counts one line. It reports whether the line is to be written, and how
// many were skipped before it.
func (c *counts) add(k kind, now time.Time) (skipped int, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.seen[k]
	if n == nil {
		if len(c.seen) >= maxKinds {
			clear(c.seen)
		}
		n = &count{since: now}
		c.seen[k] = n
	}
	if now.Sub(n.since) >= window {
		skipped = n.skipped
		*n = count{since: now}
	}
	if n.n++; n.n > burst {
		n.skipped++
		return 0, false
	}
	return skipped, true
}

// Enabled reports whether records of the level are logged.
func (l *limiter) Enabled(ctx context.Context, v slog.Level) bool { return l.next.Enabled(ctx, v) }

// Handle passes the record on unless lines of its kind have come too often.
func (l *limiter) Handle(ctx context.Context, r slog.Record) error {
	skipped, ok := l.counts.add(kindOf(l.client, r), r.Time)
	if !ok {
		return nil
	}
	if skipped > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("similar_lines_skipped", skipped))
	}
	return l.next.Handle(ctx, r)
}

// WithAttrs notes the client that the lines are about.
func (l *limiter) WithAttrs(attrs []slog.Attr) slog.Handler {
	n := *l
	n.next = l.next.WithAttrs(attrs)
	for _, a := range attrs {
		if a.Key == "client" {
			n.client = a.Value.String()
		}
	}
	return &n
}

// WithGroup returns a handler that qualifies later attributes by name.
func (l *limiter) WithGroup(name string) slog.Handler {
	n := *l
	n.next = l.next.WithGroup(name)
	return &n
}
