package xtables_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/xtables"
)

func TestResidentComesAndGoes(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, r *router) {
		p := r.programs(t, new(strings.Builder))
		apply := func(port string) (pid int) {
			t.Helper()
			must(t, p.commit(add(port)))
			r.demandRule(t, port)
			return p.Resident()
		}
		if p.Resident() != 0 {
			t.Error("a process waits before the first transaction")
		}
		first := apply("1")
		if first == 0 || apply("2") != first {
			t.Error("the process does not stay")
		}
		must(t, syscall.Kill(first, syscall.SIGKILL))
		eventually(t, "the killed process is gone", func() bool { return p.Resident() == 0 })
		second := apply("3")
		if second == 0 || second == first {
			t.Errorf("process %d after %d was killed", second, first)
		}
		p.ExpireIdleTimer()
		eventually(t, "the process has ended", func() bool { return p.Resident() == 0 })
		if apply("4") == 0 {
			t.Error("no process after one that was idle")
		}
		p.Close()
		if p.Resident() != 0 {
			t.Error("a process waits after the end")
		}
	})
}

// TestResidentKeepsItsMemory counts the pages that a commit has to ask the
// kernel for: the copies of these tables have hundreds.
func TestResidentKeepsItsMemory(t *testing.T) {
	t.Parallel()
	r := newRouter(t, "legacy")
	p := r.programs(t, new(strings.Builder))
	commit := func(first, n int) {
		t.Helper()
		sections := []xtables.Section{{Table: "nat"}, {Table: "filter"}}
		for port := range n {
			dnat := fmt.Sprintf("-p tcp -m tcp --dport %d -j DNAT --to-destination 192.168.50.10:1", first+port)
			sections[0].Edits = append(sections[0].Edits, xtables.Edit{Op: xtables.Append, Chain: "PREROUTING", Rule: dnat})
			sections[1].Edits = append(sections[1].Edits, add(strconv.Itoa(first+port)))
		}
		must(t, r.Do(func() error { _, err := p.Commit(t.Context(), sections); return err }))
	}
	commit(10000, 5000)
	commit(1, 1) // makes room for a table read,
	commit(2, 1) // and for one changed
	before := pageFaults(t, p.Resident())
	commit(3, 1)
	if n := pageFaults(t, p.Resident()) - before; n > 100 {
		t.Errorf("a commit costs %d page faults", n)
	}
}

// pageFaults returns how many minor faults a process has had (proc(5), minflt).
func pageFaults(t *testing.T, pid int) (n int) {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	must(t, err)
	_, rest, _ := strings.Cut(string(stat), ") ")
	n, err = strconv.Atoi(strings.Fields(rest)[7])
	must(t, err)
	return n
}

// A program whose output does not show comments commits one transaction a
// process, and is tried again less and less often.
func TestProgramThatDoesNotPrintComments(t *testing.T) {
	t.Parallel()
	r := newRouter(t, "legacy")
	r.stub(t, "iptables-restore", `[ -t 1 ] && exit 0; exec $real "$@"`)
	var log strings.Builder
	p := r.programs(t, &log)
	last := time.Duration(0)
	for i := range 12 {
		port := strconv.Itoa(1 + i)
		must(t, p.commit(add(port)))
		r.demandRule(t, port)
		pause := p.RetryPause()
		if p.Resident() != 0 || pause <= last-time.Minute || pause > time.Hour {
			t.Errorf("process %d, the next start in %v after %v", p.Resident(), pause, last)
		}
		last = pause
		p.EndRetryPause()
	}
	if last < 59*time.Minute {
		t.Errorf("the pause is %v", last)
	}
	if n := strings.Count(log.String(), "\n"); n != 1 {
		t.Errorf("%d log lines, want 1:\n%s", n, log.String())
	}
}

// A program that ends well has committed all, though another process keeps its output
// open.
func TestOutputStaysOpen(t *testing.T) {
	t.Parallel()
	r := newRouter(t, "legacy")
	p := r.programs(t, new(strings.Builder))
	left := filepath.Join(r.tools, "left")
	r.stub(t, "iptables-restore", `[ -t 1 ] && exit 1; sleep 1000 & echo $! >`+left+`; exec $real "$@"`)
	failure := p.commit(add("1"))
	text, err := os.ReadFile(left)
	must(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	must(t, err)
	must(t, syscall.Kill(pid, syscall.SIGKILL))
	must(t, failure)
	r.demandRule(t, "1")
}

// A failure to start that passes does not end the resident process for good.
func TestResidentComesBack(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, r *router) {
		failing := filepath.Join(r.tools, "failing") // a line for each start that fails
		r.stub(t, "iptables-restore", `[ -t 1 ] && [ -s `+failing+` ] && sed -i 1d `+failing+` && exit 1; exec $real "$@"`)
		p := r.programs(t, new(strings.Builder))
		demand := func(what, port string, resident bool) {
			t.Helper()
			r.demandRule(t, port)
			if (p.Resident() != 0) != resident {
				t.Errorf("%s: process %d", what, p.Resident())
			}
		}
		r.withoutTerminals(t, func() error { return p.commitHere(add("1")) })
		demand("without terminals", "1", false)
		must(t, p.commit(add("2")))
		demand("in the pause", "2", false)
		p.EndRetryPause()
		must(t, p.commit(add("3")))
		demand("after the pause", "3", true)

		p.Close()
		must(t, os.WriteFile(failing, []byte("once\ntwice\n"), 0o644))
		for _, port := range []string{"4", "5"} {
			must(t, p.commit(add(port)))
			demand("a program that fails", port, false)
			p.EndRetryPause()
		}
		must(t, p.commit(add("6")))
		demand("a program that works again", "6", true)
		p.Close()
		must(t, os.WriteFile(failing, []byte("once more\n"), 0o644))
		must(t, p.commit(add("7")))
		if pause := p.RetryPause(); pause == 0 || pause > 10*time.Second {
			t.Errorf("the first pause after a start that worked is %v", pause)
		}
	})
}

// No descriptors are left for one transaction. The limit is one of the whole
// process: no test runs beside this one.
func TestResidentComesBackAfterDescriptorsWereShort(t *testing.T) {
	r := newRouter(t, "legacy")
	p := r.programs(t, new(strings.Builder))
	var limit syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	err := r.Do(func() error {
		none := syscall.Rlimit{Cur: 3, Max: limit.Max}
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
			return err
		}
		defer syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
		return p.commitHere(add("1"))
	})
	if err == nil || !strings.Contains(err.Error(), "too many open files") {
		t.Errorf("without descriptors: %v", err)
	}
	must(t, p.commit(add("2")))
	p.EndRetryPause()
	must(t, p.commit(add("3")))
	if p.Resident() == 0 {
		t.Error("no process once there are descriptors")
	}
	r.demandRule(t, "2")
	r.demandRule(t, "3")
}

// A program that hangs ends with the context of its transaction, wherever it
// hangs.
func TestProgramsThatHang(t *testing.T) {
	t.Parallel()
	for what, tt := range map[string]struct {
		program, script string
		pause           bool // before the next start of a process
	}{
		"at the start of the process":     {"iptables-restore", `[ -t 1 ] && hang`, false},
		"in a transaction of the process": {"iptables-restore", `[ -t 1 ] && read -r line && echo "$line" && read -r line && hang`, false},
		"in a process of its own":         {"iptables-restore", `[ -t 1 ] && exit 1; hang`, true},
		"while it lists":                  {"iptables-save", `hang`, false},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			r := newRouter(t, "legacy")
			hangs := filepath.Join(r.tools, "hangs")
			r.stub(t, tt.program, `hang() { echo $$ >`+hangs+`.new; mv `+hangs+`.new `+hangs+`; exec sleep 1000; }
`+tt.script+"\nexec $real \"$@\"\n")
			p := r.programs(t, new(strings.Builder))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			pid := pidFrom(hangs, cancel)
			err := r.Do(func() error {
				if tt.program == "iptables-save" {
					_, err := p.Snapshot(ctx)
					return err
				}
				_, err := p.Commit(ctx, []xtables.Section{{Table: "filter", Edits: []xtables.Edit{add("1")}}})
				return err
			})
			if err == nil || ctx.Err() == nil {
				t.Fatalf("it does not hang: %v", err)
			}
			hanging := <-pid
			eventually(t, "the end of the program", func() bool { return syscall.Kill(hanging, 0) != nil })
			if pause := p.RetryPause(); pause > 0 != tt.pause {
				t.Errorf("the next start in %v", pause)
			}
			must(t, os.Rename(filepath.Join(r.tools, "real", tt.program), filepath.Join(r.tools, tt.program)))
			p.EndRetryPause()
			must(t, p.commit(add("2")))
			r.demandRule(t, "2")
			if p.Resident() == 0 {
				t.Error("no process once the program works")
			}
		})
	}
}

// pidFrom waits for a file with a process id, calls found, and returns the id by
// the channel.
func pidFrom(path string, found func()) <-chan int {
	pid := make(chan int, 1)
	go func() {
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			if text, err := os.ReadFile(path); err == nil {
				n, _ := strconv.Atoi(strings.TrimSpace(string(text)))
				pid <- n
				break
			}
		}
		found()
	}()
	return pid
}
