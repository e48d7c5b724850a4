package daemon_test

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// soakSyslogd is the router's syslogd.
type soakSyslogd struct {
	conn  net.Conn
	stuck sync.Mutex // held while it reads nothing

	mu    sync.Mutex
	lines []string // the last ones, oldest first
}

// How many lines are kept, and how many are shown when something is wrong.
const (
	keptLines  = 4000
	shownLines = 40
)

// newSoakSyslogd reads from a socket until it is closed.
func newSoakSyslogd(c net.Conn) *soakSyslogd {
	l := &soakSyslogd{conn: c}
	c.SetReadDeadline(time.Time{})
	go l.run()
	return l
}

func (l *soakSyslogd) run() {
	b := make([]byte, 1<<16)
	for {
		n, err := l.conn.Read(b)
		if err != nil {
			return
		}
		l.stuck.Lock()
		l.keep(strings.TrimSpace(string(b[:n])))
		l.stuck.Unlock()
	}
}

func (l *soakSyslogd) keep(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
	if len(l.lines) > 2*keptLines {
		l.lines = slices.Clone(l.lines[keptLines:])
	}
}

func (l *soakSyslogd) stop()   { l.stuck.Lock() }
func (l *soakSyslogd) resume() { l.stuck.Unlock() }

// about returns the last lines about a claim, warnings and errors, and lines of all kinds.
func (l *soakSyslogd) about(c claim) (text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var of, warnings []string
	for _, line := range l.lines {
		if strings.Contains(line, c.client.String()) && strings.Contains(line, fmt.Sprint(c.port)) {
			of = append(of, line)
		}
		if strings.HasPrefix(line, "<27>") || strings.HasPrefix(line, "<28>") {
			warnings = append(warnings, line)
		}
	}
	return "\nthe log about that:" + last(of) + "\nwarnings and errors:" + last(warnings) + "\nthe log:" + last(l.lines)
}

// last returns the last of some lines.
func last(lines []string) (text string) {
	for _, line := range lines[max(0, len(lines)-shownLines):] {
		text += "\n    " + line
	}
	return text
}
