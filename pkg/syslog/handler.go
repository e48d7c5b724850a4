// Package syslog writes log lines to the system's log without ever waiting for
// it, and limits how often a line may repeat.
package syslog

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// The severities of RFC 5424, section 6.2.1.
const (
	severityError = 3 + iota
	severityWarning
	severityNotice
	severityInfo
	severityDebug
)

// severityOf returns the severity of a level. What lies between slog's Info and
// Warn is a notice.
func severityOf(l slog.Level) int {
	switch {
	case l >= slog.LevelError:
		return severityError
	case l >= slog.LevelWarn:
		return severityWarning
	case l > slog.LevelInfo:
		return severityNotice
	case l == slog.LevelInfo:
		return severityInfo
	}
	return severityDebug
}

// Handler is a slog.Handler whose records become lines of the system's log. It
// never waits: lines that syslogd does not take are kept up to a limit, the rest
// is dropped, counted, and the count logged.
type Handler struct {
	text  slog.Handler // writes the attributes to line
	mu    *sync.Mutex  // guards line, and keeps the order of records
	line  *bytes.Buffer
	queue *queue
}

// New returns a handler for records of at least level. The tag is the name of
// the program in the log. Nothing is opened before the first record.
func New(tag string, level slog.Level) *Handler {
	line := new(bytes.Buffer)
	bare := func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
			return slog.Attr{}
		}
		return a
	}
	text := slog.NewTextHandler(line, &slog.HandlerOptions{Level: level, ReplaceAttr: bare})
	return &Handler{text: text, mu: new(sync.Mutex), line: line, queue: newQueue(tag)}
}

// Enabled reports whether records of the level are logged.
func (h *Handler) Enabled(ctx context.Context, l slog.Level) bool { return h.text.Enabled(ctx, l) }

// Handle queues the line of one record: its message, then its attributes.
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.line.Reset()
	if err := h.text.Handle(ctx, r); err != nil {
		return err
	}
	h.queue.add(severityOf(r.Level), strings.TrimSpace(r.Message+" "+h.line.String()))
	return nil
}

// WithAttrs returns a handler whose records carry attrs.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	n := *h
	n.text = h.text.WithAttrs(attrs)
	return &n
}

// WithGroup returns a handler that qualifies later attributes by name.
func (h *Handler) WithGroup(name string) slog.Handler {
	n := *h
	n.text = h.text.WithGroup(name)
	return &n
}

// Close waits until syslogd has all lines, at most for limit, and not at all for
// a syslogd that is not there.
func (h *Handler) Close(limit time.Duration) { h.queue.close(limit) }

// NewText returns a handler that writes records of at least level as text, with
// the levels between Info and Warn called NOTICE.
func NewText(w io.Writer, level slog.Level) slog.Handler {
	return slog.NewTextHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: nameNotice})
}

func nameNotice(groups []string, a slog.Attr) slog.Attr {
	if l, ok := a.Value.Any().(slog.Level); ok && len(groups) == 0 && a.Key == slog.LevelKey && severityOf(l) == severityNotice {
		a.Value = slog.StringValue("NOTICE")
	}
	return a
}
