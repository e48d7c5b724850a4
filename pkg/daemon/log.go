package daemon

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"log/syslog"
	"strings"
	"sync"
	"time"

	"igdd/pkg/portmap"
)

// Limits of the log: each kind of line from one client may come this often
// before it is counted instead of written.
const (
	burst  = 10
	window = time.Minute
)

// NewLog returns the daemon's log: syslog with ident miniupnpd and facility
// daemon, or text on stderr in the foreground. Lines below level are dropped,
// floods of one kind are summarised.
func NewLog(stderr io.Writer, level slog.Level) (*slog.Logger, error) {
	var sink slog.Handler
	if stderr != nil {
		sink = slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level, ReplaceAttr: nameNotice})
	} else {
		out, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_NOTICE, "miniupnpd")
		if err != nil {
			return slog.New(slog.DiscardHandler), err
		}
		sink = newSyslogHandler(out, level)
	}
	return slog.New(&limiter{Handler: sink, counts: &counts{seen: make(map[string]*count)}}), nil
}

// nameNotice prints the level between INFO and WARN by its syslog name.
func nameNotice(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.LevelKey && a.Value.Any() == portmap.LevelNotice {
		a.Value = slog.StringValue("NOTICE")
	}
	return a
}

// syslogHandler words records as one line of text and sends them with the
// priority of their level.
type syslogHandler struct {
	slog.Handler // writes text to line
	mu           *sync.Mutex
	line         *bytes.Buffer
	out          *syslog.Writer
}

func newSyslogHandler(out *syslog.Writer, level slog.Level) *syslogHandler {
	line := new(bytes.Buffer)
	bare := func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
			return slog.Attr{}
		}
		return a
	}
	text := slog.NewTextHandler(line, &slog.HandlerOptions{Level: level, ReplaceAttr: bare})
	return &syslogHandler{Handler: text, mu: new(sync.Mutex), line: line, out: out}
}

// Handle sends one record.
func (h *syslogHandler) Handle(ctx context.Context, r slog.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.line.Reset()
	if err := h.Handler.Handle(ctx, r); err != nil {
		return err
	}
	text := strings.TrimSpace(r.Message + " " + h.line.String())
	switch {
	case r.Level >= slog.LevelError:
		return h.out.Err(text)
	case r.Level >= slog.LevelWarn:
		return h.out.Warning(text)
	case r.Level >= portmap.LevelNotice:
		return h.out.Notice(text)
	case r.Level >= slog.LevelInfo:
		return h.out.Info(text)
	}
	return h.out.Debug(text)
}

// WithAttrs returns a handler whose records carry attrs.
func (h *syslogHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	n := *h
	n.Handler = h.Handler.WithAttrs(attrs)
	return &n
}

// WithGroup returns a handler whose attributes stand in a group.
func (h *syslogHandler) WithGroup(name string) slog.Handler {
	n := *h
	n.Handler = h.Handler.WithGroup(name)
	return &n
}

// limiter lets a burst of each kind of line through and says later how many
// were left out. A kind is the client that caused it and the message's
// beginning, so that texts with ports in them count as one kind.
type limiter struct {
	slog.Handler
	client string
	counts *counts
}

type counts struct {
	mu   sync.Mutex
	seen map[string]*count
}

type count struct {
	since   time.Time
	n, lost int
}

// maxKinds bounds the memory of the limiter.
const maxKinds = 512

// Handle passes the record on unless its kind has come too often.
func (l *limiter) Handle(ctx context.Context, r slog.Record) error {
	lost, pass := l.counts.admit(l.client+" "+r.Message[:min(12, len(r.Message))], r.Time)
	if !pass {
		return nil
	}
	if lost > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("similar_lines_left_out", lost))
	}
	return l.Handler.Handle(ctx, r)
}

// admit counts one line of a kind; lost is how many were left out before it.
func (c *counts) admit(kind string, now time.Time) (lost int, pass bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.seen[kind]
	if k == nil {
		if len(c.seen) >= maxKinds {
			clear(c.seen)
		}
		k = &count{since: now}
		c.seen[kind] = k
	}
	if now.Sub(k.since) >= window {
		lost = k.lost
		*k = count{since: now}
	}
	if k.n++; k.n > burst {
		k.lost++
		return 0, false
	}
	return lost, true
}

// WithAttrs notes the client that the lines are about.
func (l *limiter) WithAttrs(attrs []slog.Attr) slog.Handler {
	n := *l
	n.Handler = l.Handler.WithAttrs(attrs)
	for _, a := range attrs {
		if a.Key == "client" {
			n.client = a.Value.String()
		}
	}
	return &n
}

// WithGroup returns a handler whose attributes stand in a group.
func (l *limiter) WithGroup(name string) slog.Handler {
	n := *l
	n.Handler = l.Handler.WithGroup(name)
	return &n
}
