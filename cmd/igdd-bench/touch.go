package main

import (
	"encoding/binary"
	"errors"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	touches = 3 // per round
	// touchPause is the pause between two touches: longer than a daemon waits for the
	// end of a burst, and then looks.
	touchPause = 700 * time.Millisecond
	// A daemon is quiet that has used no more than quietCPU in quietTime.
	quietCPU  = 200 * time.Microsecond
	quietTime = 1300 * time.Millisecond
	// quietWithin is how long that is awaited.
	quietWithin = 15 * time.Second
)

// touch does what other programs do with the firewall all the time, and leaves nothing.
func (l *lab) touch() error {
	rule := []string{"INPUT", "-p", "tcp", "--dport", "9", "-j", "DROP"}
	return errors.Join(l.iptables(append([]string{"-A"}, rule...)...), l.iptables(append([]string{"-D"}, rule...)...))
}

// touchAll touches the firewall again and again, with something to do right after it.
func (l *lab) touchAll(then func() error) error {
	for range touches {
		if err := errors.Join(l.touch(), then()); err != nil {
			return err
		}
		time.Sleep(touchPause)
	}
	return nil
}

// touchCPU measures the processor time that one touch costs a quiet daemon and its
// children, in µs.
func (r *round) touchCPU() (float64, error) {
	m, err := newCPUMeter(r.process.pids())
	defer m.close()
	if err != nil {
		return 0, err
	}
	before := m.awaitQuiet()
	err = r.lab.touchAll(func() error { return nil })
	return float64((m.read() - before).Nanoseconds()) / 1e3 / touches, err
}

// touchProcesses counts the processes of iptables that one touch makes a quiet daemon
// start. The daemon sees only the programs that were there when it started.
func (r *round) touchProcesses() (float64, error) {
	remove, err := r.lab.installStubs()
	defer remove()
	if err != nil {
		return 0, err
	}
	p, err := r.lab.start(r.daemon.program, leases{present: r.present})
	if err != nil {
		return 0, err
	}
	defer p.stop()
	m, err := newCPUMeter(p.pids())
	defer m.close()
	if err != nil {
		return 0, err
	}
	m.awaitQuiet()
	if _, err := r.lab.calls(); err != nil {
		return 0, err
	}
	err = r.lab.touchAll(func() error { return nil })
	calls, read := r.lab.calls()
	return float64(len(calls)) / touches, errors.Join(err, read)
}

// touchMap measures the median time of a new mapping right after a touch, in µs.
func (r *round) touchMap() (float64, error) {
	w, err := r.newWork(0, touches, operation{do: (*client).natpmpMap, leaves: true})
	if err != nil {
		return 0, err
	}
	defer w.undo()
	if err := r.lab.touchAll(w.doNext); err != nil {
		return 0, err
	}
	return median(w.took), nil
}

// cpuMeter counts the processor time of processes and of all that they start: the
// descriptors of one performance event for each thread.
type cpuMeter []int

func newCPUMeter(pids []string) (m cpuMeter, err error) {
	event := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_TASK_CLOCK, Bits: unix.PerfBitInherit}
	for _, pid := range pids {
		threads, _ := filepath.Glob("/proc/" + pid + "/task/*")
		for _, thread := range threads {
			id, _ := strconv.Atoi(filepath.Base(thread))
			fd, err := unix.PerfEventOpen(&event, id, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
			if err != nil && err != unix.ESRCH {
				return m, err
			}
			if err == nil {
				m = append(m, fd)
			}
		}
	}
	return m, nil
}

func (m cpuMeter) close() {
	for _, fd := range m {
		unix.Close(fd)
	}
}

func (m cpuMeter) read() (sum time.Duration) {
	for _, fd := range m {
		var count [8]byte
		unix.Read(fd, count[:])
		sum += time.Duration(binary.NativeEndian.Uint64(count[:]))
	}
	return sum
}

// awaitQuiet waits until the processes are quiet, or for quietWithin, and returns their
// time.
func (m cpuMeter) awaitQuiet() time.Duration {
	used := m.read()
	for end := time.Now().Add(quietWithin); time.Now().Before(end); {
		time.Sleep(quietTime)
		now := m.read()
		if now-used <= quietCPU {
			return now
		}
		used = now
	}
	return used
}
