package control

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlab"
)

func TestSocketIsForRoot(t *testing.T) {
	netlab.NeedRoot(t, "setresuid")
	r := newRig(t)
	info, err := os.Stat(r.socket)
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Fatalf("mode = %v, %v", info.Mode(), err)
	}
	// Even if the file mode allows others.
	if err := errors.Join(os.Chmod(r.socket, 0o666), openFolders(filepath.Dir(r.socket))); err != nil {
		t.Fatal(err)
	}
	var text []byte
	err = asUnprivileged(func() error {
		c, err := net.Dial("unix", r.socket)
		if err != nil {
			return err
		}
		defer c.Close()
		io.WriteString(c, `{"do":"list"}`+"\n")
		text, err = io.ReadAll(c)
		return err
	})
	if err != nil && !errors.Is(err, unix.ECONNRESET) || len(text) > 0 {
		t.Errorf("an unprivileged user got %q, %v", text, err)
	}
	await(t, "the log line", func() bool { return strings.Contains(r.log.String(), "of user 65534") })
	if got := r.tool("status"); got.status != exitDone {
		t.Errorf("root got %+v", got)
	}
}

// openFolders gives all users access to a folder of the test and its parent.
func openFolders(dir string) error {
	return errors.Join(os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755))
}

// asUnprivileged calls f on a thread of another user, which ends with f.
func asUnprivileged(f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, 65534, 65534, 65534); errno != 0 {
			result <- errno
			return
		}
		result <- f()
	}()
	return <-result
}

func TestStaleSocketsAreReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ctl")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)

	if _, err := listen(path); err == nil || !strings.Contains(err.Error(), "another process answers") {
		t.Errorf("a socket that is in use: %v", err)
	}
	l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	r := &rig{socket: path}
	done := make(chan error)
	go func() {
		done <- New(Options{Socket: path, Status: func() Status { return Status{} }, Table: newRig(t).table}).Run(ctx)
	}()
	await(t, "the new socket", func() bool { return r.tool("status").status != exitFault })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}

	if err := os.WriteFile(path, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := New(Options{Socket: path}).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("a file in the way: %v", err)
	}
	if text, _ := os.ReadFile(path); string(text) != "precious" {
		t.Error("the file was touched")
	}
	if err := New(Options{Socket: path + "/ctl"}).Run(t.Context()); err == nil {
		t.Error("a folder that is none was listened in")
	}
}

func TestInvalidRequests(t *testing.T) {
	r := newRig(t)
	for says, text := range map[string]string{
		`invalid request`:          "hello\n",
		`unknown field`:            `{"do":"list","sudo":true}` + "\n",
		`at most 4096 bytes`:       strings.Repeat("x", maxRequest) + "\n",
		`EOF`:                      `{"do":"list"}`,
		`unknown command`:          `{"do":"dance"}` + "\n",
		`missing client or ports`:  `{"do":"delete","protocol":"TCP"}` + "\n",
		`invalid protocol`:         `{"do":"delete","protocol":"SCTP","first":1,"last":2}` + "\n",
		`first port is above last`: `{"do":"block","first":2,"last":1}` + "\n",
		`explain needs`:            `{"do":"explain"}` + "\n",
		`unable to parse IP`:       `{"do":"delete","client":"x"}` + "\n",
		`Go struct field`:          `{"do":"delete","first":65536}` + "\n",
	} {
		c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: r.socket})
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, text)
		c.CloseWrite()
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil || !strings.Contains(line, says) || !strings.Contains(line, `"end":true`) {
			t.Errorf("%.40q: %s, %v; want %q", text, line, err, says)
		}
		c.Close()
	}
}

// TestIdleConnections answers beside many connections that send no request, without
// waiting for one of them.
func TestIdleConnections(t *testing.T) {
	r := newRig(t)
	idle := make([]net.Conn, 200)
	for i := range idle {
		var err error
		if idle[i], err = net.Dial("unix", r.socket); err != nil {
			t.Fatal(err)
		}
		defer idle[i].Close()
		io.WriteString(idle[i], `{"do":`)
	}
	for range 3 {
		if got := r.tool("status"); got.status != exitDone {
			t.Errorf("%+v", got)
		}
	}
}

// TestOldestReaderIsClosed adds one reader more than there may be.
func TestOldestReaderIsClosed(t *testing.T) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "ctl")})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var r readers
	list := make([]*net.UnixConn, maxReaders+1)
	for i := range list {
		if list[i], err = net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr)); err != nil {
			t.Fatal(err)
		}
		defer list[i].Close()
		r.add(list[i])
	}
	for i, c := range list {
		if err := c.SetDeadline(time.Time{}); (err != nil) != (i == 0) {
			t.Errorf("connection %d: %v", i, err)
		}
		r.remove(c)
	}
	if len(r.list) != 0 {
		t.Errorf("%d readers are left", len(r.list))
	}
}

func TestManyClients(t *testing.T) {
	r := seedMappings(t)
	silent := make([]net.Conn, maxClients)
	for i := range silent {
		var err error
		if silent[i], err = net.Dial("unix", r.socket); err != nil {
			t.Fatal(err)
		}
	}
	var waiting sync.WaitGroup
	for range 50 {
		waiting.Go(func() {
			if got := r.tool("list"); got.status != exitDone || strings.Count(got.stdout, "\n") != 4 {
				t.Errorf("%+v", got)
			}
		})
	}
	for _, c := range silent {
		c.Close()
	}
	waiting.Wait()
}

func FuzzRequest(f *testing.F) {
	f.Add(`{"do":"list"}`)
	f.Add(`{"do":"block","client":"192.168.50.10","protocol":"TCP","first":1,"last":2,"seconds":60}`)
	f.Fuzz(func(t *testing.T, text string) {
		if q, err := readRequest(strings.NewReader(text + "\n")); err != nil && (q != request{}) && strings.Contains(err.Error(), "at most") {
			t.Errorf("%+v, %v", q, err)
		}
	})
}

func FuzzSelectors(f *testing.F) {
	f.Add("192.168.50.10 tcp 8080-8090")
	f.Add("2001:db8::1 80")
	f.Fuzz(func(t *testing.T, line string) {
		var q request
		for _, word := range strings.Fields(line) {
			if err := q.addSelector(word); err != nil && !errors.Is(err, errUsage) {
				t.Errorf("%q: %v", word, err)
			}
		}
		if q.First > q.Last {
			t.Errorf("%q: %+v", line, q)
		}
	})
}
