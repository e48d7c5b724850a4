package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// startLimit limits the time of a start. miniupnpd's with 5,000 mappings takes six to
// seven minutes.
const startLimit = 10 * time.Minute

// process is a daemon in the background.
type process struct {
	lab       *lab
	pid       int
	begin     time.Time
	exited    chan struct{}
	startTime time.Duration // until it answered and all its rules were in place
}

// leases describes the lease file when the daemon starts: the number of leases, and how
// many of them expire soon; the rest expires tomorrow.
type leases struct {
	present, expiring int
	soon              time.Time
}

// lines returns the lease file.
func (f leases) lines() (lines []byte) {
	late := time.Now().Add(24 * time.Hour)
	for i := range lease(f.present) {
		expires := late
		if int(i) < f.expiring {
			expires = f.soon
		}
		lines = append(lines, i.line(expires)...)
	}
	return lines
}

// launch starts a daemon on a router in its state after a boot.
func (l *lab) launch(program string, found leases) (*process, error) {
	if err := l.clear(); err != nil {
		return nil, err
	}
	if err := l.writeFiles(found); err != nil {
		return nil, err
	}
	return l.run(l.command(program))
}

// run starts a daemon by its command.
func (l *lab) run(cmd *exec.Cmd) (*process, error) {
	p := &process{lab: l, begin: time.Now(), exited: make(chan struct{})}
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s%s", err, out, l.log.recent())
	}
	// Its exit can be awaited only when the process ID is known.
	if err := p.waitFor(startLimit, p.wrotePIDFile); err != nil {
		return nil, fmt.Errorf("pid file: %w: %s", err, l.log.recent())
	}
	go func() { unix.Wait4(p.pid, nil, 0, nil); close(p.exited) }()
	return p, nil
}

// wrotePIDFile reports whether the daemon has written its pid file.
func (p *process) wrotePIDFile() bool {
	text, err := os.ReadFile(p.lab.pidFile())
	if err != nil {
		return false
	}
	p.pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
	return err == nil
}

// start launches a daemon and returns when the rules of all leases are in place and
// it answers clients.
func (l *lab) start(program string, found leases) (*process, error) {
	p, err := l.launch(program, found)
	if err != nil {
		return nil, err
	}
	return p, p.awaitReady(found.present)
}

// awaitReady waits until n mappings are in the firewall and the daemon answers clients, or
// stops it.
func (p *process) awaitReady(n int) error {
	c, err := newClient(0, 0, nil, probeTime)
	if err == nil {
		defer c.close()
		err = p.waitFor(startLimit, func() bool { return p.lab.hasMappings(n) && c.externalAddress(0) == nil })
	}
	p.startTime = time.Since(p.begin)
	if err != nil {
		p.stop()
		err = fmt.Errorf("start with %d leases: %w: %s", n, err, p.lab.log.recent())
	}
	return err
}

func (l *lab) writeFiles(found leases) error {
	settings := append(fmt.Appendf(nil, conf, l.leaseFile()), l.settings...)
	if found.present > quota {
		settings = append(settings, "max_per_lan=16384\n"...)
	}
	return errors.Join(
		os.WriteFile(l.leaseFile(), found.lines(), 0o644),
		os.WriteFile(l.confFile(), settings, 0o644))
}

// waitFor waits for a condition, at most for limit. Checking it may be expensive: the
// pauses grow with the time spent, which leaves the result accurate to 2 %.
func (p *process) waitFor(limit time.Duration, condition func() bool) error {
	begin := time.Now()
	for !condition() {
		spent := time.Since(begin)
		if spent > limit {
			return fmt.Errorf("not done after %v", limit)
		}
		select {
		case <-p.exited:
			return errors.New("the daemon exited")
		case <-time.After(max(time.Millisecond, spent/50)):
		}
	}
	return nil
}

// hasExited reports whether the daemon has ended.
func (p *process) hasExited() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// stop stops the daemon if it is running, and kills it if it does not react.
func (p *process) stop() {
	for _, signal := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if p.hasExited() {
			return
		}
		unix.Kill(p.pid, signal)
		select {
		case <-p.exited:
		case <-time.After(5 * time.Second):
		}
	}
}

// pids returns the process IDs of the daemon, first, and of all its descendants.
func (p *process) pids() []string {
	all := []string{strconv.Itoa(p.pid)}
	for i := 0; i < len(all); i++ {
		lists, _ := filepath.Glob("/proc/" + all[i] + "/task/*/children")
		for _, list := range lists {
			children, _ := os.ReadFile(list)
			all = append(all, strings.Fields(string(children))...)
		}
	}
	return all
}

// resident returns the memory of processes, in KiB.
func resident(pids []string) (sum float64) {
	for _, pid := range pids {
		sum += field("/proc/"+pid+"/status", "VmRSS:")
	}
	return sum
}

// switches returns the voluntary context switches of the threads of the daemon and its
// children, which is how often they were woken.
func (p *process) switches() (sum float64) {
	for _, pid := range p.pids() {
		threads, _ := filepath.Glob("/proc/" + pid + "/task/*/status")
		for _, status := range threads {
			sum += field(status, "voluntary_ctxt_switches:")
		}
	}
	return sum
}

// field returns the number after a word at the start of a line of a file, 0 if there is
// none.
func field(file, word string) float64 {
	text, _ := os.ReadFile(file)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, word); ok {
			n, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return n
		}
	}
	return 0
}
