package syslog

import (
	"bufio"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// levelNotice is how the daemon logs a notice.
const levelNotice = slog.LevelInfo + 2

// newTestLog returns a log whose syslogd is looked for at path, and which tries
// again without long pauses.
func newTestLog(t *testing.T, path string) (*slog.Logger, *Handler) {
	t.Helper()
	h := New("test", slog.LevelDebug)
	h.queue.paths = []string{filepath.Join(t.TempDir(), "absent"), path}
	h.queue.pause = time.Millisecond
	return slog.New(h), h
}

// listenDatagram is a syslogd that reads only when it is asked to.
func listenDatagram(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// fill sends lines to a syslogd that does not read, until the kernel keeps no more.
func fill(t *testing.T, path string) {
	t.Helper()
	c, err := net.Dial("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for err == nil {
		c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		_, err = c.Write([]byte("full"))
	}
}

// read returns the next line that a syslogd got.
func read(t *testing.T, c net.Conn) string {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 1<<16)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

// within demands that f returns.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s waits for syslogd", what)
	}
}

// isSending reports whether a goroutine sends lines.
func (h *Handler) isSending() bool {
	h.queue.mu.Lock()
	defer h.queue.mu.Unlock()
	return h.queue.sent != nil
}

// await waits until a condition holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for begin := time.Now(); !holds(); time.Sleep(time.Millisecond) {
		if time.Since(begin) > patience {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestLineOfARecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	syslogd := listenDatagram(t, path)
	log, h := newTestLog(t, path)
	for _, c := range []struct {
		level    slog.Level
		priority int
	}{
		{slog.LevelDebug, 31}, {slog.LevelInfo, 30}, {levelNotice, 29}, {slog.LevelWarn, 28}, {slog.LevelError, 27},
	} {
		log.With("client", "192.0.2.1").Log(t.Context(), c.level, "redirecting port 80", "for", "a game")
		want := fmt.Sprintf(`^<%d>[A-Z][a-z]{2} [ 0-9]\d \d\d:\d\d:\d\d test\[%d\]: redirecting port 80 client=192\.0\.2\.1 for="a game"\n$`, c.priority, os.Getpid())
		if got := read(t, syslogd); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%v: %q, want %s", c.level, got, want)
		}
	}
	log.WithGroup("g").Info("bare")
	log.WithGroup("g").Info("dressed", "time", 1)
	log.Info(strings.Repeat("x", 1<<20))
	if a, b, c := read(t, syslogd), read(t, syslogd), read(t, syslogd); !strings.HasSuffix(a, "]: bare\n") || !strings.HasSuffix(b, "]: dressed g.time=1\n") || len(c) > maxLength+100 {
		t.Errorf("%q, %q and %d octets", a, b, len(c))
	}
	await(t, "the end of the goroutine", func() bool { return !h.isSending() })
	if log := slog.New(New("test", slog.LevelWarn)); log.Enabled(t.Context(), levelNotice) || !log.Enabled(t.Context(), slog.LevelWarn) {
		t.Error("the level is not heeded")
	}
}

var numbered = regexp.MustCompile(`\]: (?:line (\d+)|log lines were lost: syslogd did not take them count=(\d+))\n$`)

// checkNumbered reads until it has accounted for the lines 0 to n-1: they come in
// order, and where some are missing their number stands in their place.
func checkNumbered(t *testing.T, n int, read func() string) (lost int) {
	t.Helper()
	for next := 0; next < n; {
		line := read()
		found := numbered.FindStringSubmatch(line)
		switch {
		case found == nil:
			t.Fatalf("%q", line)
		case found[2] != "":
			count, _ := strconv.Atoi(found[2])
			lost += count
			next += count
		case found[1] != strconv.Itoa(next):
			t.Fatalf("line %s comes where %d belongs", found[1], next)
		default:
			next++
		}
	}
	return lost
}

func TestStuckSyslogdHoldsNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	syslogd := listenDatagram(t, path)
	log, h := newTestLog(t, path)
	const n = 5000
	within(t, "logging", func() {
		for i := range n {
			log.Info("line " + strconv.Itoa(i))
		}
	})
	within(t, "the end", func() { h.Close(10 * time.Millisecond) })
	if lost := checkNumbered(t, n, func() string { return read(t, syslogd) }); lost == 0 || lost > n-maxLines {
		t.Errorf("%d lines of %d were lost", lost, n)
	}
}

func TestStuckStreamHoldsNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	log, h := newTestLog(t, path)
	const n = 20_000
	within(t, "logging", func() {
		for i := range n {
			log.Info("line " + strconv.Itoa(i))
		}
	})
	within(t, "the end", func() { h.Close(10 * time.Millisecond) })
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(patience))
	lines := bufio.NewReader(c)
	if lost := checkNumbered(t, n, func() string { line, _ := lines.ReadString('\n'); return line }); lost == 0 {
		t.Error("no line was lost: the socket was never full")
	}
}

func TestSyslogdComesBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	log, _ := newTestLog(t, path)
	log.Info("line 0") // before the first one starts
	for round := range 3 {
		syslogd := listenDatagram(t, path)
		log.Info(fmt.Sprint("line ", 2*round+1))
		for i := 2 * round; i < 2*round+2; i++ {
			if got, want := read(t, syslogd), fmt.Sprintf("]: line %d\n", i); !strings.HasSuffix(got, want) {
				t.Fatalf("round %d: %q, want %q", round, got, want)
			}
		}
		syslogd.Close()
		os.Remove(path)
		log.Info(fmt.Sprint("line ", 2*round+2)) // while there is none
	}
}

// TestSyslogdComesBackByItself has syslogd start again while no new line comes.
func TestSyslogdComesBackByItself(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	log, h := newTestLog(t, path)
	h.queue.pause = firstPause
	log.Info("line 0")
	if !h.isSending() {
		t.Fatal("it has given up at once")
	}
	if got := read(t, listenDatagram(t, path)); !strings.HasSuffix(got, "]: line 0\n") {
		t.Errorf("%q", got)
	}
}

// TestStuckSyslogdIsReplaced has another syslogd listen at the path of one that
// hangs, which first keeps its socket, and then ends.
func TestStuckSyslogdIsReplaced(t *testing.T) {
	for _, ends := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "log")
		stuck := listenDatagram(t, path)
		fill(t, path)
		log, h := newTestLog(t, path)
		if !ends {
			h.queue.maxWrite = 10 * time.Millisecond
		}
		const n = 100
		for i := range n {
			log.Info("line " + strconv.Itoa(i))
		}
		os.Remove(path)
		syslogd := listenDatagram(t, path)
		if ends {
			stuck.Close()
		}
		for i := range n {
			if got := read(t, syslogd); !strings.HasSuffix(got, fmt.Sprintf("]: line %d\n", i)) {
				t.Fatalf("%q where line %d belongs", got, i)
			}
		}
	}
}

func TestNoSyslogd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	log, h := newTestLog(t, path)
	log.Info("line 0")
	await(t, "the end of attempts", func() bool { return !h.isSending() })
	for i := 1; i < 1000; i++ {
		log.Info("line " + strconv.Itoa(i))
	}
	await(t, "the end of attempts", func() bool { return !h.isSending() })
	syslogd := listenDatagram(t, path)
	log.Info("line 1000")
	if lost := checkNumbered(t, 1001, func() string { return read(t, syslogd) }); lost != 1001-maxLines {
		t.Errorf("%d lines were lost, want %d", lost, 1001-maxLines)
	}
}

func TestCloseSendsWhatWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	log, h := newTestLog(t, path)
	h.queue.pause = time.Hour
	log.Info("line 0")
	time.Sleep(10 * time.Millisecond) // usually it has tried once then
	syslogd := listenDatagram(t, path)
	log.Info("line 1")
	within(t, "the end", func() { h.Close(time.Hour) })
	if lost := checkNumbered(t, 2, func() string { return read(t, syslogd) }); lost != 0 {
		t.Errorf("%d lines were lost", lost)
	}

	absent, h := newTestLog(t, path+"2")
	h.queue.pause = time.Hour
	absent.Info("line 0")
	within(t, "the end without syslogd", func() { h.Close(time.Hour) })
}

func TestLevelsAsText(t *testing.T) {
	var out strings.Builder
	log := slog.New(NewText(&out, slog.LevelInfo))
	log.Debug("a")
	log.Info("b", "level", slog.LevelError)
	log.Log(t.Context(), levelNotice, "c")
	if got := regexp.MustCompile(`time=\S+ `).ReplaceAllString(out.String(), ""); got != "level=INFO msg=b level=ERROR\nlevel=NOTICE msg=c\n" {
		t.Errorf("%q", got)
	}
}
