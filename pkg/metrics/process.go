package metrics

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Process are the metrics of the process itself. What the system does not tell, as
// without /proc, is left out.
type Process struct {
	resident, openFDs, maxFDs, cpu, started, goroutines, heap *Gauge

	start time.Time
	shown time.Time // the start by the wall clock as last shown
}

// Process adds the metrics of the process. Their names begin with the prefix: a program
// that passes them on has metrics of the usual names itself.
func (r *Registry) Process(prefix string) *Process {
	now := time.Now()
	return &Process{
		resident:   r.Gauge(prefix+"process_resident_memory_bytes", "Memory of the process that is in RAM."),
		openFDs:    r.Gauge(prefix+"process_open_fds", "Open file descriptors of the process."),
		maxFDs:     r.Gauge(prefix+"process_max_fds", "Limit of open file descriptors of the process."),
		cpu:        r.Total(prefix+"process_cpu_seconds_total", "Processor time that the process has used, without the programs that it runs."),
		started:    r.Gauge(prefix+"process_start_time_seconds", "When the process was started, in seconds since 1970."),
		goroutines: r.Gauge(prefix+"go_goroutines", "Goroutines that exist."),
		heap:       r.Gauge(prefix+"go_memstats_heap_inuse_bytes", "Memory of the heap that is in use."),
		start:      now,
		shown:      now,
	}
}

// Update sets the metrics.
func (p *Process) Update() {
	p.updateMemory()
	p.updateFiles()
	var usage unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &usage) == nil {
		p.cpu.Set(time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds())
	}
	p.shown = startTime(p.shown, time.Now(), time.Since(p.start))
	p.started.Set(float64(p.shown.Unix()))
}

// startTime returns when the process was started by the wall clock, which is now. It
// stays what it was unless the clock was set, so that it changes with the process only.
func startTime(was, now time.Time, age time.Duration) time.Time {
	const correction = 10 * time.Second // by which NTP may slew a clock meanwhile
	is := now.Round(0).Add(-age)
	if is.Sub(was.Round(0)).Abs() <= correction {
		return was
	}
	return is
}

// updateMemory sets what is known of the memory.
func (p *Process) updateMemory() {
	text, _ := os.ReadFile("/proc/self/statm") // pages: all, resident, ...
	if f := strings.Fields(string(text)); len(f) > 1 {
		if resident, err := strconv.ParseFloat(f[1], 64); err == nil {
			p.resident.Set(resident * float64(os.Getpagesize()))
		}
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	p.goroutines.Set(float64(runtime.NumGoroutine()))
	p.heap.Set(float64(m.HeapInuse))
}

// updateFiles sets what is known of the file descriptors.
func (p *Process) updateFiles() {
	if open, err := os.ReadDir("/proc/self/fd"); err == nil {
		p.openFDs.Set(float64(len(open) - 1)) // without the one of this folder
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		p.maxFDs.Set(float64(limit.Cur))
	}
}
