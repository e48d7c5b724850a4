package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/config"
)

func TestMain(m *testing.M) {
	if isHelper(os.Args) {
		os.Exit(runHelper(os.Args[1], source{args: os.Args[3:], dir: os.Args[2]}))
	}
	os.Exit(m.Run())
}

// await waits until something holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// helped is a daemon's side of a helper, and a folder with the settings.
type helped struct {
	*privileged
	dir string
}

// help starts a helper whose settings name the program "hook".
func help(t *testing.T, script string) *helped {
	t.Helper()
	h := &helped{dir: t.TempDir()}
	h.program(t, "hook", script)
	h.configure(t, "notify_cmd="+h.path("hook"))
	var err error
	if h.privileged, err = startHelper(h.path("hook"), source{args: []string{"-f", "conf"}, dir: h.dir}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.settings.file.Close(); h.events.file.Close() })
	return h
}

func (h *helped) path(name string) string { return filepath.Join(h.dir, name) }

// program writes a script that runs in the folder.
func (h *helped) program(t *testing.T, name, script string) {
	t.Helper()
	if err := os.WriteFile(h.path(name), []byte("#!/bin/sh\ncd "+h.dir+"\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

func (h *helped) configure(t *testing.T, setting string) {
	t.Helper()
	text := "ext_ifname=wan0\nlistening_ip=lan0\nenable_natpmp=yes\nuuid=3d3cec3a-8cf0-11e0-98ee-001a6bd2d07b\n" + setting + "\n"
	if err := os.WriteFile(h.path("conf"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// read returns what a program wrote.
func (h *helped) read(name string) string {
	text, _ := os.ReadFile(h.path(name))
	return strings.TrimSpace(string(text))
}

func TestHelperReadsSettings(t *testing.T) {
	h := help(t, "")
	h.configure(t, "model_name=first")
	if c, err := h.parse(t.Context()); err != nil || c.Device.ModelName != "first" {
		t.Errorf("%v, %v", c, err)
	}
	h.configure(t, "model_name=second")
	if c, err := h.parse(t.Context()); err != nil || c.Device.ModelName != "second" {
		t.Errorf("%v, %v", c, err)
	}
	h.configure(t, "nonsense\next_ifname=")
	_, err := h.parse(t.Context())
	u, is := errors.AsType[*config.Unusable](err)
	if !is || len(u.Warnings) != 1 || !strings.Contains(u.Reason.Error(), "external interface") {
		t.Errorf("%v", err)
	}
}

// TestHelperRunsConfiguredPrograms demands that the helper runs the notification
// program of the settings, and after a reload the new one, and no other.
func TestHelperRunsConfiguredPrograms(t *testing.T) {
	h := help(t, "echo $UPNP_EVENT >> told")
	h.program(t, "new", "echo new $UPNP_EVENT >> told; echo bad >&2; exit 3")
	values := []string{"UPNP_EVENT=opened"}
	for _, other := range []string{h.path("new"), h.path("hook") + " -x", "/bin/sh -c reboot"} {
		if err := h.notify(t.Context(), other, values); err == nil || !strings.Contains(err.Error(), "do not name") {
			t.Errorf("%s: %v", other, err)
		}
	}
	if err := h.notify(t.Context(), h.path("hook"), []string{"LD_PRELOAD=/tmp/x"}); err == nil {
		t.Error("another variable is accepted")
	}
	if err := h.notify(t.Context(), h.path("hook"), values); err != nil || h.read("told") != "opened" {
		t.Errorf("told %q: %v", h.read("told"), err)
	}
	h.configure(t, "notify_cmd="+h.path("new"))
	if _, err := h.parse(t.Context()); err != nil {
		t.Fatal(err)
	}
	err := h.notify(t.Context(), h.path("new"), values)
	if err == nil || err.Error() != `exit status 3: "bad"` || h.read("told") != "opened\nnew opened" {
		t.Errorf("told %q: %v", h.read("told"), err)
	}
}

// TestHelperEndsPrograms demands that a program ends with the daemon's wait for it,
// and with the daemon, and the helper with the daemon.
func TestHelperEndsPrograms(t *testing.T) {
	h := help(t, "echo $PPID $$ > pids.new; mv pids.new pids; exec sleep 1000")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	notify := func() { ended <- h.notify(ctx, h.path("hook"), nil) }
	pids := func() (helper, program int) {
		await(t, "the program", func() bool {
			n, err := fmt.Sscan(h.read("pids"), &helper, &program)
			return n == 2 && err == nil
		})
		os.Remove(h.path("pids"))
		return helper, program
	}
	go notify()
	_, first := pids()
	cancel()
	if err := <-ended; err == nil || isAlive(first) {
		t.Errorf("the program runs on: %v", err)
	}
	ctx = t.Context()
	go notify()
	helper, second := pids()
	h.settings.file.Close()
	h.events.file.Close()
	<-ended
	await(t, "the end of the program and the helper", func() bool { return !isAlive(second) && !isAlive(helper) })
	if err := h.notify(ctx, h.path("hook"), nil); !errors.Is(err, errHelper) {
		t.Errorf("without a helper: %v", err)
	}
	if _, err := h.parse(t.Context()); !errors.Is(err, errHelper) {
		t.Errorf("without a helper: %v", err)
	}
}

// TestHelperStuck demands that nothing waits for a helper that does not reply, and that
// a late reply is not taken for the next one.
func TestHelperStuck(t *testing.T) {
	h := help(t, "")
	syscall.Kill(h.pid, syscall.SIGSTOP)
	ended, end := context.WithCancel(t.Context())
	end()
	h.configure(t, "model_name=first")
	if _, err := h.parse(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("settings that are not wanted any more: %v", err)
	}
	if err := h.notify(ended, h.path("hook"), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("an event that is not wanted any more: %v", err)
	}
	h.settings.limit, h.events.limit = time.Millisecond, time.Millisecond
	const want = "the helper process has not replied for 1ms; restart the daemon"
	if _, err := h.parse(t.Context()); err == nil || err.Error() != want {
		t.Errorf("settings: %v", err)
	}
	if err := h.notify(t.Context(), h.path("hook"), nil); err == nil || err.Error() != want {
		t.Errorf("an event: %v", err)
	}
	if err := h.err(); err == nil || err.Error() != want {
		t.Errorf("state of the helper: %v", err)
	}
	h.settings.limit, h.events.limit = time.Minute, time.Minute
	syscall.Kill(h.pid, syscall.SIGCONT)
	await(t, "the late reply", func() bool { return h.settings.asked.Load() == nil })
	h.configure(t, "model_name=second")
	if c, err := h.parse(t.Context()); err != nil || c.Device.ModelName != "second" {
		t.Errorf("%v, %v", c, err)
	}
	if err := h.notify(t.Context(), h.path("hook"), nil); err != nil {
		t.Error(err)
	}
	if err := h.err(); err != nil {
		t.Error(err)
	}
}

// isAlive reports whether a process runs.
func isAlive(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}
