package daemon_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// usage is what a daemon and its children hold.
type usage struct {
	memory      int // the daemon's part of the memory in use (PSS), in kB
	children    int // that of its children
	threads     int // of all
	descriptors int // of all
}

// String returns the columns of the table.
func (u usage) String() string {
	return fmt.Sprintf("%d | %d | %d | %d", u.memory, u.children, u.threads, u.descriptors)
}

// usage measures the daemon.
func (r *rig) usage(t testing.TB) usage {
	t.Helper()
	pids := descendants(r.pid())
	u, err := usageOf(pids[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids[1:] {
		if child, err := usageOf(pid); err == nil { // it may have ended
			u.children += child.memory
			u.threads += child.threads
			u.descriptors += child.descriptors
		}
	}
	return u
}

// descendants returns the IDs of a process, first, and of its children and theirs.
func descendants(pid int) []string {
	all := []string{fmt.Sprint(pid)}
	for i := 0; i < len(all); i++ {
		lists, _ := filepath.Glob("/proc/" + all[i] + "/task/*/children") // the pattern is well-formed
		for _, list := range lists {
			children, _ := os.ReadFile(list) // the thread may have ended
			all = append(all, strings.Fields(string(children))...)
		}
	}
	return all
}

// usageOf measures one process.
func usageOf(pid string) (u usage, err error) {
	for _, name := range []string{"smaps_rollup", "status"} {
		text, err := os.ReadFile("/proc/" + pid + "/" + name)
		if err != nil {
			return u, err
		}
		for line := range strings.Lines(string(text)) {
			fmt.Sscanf(line, "Pss: %d", &u.memory)
			fmt.Sscanf(line, "Threads: %d", &u.threads)
		}
	}
	open, err := os.ReadDir("/proc/" + pid + "/fd")
	u.descriptors = len(open)
	return u, err
}

// least returns the least that was held of each.
func least(list []usage) usage {
	u := list[0]
	for _, v := range list[1:] {
		u = usage{min(u.memory, v.memory), min(u.children, v.children), min(u.threads, v.threads), min(u.descriptors, v.descriptors)}
	}
	return u
}

// demandFlat demands that a daemon does not hold more than before. What it holds for a
// while does not count: what is never released raises the least, too.
func (r *rig) demandFlat(t testing.TB, before, after []usage) {
	t.Helper()
	b := least(before)
	await(t, fmt.Sprintf("it to hold no more than %v", b), func() bool {
		after = append(after, r.usage(t))
		return least(after).isLike(b)
	})
	t.Logf("at least %v, and before %v", least(after), b)
}

// isLike reports whether a daemon holds about as much as before: a quarter more memory
// and 4 MB are garbage that is collected later.
func (u usage) isLike(before usage) bool {
	return u.memory <= before.memory*5/4+4096 && u.children <= before.children*5/4+4096 &&
		u.threads <= before.threads+8 && u.descriptors <= before.descriptors+4
}
