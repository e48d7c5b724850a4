package daemon_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
)

// metrics returns the values of all series.
func (r *rig) metrics(t testing.TB) map[string]float64 {
	t.Helper()
	out, status := r.ctl(t, "metrics")
	if status != 0 {
		t.Fatalf("metrics: exit status %d: %s", status, out)
	}
	values := make(map[string]float64)
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		value, err := strconv.ParseFloat(strings.TrimSpace(line[at+1:]), 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		values[line[:at]] = value
	}
	return values
}

// awaitMetrics waits until series have these values: the daemon may answer a client
// before it counts the answer.
func (r *rig) awaitMetrics(t testing.TB, when string, want map[string]float64) {
	t.Helper()
	var got map[string]float64
	holds := func() bool {
		got = r.metrics(t)
		for series, value := range want {
			if n, there := got[series]; !there || n != value {
				return false
			}
		}
		return true
	}
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: metrics are %v, want %v", when, got, want)
		}
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newRig(t, variant, netlab.Layout{})
		r.start(t)
		r.awaitMetrics(t, "at the start", map[string]float64{
			`igdd_requests_total{origin="natpmp",operation="open"}`: 0, `igdd_refusals_total{origin="upnp",reason="held_down"}`: 0,
			`igdd_mappings{protocol="udp",family="ipv6",state="dormant"}`: 0, "igdd_mappings_limit": 16384, "igdd_clients": 0,
			`igdd_firewall_healthy{family="ipv4"}`: 1, "igdd_uplink_up": 1, "igdd_leases_saved": 1, "igdd_helper_up": 1,
		})
		r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
		r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, 2*time.Hour)) // renewed
		r.grant(t, mapping(natpmp.MapUDP, 4000, 4000, time.Hour))
		r.grant(t, mapping(natpmp.MapUDP, 4000, 0, 0))
		if resp := r.natpmpMap(t, r.Clients[0], client1, mapping(natpmp.MapTCP, 80, 4001, time.Hour)); resp.Result == natpmp.Success {
			t.Error("a port was granted that no rule allows")
		}
		counted := map[string]float64{
			`igdd_requests_total{origin="natpmp",operation="open"}`: 4, `igdd_requests_total{origin="natpmp",operation="close"}`: 1,
			`igdd_requests_total{origin="pcp",operation="open"}`: 0, `igdd_events_total{event="opened"}`: 2, `igdd_events_total{event="renewed"}`: 1,
			`igdd_events_total{event="closed"}`: 1, `igdd_events_total{event="refused"}`: 1, `igdd_events_total{event="repaired"}`: 0,
			`igdd_refusals_total{origin="natpmp",reason="not_authorized"}`: 1,
			`igdd_mappings{protocol="tcp",family="ipv4",state="active"}`:   1, `igdd_mappings{protocol="udp",family="ipv4",state="active"}`: 0,
			"igdd_clients": 1, "igdd_table_seconds_count": 5, `igdd_firewall_transaction_seconds_count{family="ipv4"}`: 3,
			`igdd_firewall_failures_total{family="ipv4"}`: 0, `igdd_firewall_repairs_total{family="ipv4"}`: 0,
		}
		r.awaitMetrics(t, "after requests", counted)
		await(t, "the leases to be written", func() bool { return r.metrics(t)["igdd_lease_writes_total"] > 0 })

		r.atOnce(t, "nat", "-F MINIUPNPD")
		r.awaitMetrics(t, "after a repair", map[string]float64{`igdd_firewall_repairs_total{family="ipv4"}`: 1, `igdd_firewall_healthy{family="ipv4"}`: 1})
		r.Router.IP(t, "address", "del", netlab.RouterWAN.String(), "dev", "wan0")
		r.awaitMetrics(t, "without an address", map[string]float64{"igdd_uplink_up": 0, "igdd_uplink_changes_total": 1})
		r.Router.IP(t, "address", "add", netlab.RouterWAN.String(), "dev", "wan0")
		counted[`igdd_firewall_repairs_total{family="ipv4"}`], counted["igdd_uplink_changes_total"] = 1, 2
		counted[`igdd_events_total{event="repaired"}`] = 1
		r.awaitMetrics(t, "with the address again", map[string]float64{"igdd_uplink_up": 1, "igdd_uplink_changes_total": 2})

		r.configure(t, "enable_upnp=yes", "http_port=5001") // for a new instance
		r.kill(syscall.SIGHUP)
		if err := r.awaitHTTP(5001); err != nil {
			t.Fatal(err)
		}
		r.awaitMetrics(t, "after a reload", counted)
		started := r.metrics(t)["igdd_process_start_time_seconds"]
		r.stop(t, syscall.SIGTERM)
		r.start(t)
		r.awaitMetrics(t, "after a restart", map[string]float64{
			`igdd_requests_total{origin="natpmp",operation="open"}`: 0, "igdd_uplink_changes_total": 0,
			`igdd_mappings{protocol="tcp",family="ipv4",state="active"}`: 1,
		})
		if again := r.metrics(t)["igdd_process_start_time_seconds"]; again < started {
			t.Errorf("the process was started at %v, the one before at %v", again, started)
		}
	})
}

// TestMetricsOfBlocks demands that blocks, and requests that they refuse, are counted.
func TestMetricsOfBlocks(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	r.start(t)
	r.awaitMetrics(t, "at the start", map[string]float64{"igdd_blocks": 0})
	r.says(t, "block 1h 192.168.50.10", 0, "0 mappings closed")
	if resp := r.natpmpMap(t, r.Clients[0], client1, mapping(natpmp.MapTCP, 4000, 4000, time.Hour)); resp.Result == natpmp.Success {
		t.Error("a blocked host was granted a port")
	}
	r.awaitMetrics(t, "with a block", map[string]float64{
		"igdd_blocks": 1, `igdd_refusals_total{origin="natpmp",reason="blocked"}`: 1, `igdd_events_total{event="blocked"}`: 1,
	})
	r.says(t, "unblock 192.168.50.10", 0, "")
	r.awaitMetrics(t, "without it", map[string]float64{"igdd_blocks": 0, `igdd_events_total{event="unblocked"}`: 1})
}

// TestMetricsOfTheProcess reads what the kernel knows of the process, in the sandbox.
func TestMetricsOfTheProcess(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	r.installed()
	r.start(t)
	got := r.metrics(t)
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.pid()))
	if err != nil {
		t.Fatal(err)
	}
	if n := got["igdd_process_open_fds"]; n < float64(len(files))-4 || n > float64(len(files))+4 { // some come and go
		t.Errorf("%v open files, the kernel has %d", n, len(files))
	}
	for series, least := range map[string]float64{
		"igdd_process_resident_memory_bytes": 1 << 20, "igdd_go_memstats_heap_inuse_bytes": 1 << 16, "igdd_go_goroutines": 2,
		"igdd_process_max_fds": 64, "igdd_process_cpu_seconds_total": 0.001,
	} {
		if got[series] < least || got[series] > 1<<30 {
			t.Errorf("%s is %v, want at least %v", series, got[series], least)
		}
	}
}

// TestMetricsOfTheHelper demands that the end of the helper is seen.
func TestMetricsOfTheHelper(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	r.installed()
	r.start(t)
	helper := ""
	await(t, "the helper", func() bool { helper = children(r.pid())["igdd-helper"]; return helper != "" })
	syscall.Kill(pidOf(t, helper), syscall.SIGKILL)
	r.awaitMetrics(t, "without the helper", map[string]float64{"igdd_helper_up": 0})
}
