package metrics

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// noUpdate is for registries without gauges.
func noUpdate() {}

func TestText(t *testing.T) {
	var r Registry
	family := Label{"family", []string{"ipv4", "ipv6"}}
	requests := r.Counter("test_requests_total", "Requests.", Label{"origin", []string{"pcp", "upnp"}}, Label{"operation", []string{"open", "close"}})
	events := r.Counter("test_events_total", "Events.")
	up := r.Gauge("test_up", "Whether it is up.")
	healthy := r.Gauge("test_healthy", "Healthy families.", family)
	cpu := r.Total("test_cpu_seconds_total", "Processor time.")
	times := r.Histogram("test_seconds", "Times.", []time.Duration{2500 * time.Microsecond, 10 * time.Second}, Label{"family", []string{"ipv4"}})
	r.Gauge("test_info", "Text with \\ and\nlines.", Label{"version", []string{"a\"b\\c\nd"}}).Set(1, "a\"b\\c\nd")
	requests.Inc("upnp", "open")
	requests.Inc("upnp", "open")
	requests.Inc("upnp", "renew")
	requests.Inc("upnp")
	events.Inc()
	times.Observe(2500*time.Microsecond, "ipv4")
	times.Observe(time.Second, "ipv4")
	times.Observe(20*time.Second, "ipv4")
	times.Observe(time.Second, "ipx")
	got := r.Text(func() {
		up.SetBool(true)
		healthy.SetBool(false, "ipv6")
		healthy.Set(1, "ipx")
		cpu.Set(1.25)
	})
	want := `# HELP test_requests_total Requests.
# TYPE test_requests_total counter
test_requests_total{origin="pcp",operation="open"} 0
test_requests_total{origin="pcp",operation="close"} 0
test_requests_total{origin="upnp",operation="open"} 2
test_requests_total{origin="upnp",operation="close"} 0
# HELP test_events_total Events.
# TYPE test_events_total counter
test_events_total 1
# HELP test_up Whether it is up.
# TYPE test_up gauge
test_up 1
# HELP test_healthy Healthy families.
# TYPE test_healthy gauge
test_healthy{family="ipv6"} 0
# HELP test_cpu_seconds_total Processor time.
# TYPE test_cpu_seconds_total counter
test_cpu_seconds_total 1.25
# HELP test_seconds Times.
# TYPE test_seconds histogram
test_seconds_bucket{family="ipv4",le="0.0025"} 1
test_seconds_bucket{family="ipv4",le="10"} 2
test_seconds_bucket{family="ipv4",le="+Inf"} 3
test_seconds_sum{family="ipv4"} 21.0025
test_seconds_count{family="ipv4"} 3
# HELP test_info Text with \\ and\nlines.
# TYPE test_info gauge
test_info{version="a\"b\\c\nd"} 1
`
	if got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

func TestGauge(t *testing.T) {
	var r Registry
	g := r.Gauge("test", "Test.", Label{"state", []string{"a", "b"}})
	text := func(update func()) string {
		return strings.TrimPrefix(r.Text(update), "# HELP test Test.\n# TYPE test gauge\n")
	}
	for _, step := range []struct {
		update func()
		want   string
	}{
		{noUpdate, ""},
		{func() { g.Fill(0); g.Add(1, "b"); g.Add(1, "b") }, "test{state=\"a\"} 0\ntest{state=\"b\"} 2\n"},
		{g.Clear, ""},
		{func() { g.Add(1, "a"); g.Add(1, "c") }, "test{state=\"a\"} 1\n"},
	} {
		if got := text(step.update); got != step.want {
			t.Errorf("got %q, want %q", got, step.want)
		}
	}
}

// TestConcurrent counts and reads at once, and demands that nothing is lost and that a
// histogram agrees with itself in each reading.
func TestConcurrent(t *testing.T) {
	var r Registry
	counter := r.Counter("test_total", "Test.", Label{"a", []string{"x", "y"}})
	times := r.Histogram("test_seconds", "Test.", []time.Duration{time.Second})
	const workers, each = 8, 1000
	var all sync.WaitGroup
	for i := range workers {
		all.Go(func() {
			for range each {
				counter.Inc([]string{"x", "y"}[i%2])
				times.Observe(time.Duration(i) * 300 * time.Millisecond)
			}
		})
		all.Go(func() {
			text := r.Text(noUpdate)
			if valueOf(t, text, `test_seconds_bucket{le="+Inf"}`) != valueOf(t, text, "test_seconds_count") {
				t.Errorf("the buckets disagree:\n%s", text)
			}
		})
	}
	all.Wait()
	text := r.Text(noUpdate)
	for series, want := range map[string]float64{
		`test_total{a="x"}`: workers / 2 * each, `test_total{a="y"}`: workers / 2 * each,
		`test_seconds_bucket{le="1"}`: 4 * each, "test_seconds_count": workers * each, "test_seconds_sum": 28 * 0.3 * each,
	} {
		if got := valueOf(t, text, series); got != want {
			t.Errorf("%s is %v, want %v", series, got, want)
		}
	}
}

// valueOf returns the value of a series.
func valueOf(t *testing.T, text, series string) float64 {
	t.Helper()
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			var value float64
			if _, err := fmt.Sscan(rest, &value); err != nil {
				t.Fatal(err)
			}
			return value
		}
	}
	t.Fatalf("there is no %s in:\n%s", series, text)
	return 0
}

// TestNoAllocation demands that counting allocates nothing: it happens for each request.
func TestNoAllocation(t *testing.T) {
	var r Registry
	counter := r.Counter("test_total", "Test.", Label{"a", []string{"x", "y"}}, Label{"b", []string{"z"}})
	times := r.Histogram("test_seconds", "Test.", []time.Duration{time.Second}, Label{"a", []string{"x", "y"}})
	n := testing.AllocsPerRun(100, func() {
		counter.Inc("y", "z")
		times.Observe(time.Millisecond, "y")
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestProcess(t *testing.T) {
	var r Registry
	p := r.Process("test_")
	files := make([]*os.File, 5)
	before := valueOf(t, r.Text(p.Update), "test_process_open_fds")
	for i := range files {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[i] = f
	}
	block := bytes.Repeat([]byte{1}, 64<<20)
	text := r.Text(p.Update)
	runtime.KeepAlive(block)
	if n := valueOf(t, text, "test_process_open_fds"); n != before+5 {
		t.Errorf("%v open files, %v before five were opened", n, before)
	}
	for series, least := range map[string]float64{
		"test_process_resident_memory_bytes": 64 << 20, "test_go_memstats_heap_inuse_bytes": 64 << 20,
		"test_process_max_fds": 64, "test_process_cpu_seconds_total": 0, "test_go_goroutines": 1,
	} {
		if n := valueOf(t, text, series); n < least || n > 1<<40 {
			t.Errorf("%s is %v, want at least %v", series, n, least)
		}
	}
	start := time.Unix(int64(valueOf(t, text, "test_process_start_time_seconds")), 0)
	if age := time.Since(start); age < 0 || age > time.Hour {
		t.Errorf("the process was started at %v", start)
	}
}

func TestStartTime(t *testing.T) {
	start := time.Unix(1000, 0)
	for _, c := range []struct {
		now  time.Time
		age  time.Duration
		want time.Time
	}{
		{start.Add(time.Hour), time.Hour, start},
		{start.Add(time.Hour + 3*time.Second), time.Hour, start}, // slewed
		{start.Add(time.Hour - 3*time.Second), time.Hour, start},
		{time.Unix(1700003600, 0), time.Hour, time.Unix(1700000000, 0)}, // set
		{start, time.Hour, start.Add(-time.Hour)},
	} {
		if got := startTime(start, c.now, c.age); !got.Equal(c.want) {
			t.Errorf("at %v, %v after the start, it is %v, want %v", c.now, c.age, got, c.want)
		}
	}
}
