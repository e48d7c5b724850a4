package command_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/command"
)

// script is a command that runs a script of the shell.
func script(text string, args ...string) command.Command {
	return command.Command{Path: "/bin/sh", Args: append([]string{"-c", text, "script"}, args...), MaxStdout: 1 << 16, MaxStderr: 1 << 16}
}

// errStop is the cause of a context that a test ends.
var errStop = errors.New("the test ends it")

func TestRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, c := range map[string]struct {
		command        command.Command
		stdout, stderr string
		truncated      bool
		err            string
	}{
		"both outputs":    {command: script("echo out; echo err >&2"), stdout: "out\n", stderr: "err\n"},
		"arguments":       {command: script(`printf '%s|' "$@"`, "a b", "", "*"), stdout: "a b||*|"},
		"input":           {command: with(script("cat"), func(c *command.Command) { c.Stdin = []byte("text\n") }), stdout: "text\n"},
		"no input":        {command: script("cat")},
		"environment":     {command: with(script("echo $A$HOME"), func(c *command.Command) { c.Env = []string{"A=1"} }), stdout: "1\n"},
		"folder":          {command: with(script("pwd -P"), func(c *command.Command) { c.Dir = dir }), stdout: realPath(t, dir) + "\n"},
		"status":          {command: script("echo out; echo one >&2; echo two >&2; exit 3"), stdout: "out\n", stderr: "one\ntwo\n", err: `exit status 3: "one; two"`},
		"silent failure":  {command: script("exit 4"), err: "exit status 4"},
		"signal":          {command: script("kill -9 $$"), err: "signal: killed"},
		"full":            {command: limited("printf 12345; printf 12345 >&2", 5, 5), stdout: "12345", stderr: "12345"},
		"more than fits":  {command: limited("printf 123456; printf 1234567 >&2", 5, 6), stdout: "12345", stderr: "123456", truncated: true},
		"flood":           {command: limited("yes | head -c 1000000; yes | head -c 1000000 >&2; exit 5", 2, 4), stdout: "y\n", stderr: "y\ny\n", truncated: true, err: `exit status 5: "y; y"`},
		"outputs dropped": {command: limited(`echo out; echo err >&2; test "$(readlink /proc/$$/fd/1 /proc/$$/fd/2 | uniq)" = /dev/null`, 0, 0)},
		"no such program": {command: command.Command{Path: "/nowhere/program"}, err: "/nowhere/program: no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := c.command.Run(t.Context())
			if string(out.Stdout) != c.stdout || string(out.Stderr) != c.stderr || out.Truncated != c.truncated {
				t.Errorf("printed %q and %q, truncated %v", out.Stdout, out.Stderr, out.Truncated)
			}
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("error %v, want %q", err, c.err)
			}
		})
	}
}

// with changes a command.
func with(c command.Command, change func(*command.Command)) command.Command {
	change(&c)
	return c
}

// limited is a script of whose output only so many bytes are kept.
func limited(text string, stdout, stderr int) command.Command {
	return with(script(text), func(c *command.Command) { c.MaxStdout, c.MaxStderr = stdout, stderr })
}

// realPath returns a path without symbolic links.
func realPath(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// started is a command that runs until its context ends, and the process IDs
// that it has written to a file.
type started struct {
	pids []int
	done chan error
}

// start runs a script that writes process IDs, and a line feed at the end, to
// the file $1, and waits for them.
func start(ctx context.Context, t *testing.T, text string) started {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pids")
	s := started{done: make(chan error, 1)}
	go func() {
		_, err := script(text, file).Run(ctx)
		s.done <- err
	}()
	await(t, "the process IDs", func() bool {
		b, _ := os.ReadFile(file)
		return bytes.HasSuffix(b, []byte("\n"))
	})
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range strings.Fields(string(b)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		s.pids = append(s.pids, pid)
		t.Cleanup(func() {
			if isAlive(pid) {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		})
	}
	return s
}

// await waits until a condition holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %s within a minute", what)
		}
	}
}

// isAlive reports whether a process runs: it exists and is not a zombie.
func isAlive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !bytes.Contains(stat, []byte(") Z "))
}

// stubborn are scripts that do not end by themselves, nor by SIGTERM.
var stubborn = map[string]string{
	"itself":                "trap '' TERM INT HUP; echo $$ >$1; while :; do :; done",
	"a child with the pipe": "trap '' TERM INT HUP; sleep 600 & echo $$ $! >$1; wait",
	"a grandchild":          "trap '' TERM INT HUP; (sleep 600 & echo $! >$1.1; wait) & until [ -s $1.1 ]; do :; done; echo $$ $! $(cat $1.1) >$1; wait",
}

func TestEndOfContextEndsTheGroup(t *testing.T) {
	t.Parallel()
	for name, text := range stubborn {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancelCause(t.Context())
			s := start(ctx, t, text)
			for _, pid := range s.pids {
				if group, err := syscall.Getpgid(pid); err != nil || group != s.pids[0] {
					t.Errorf("process %d is in group %d, %v; want %d", pid, group, err, s.pids[0])
				}
			}
			cancel(errStop)
			if err := <-s.done; err != errStop {
				t.Errorf("error %v, want %v", err, errStop)
			}
			for _, pid := range s.pids {
				await(t, "end of all processes", func() bool { return !isAlive(pid) })
			}
		})
	}
}

func TestDeadline(t *testing.T) {
	t.Parallel()
	for name, text := range stubborn {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// A busy machine may need more than the first deadline to start them.
			for limit := 100 * time.Millisecond; ; limit *= 2 {
				file := filepath.Join(t.TempDir(), "pids")
				ctx, cancel := context.WithTimeoutCause(t.Context(), limit, errStop)
				_, err := script(text, file).Run(ctx)
				cancel()
				if err != errStop {
					t.Fatalf("error %v, want %v", err, errStop)
				}
				b, _ := os.ReadFile(file)
				for _, field := range strings.Fields(string(b)) {
					pid, _ := strconv.Atoi(field)
					await(t, "end of all processes", func() bool { return !isAlive(pid) })
				}
				if bytes.HasSuffix(b, []byte("\n")) {
					return
				}
				if limit > time.Minute {
					t.Fatal("the script does not start its processes")
				}
			}
		})
	}
}

func TestContextThatHasEnded(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errStop)
	file := filepath.Join(t.TempDir(), "file")
	if _, err := script("echo >$1", file).Run(ctx); err != errStop {
		t.Errorf("error %v, want %v", err, errStop)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the program was started")
	}
}

func TestProcessLeftBehind(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		isErr  func(error) bool
	}{
		"success": {0, func(err error) bool { return errors.Is(err, exec.ErrWaitDelay) }},
		"failure": {6, func(err error) bool { return err != nil && err.Error() == "exit status 6" }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t.Context(), t, fmt.Sprintf("sleep 600 & echo $! >$1; exit %d", c.status))
			if err := <-s.done; !c.isErr(err) {
				t.Errorf("error %v", err)
			}
			if !isAlive(s.pids[0]) {
				t.Error("what the program left running was ended")
			}
		})
	}
}

func TestExitError(t *testing.T) {
	t.Parallel()
	_, err := script("echo no >&2; exit 7").Run(t.Context())
	exit, ok := errors.AsType[*command.ExitError](err)
	if !ok || exit.ExitCode() != 7 || !exit.Exited() || string(exit.Stderr) != "no\n" {
		t.Errorf("error %#v", err)
	}
}
