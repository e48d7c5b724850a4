package daemon

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// take takes a pid file that no process holds.
func take(t *testing.T, path string) *PIDFile {
	t.Helper()
	p, err := writePIDFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestPIDFileIsSeen hands a pid file over while the next one already tries:
// the daemon that gets it must have the file that others see. Without the check
// that follows the lock, or with it before the lock, one of the first 100 rounds
// fails.
func TestPIDFileIsSeen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	old := take(t, path)
	for range 1000 {
		next := make(chan *PIDFile)
		go func() {
			for {
				if p, err := writePIDFile(path); err == nil {
					next <- p
					return
				}
			}
		}()
		old.Remove()
		old = <-next
		if text, err := os.ReadFile(path); err != nil || string(text) != strconv.Itoa(os.Getpid())+"\n" {
			t.Fatalf("the pid file that a daemon holds reads %q, %v", text, err)
		}
	}
	old.Remove()
	if _, err := os.Stat(path); err == nil {
		t.Error("the last one leaves its pid file")
	}
}

// TestPIDFileHasOneHolder has several daemons pass a pid file round: there is never more
// than one that has it, and the file that it has locked is the one at the path. The
// locks belong to open files, so that one process is as good as several.
func TestPIDFileHasOneHolder(t *testing.T) {
	const daemons, turns = 4, 500
	path := filepath.Join(t.TempDir(), "pid")
	var holders, unlinked atomic.Int32
	var all sync.WaitGroup
	for range daemons {
		all.Go(func() {
			for turn := 0; turn < turns; {
				p, err := writePIDFile(path)
				if err != nil {
					continue // another one has it
				}
				if holders.Add(1) > 1 || !isFileAt(p.file, path) {
					unlinked.Add(1)
				}
				holders.Add(-1)
				p.Remove()
				turn++
			}
		})
	}
	all.Wait()
	if n := unlinked.Load(); n > 0 {
		t.Errorf("in %d of %d turns the daemon had a file that others do not see", n, daemons*turns)
	}
}

// TestPIDFileReplaced demands that a file that another process has put in the
// place of the locked one is no proof of a daemon, and is not removed by it.
func TestPIDFileReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	old := take(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	next := take(t, path)
	old.MarkStopping()
	old.Remove()
	if _, err := writePIDFile(path); err != errRunning {
		t.Errorf("a third one gets %v, want %v", err, errRunning)
	}
	next.Remove()
}

func TestPIDFileOfOneThatEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	old := take(t, path)
	if _, err := AwaitPIDFile(t.Context(), path); err != errRunning {
		t.Errorf("while it serves: %v, want %v", err, errRunning)
	}
	old.MarkStopping()
	old.MarkStopping() // twice is no more
	if _, err := writePIDFile(path); !errors.Is(err, errStopping) || !errors.Is(err, errRunning) {
		t.Errorf("while it ends: %v, want %v", err, errStopping)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := AwaitPIDFile(ctx, path); !errors.Is(err, errStopping) {
		t.Errorf("told to stop while it waits: %v, want %v", err, errStopping)
	}
	const newcomers = 3
	var mu sync.Mutex
	var serve []*PIDFile
	var all sync.WaitGroup
	for range newcomers {
		all.Go(func() {
			p, err := AwaitPIDFile(t.Context(), path)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				serve = append(serve, p)
			} else if err != errRunning {
				t.Errorf("a newcomer: %v", err)
			}
		})
	}
	old.Remove()
	all.Wait()
	if len(serve) != 1 {
		t.Errorf("%d newcomers serve, want one", len(serve))
	}
}

// TestPlantedPIDFile demands that nothing is written through what another user may have
// left in the pid file's place, in a folder like /tmp, and that nothing waits.
func TestPlantedPIDFile(t *testing.T) {
	const stranger = 12345
	for name, planted := range map[string]func(path, target string) error{
		"a link":         func(path, target string) error { return os.Symlink(target, path) },
		"a link to none": func(path, target string) error { return os.Symlink(target+".none", path) },
		"a hard link":    func(path, target string) error { return os.Link(target, path) },
		"a pipe":         func(path, _ string) error { return syscall.Mkfifo(path, 0o666) },
		"a device":       func(path, _ string) error { return syscall.Mknod(path, syscall.S_IFCHR|0o666, 1<<8|3) },
		"a folder":       func(path, _ string) error { return os.Mkdir(path, 0o755) },
		"a stranger's": func(path, _ string) error {
			return errors.Join(os.WriteFile(path, nil, 0o666), os.Chown(path, stranger, stranger))
		},
		"a stranger's link": func(path, target string) error {
			return errors.Join(os.Symlink(target, path), os.Lchown(path, stranger, stranger))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, target := t.TempDir(), filepath.Join(t.TempDir(), "precious")
			path := filepath.Join(dir, "pid")
			if err := errors.Join(os.Chmod(dir, os.ModeSticky|0o777), os.WriteFile(target, []byte("root's"), 0o644), planted(path, target)); err != nil {
				t.Fatal(err)
			}
			if _, err := AwaitPIDFile(t.Context(), path); err == nil || errors.Is(err, errRunning) {
				t.Errorf("it is taken: %v", err)
			}
			if text, err := os.ReadFile(target); err != nil || string(text) != "root's" {
				t.Errorf("the target reads %q, %v", text, err)
			}
			if _, err := os.Lstat(target + ".none"); err == nil {
				t.Error("a file is made elsewhere")
			}
		})
	}
}
