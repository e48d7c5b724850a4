package syslog

import (
	"cmp"
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"igdd/pkg/fair"
)

// How often lines of one kind may be written in a window before they are only
// counted: for one host, in all before only hosts without any may write one, and in
// all. Lines are of one kind if their loggers say so, or if they have the level and the
// message in common, but for numbers and addresses in it.
const (
	burst       = 10
	sharedBurst = 80
	totalBurst  = 100
	window      = time.Minute
	// maxKinds bounds the memory: when so many kinds are known, counting begins
	// anew.
	maxKinds = 512
)

// The attributes of a logger that say which host its lines are about: the name of
// the host, or else the address of the client; and of which kind they are. Host and
// kind are not written.
const (
	hostKey   = "host"
	clientKey = "client"
	kindKey   = "kind"
)

// limiter passes on a burst of each kind of line, and says later how many were
// skipped.
type limiter struct {
	next         slog.Handler
	host, client string
	kind         string // "": that of the message
	counts       *counts
}

// Limit returns a handler that passes records on to next, but of each kind only so
// many in a time: for each host that the attribute "host" of the logger names, or
// its attribute "client" if there is none, and for all together. The attributes "host"
// and "kind" of the logger are not passed on.
func Limit(next slog.Handler) slog.Handler {
	return &limiter{next: next, counts: &counts{seen: make(map[kind]*count)}}
}

// kind is what the same lines have in common.
type kind struct {
	level   slog.Level
	message string
}

// kindOf returns the kind of a record. Numbers and addresses do not count: a client
// can name any port, and each of them would be another message.
func (l *limiter) kindOf(r slog.Record) kind {
	if l.kind != "" {
		return kind{r.Level, l.kind}
	}
	words := strings.Fields(r.Message)
	for i, word := range words {
		if colon := strings.IndexByte(word, ':'); colon >= 0 && colon < len(word)-1 {
			words[i] = ":" // an IPv6 address, perhaps with a port
		} else {
			words[i] = withoutNumbers(word)
		}
	}
	return kind{r.Level, strings.Join(words, " ")}
}

// withoutNumbers returns a word in which each number is 0.
func withoutNumbers(word string) string {
	var previous rune
	return strings.Map(func(c rune) rune {
		inNumber := isDigit(c) && isDigit(previous)
		previous = c
		switch {
		case inNumber:
			return -1
		case isDigit(c):
			return '0'
		}
		return c
	}, word)
}

func isDigit(c rune) bool { return '0' <= c && c <= '9' }

type counts struct {
	mu   sync.Mutex
	seen map[kind]*count
}

// count counts the lines of a kind in a window, and how many were skipped.
type count struct {
	since   time.Time
	hosts   *fair.Counts[string]
	skipped int
}

func newCount(now time.Time) *count {
	return &count{since: now, hosts: &fair.Counts[string]{PerHost: burst, Shared: sharedBurst, Reserved: 1, Total: totalBurst}}
}

// add counts one line about a host. It reports whether the line is to be written,
// and at the beginning of a window how many were skipped before it.
func (c *counts) add(k kind, host string, now time.Time) (skipped int, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.seen[k]
	if n == nil && len(c.seen) >= maxKinds {
		clear(c.seen)
	}
	if n == nil || now.Sub(n.since) >= window {
		if n != nil {
			skipped = n.skipped
		}
		n = newCount(now)
		c.seen[k] = n
	}
	if !n.hosts.Acquire(host) {
		n.skipped++
		return 0, false
	}
	return skipped, true
}

// Enabled reports whether records of the level are logged.
func (l *limiter) Enabled(ctx context.Context, v slog.Level) bool { return l.next.Enabled(ctx, v) }

// Handle passes the record on unless lines of its kind have come too often.
func (l *limiter) Handle(ctx context.Context, r slog.Record) error {
	skipped, ok := l.counts.add(l.kindOf(r), cmp.Or(l.host, l.client), r.Time)
	if !ok {
		return nil
	}
	if skipped > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("similar_lines_skipped", skipped))
	}
	return l.next.Handle(ctx, r)
}

// WithAttrs notes the host that the lines are about.
func (l *limiter) WithAttrs(attrs []slog.Attr) slog.Handler {
	n := *l
	passed := make([]slog.Attr, 0, len(attrs))
	for _, a := range attrs {
		switch a.Key {
		case hostKey:
			n.host = a.Value.String()
			continue
		case kindKey:
			n.kind = a.Value.String()
			continue
		case clientKey:
			n.client = a.Value.String()
		}
		passed = append(passed, a)
	}
	n.next = l.next.WithAttrs(passed)
	return &n
}

// WithGroup returns a handler that qualifies later attributes by name.
func (l *limiter) WithGroup(name string) slog.Handler {
	n := *l
	n.next = l.next.WithGroup(name)
	return &n
}
