package syslog

import (
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

// facilityDaemon is the facility of system daemons (RFC 5424, section 6.2.1).
const facilityDaemon = 3

// Limits of what waits for syslogd: about 50 KiB of usual lines. Linux itself
// keeps 10 lines for a syslogd that does not read (net.unix.max_dgram_qlen).
const (
	maxLines  = 256
	maxLength = 8 << 10 // bytes of a line: the stack of a panic fits
)

// When a line is tried again. After the last attempt the lines wait for the next
// one to be logged, so that a system without syslogd is not woken for them.
const (
	firstPause  = 100 * time.Millisecond // doubled for each attempt: 12.7 s in all
	maxAttempts = 8
	// maxWrite is how long a syslogd may take no line before its socket is opened
	// anew: another syslogd may have taken its place.
	maxWrite = 30 * time.Second
)

// queue holds the lines that syslogd has not taken yet. A goroutine sends them
// in order; it lives only while there are any.
type queue struct {
	tag      string
	paths    []string // where syslogd may listen
	pause    time.Duration
	maxWrite time.Duration
	conn     net.Conn // of the goroutine that sends; nil: not connected

	mu      sync.Mutex    // guards what follows
	lines   []string      // the first is being sent
	lost    int           // lines dropped after the last of lines
	sent    chan struct{} // closed when the goroutine that sends ends; nil: there is none
	closing chan struct{} // closed by close
}

func newQueue(tag string) *queue {
	return &queue{
		tag:      tag,
		paths:    []string{"/dev/log", "/var/run/syslog", "/var/run/log"},
		pause:    firstPause,
		maxWrite: maxWrite,
		closing:  make(chan struct{}),
	}
}

// add queues a line, or counts it as lost if too many wait.
func (q *queue) add(severity int, text string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.lines) >= maxLines {
		q.lost++
	} else {
		q.reportLost()
		q.lines = append(q.lines, q.format(severity, text))
	}
	q.start()
}

// reportLost queues a line about those that were lost since the last one.
func (q *queue) reportLost() {
	if q.lost > 0 {
		q.lines = append(q.lines, q.format(severityWarning, fmt.Sprintf("log lines were lost: syslogd did not take them count=%d", q.lost)))
		q.lost = 0
	}
}

// format returns a line as local syslogds read it: without the name of the host.
func (q *queue) format(severity int, text string) string {
	text = text[:min(len(text), maxLength)]
	return fmt.Sprintf("<%d>%s %s[%d]: %s\n", facilityDaemon<<3|severity, time.Now().Format(time.Stamp), q.tag, os.Getpid(), text)
}

// start has the lines sent, if they are not being sent already.
func (q *queue) start() {
	if q.sent == nil {
		q.sent = make(chan struct{})
		go q.send()
	}
}

// send sends the lines, until there are no more or no syslogd takes them.
func (q *queue) send() {
	for line := q.first(); line != ""; line = q.next() {
		if !q.deliver(line) {
			q.end()
			return
		}
	}
}

// first returns the line to send.
func (q *queue) first() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.lines[0]
}

// next removes the line that was sent and returns the one after it. It returns
// "" if there is none: then the goroutine that sends counts as ended.
func (q *queue) next() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.lines = slices.Delete(q.lines, 0, 1); len(q.lines) == 0 {
		q.reportLost()
	}
	if len(q.lines) == 0 {
		close(q.sent)
		q.sent = nil
		return ""
	}
	return q.lines[0]
}

// end notes that the goroutine that sends gives up.
func (q *queue) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	close(q.sent)
	q.sent = nil
}

// deliver sends one line, and tries again with growing pauses where syslogd is
// not there: it may be restarting. close ends the pauses: then the next attempt
// is the last.
func (q *queue) deliver(line string) bool {
	pause := q.pause
	for attempt := 1; ; attempt++ {
		last := attempt == maxAttempts || q.isClosing()
		if q.write(line) || q.dial() && q.write(line) {
			return true
		}
		if last {
			return false
		}
		select {
		case <-time.After(pause):
		case <-q.closing:
		}
		pause *= 2
	}
}

func (q *queue) isClosing() bool {
	select {
	case <-q.closing:
		return true
	default:
		return false
	}
}

// write writes a line to the socket, and closes the socket if that fails.
func (q *queue) write(line string) bool {
	if q.conn == nil {
		return false
	}
	q.conn.SetWriteDeadline(time.Now().Add(q.maxWrite))
	_, err := q.conn.Write([]byte(line))
	if err != nil {
		q.conn.Close()
		q.conn = nil
		return false
	}
	q.conn.SetWriteDeadline(time.Time{}) // or its timer would wake an idle program
	return true
}

// dial connects to syslogd, wherever it listens.
func (q *queue) dial() bool {
	for _, path := range q.paths {
		for _, network := range []string{"unixgram", "unix"} {
			if c, err := net.Dial(network, path); err == nil {
				q.conn = c
				return true
			}
		}
	}
	return false
}

// close waits for the lines to be sent, at most for limit.
func (q *queue) close(limit time.Duration) {
	q.mu.Lock()
	close(q.closing)
	if len(q.lines) > 0 {
		q.start()
	}
	sent := q.sent
	q.mu.Unlock()
	if sent == nil {
		return
	}
	select {
	case <-sent:
	case <-time.After(limit):
	}
}
