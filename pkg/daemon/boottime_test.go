package daemon_test

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/clock"
	"igdd/pkg/netlab"
	"igdd/pkg/portmap"
)

// bootedEarlier has the rig's daemon run in a time namespace where the system
// was started so much earlier.
func (r *rig) bootedEarlier(t *testing.T, by time.Duration) {
	t.Helper()
	wrapper := fmt.Sprintf("#!/bin/sh\nexec unshare --time --boottime %[1]d --monotonic %[1]d %[2]s \"$@\"\n", int64(by/time.Second), program)
	r.installed()
	r.program = r.path("miniupnpd")
	if err := os.WriteFile(r.program, []byte(wrapper), 0o755); err != nil {
		t.Fatal(err)
	}
}

// uptime returns the time since the start of the system as the daemon sees it.
func (r *rig) uptime(t testing.TB) time.Duration {
	t.Helper()
	out := r.Router.Run(t, "nsenter", "--time", "--target", strconv.Itoa(r.pid()), "cat", "/proc/uptime")
	seconds, err := strconv.ParseFloat(strings.Fields(out)[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(seconds * float64(time.Second))
}

// TestUptime has the system run for a year, and pass the limits of 32 bits while the
// daemon serves: milliseconds and seconds, signed and unsigned. Epoch, leases and the
// connection's age go on, and so does the epoch in the next daemon.
func TestUptime(t *testing.T) {
	t.Parallel()
	for what, uptime := range map[string]time.Duration{
		"a year":               365 * 24 * time.Hour,
		"2^31 ms":              1 << 31 * time.Millisecond,
		"2^32 ms":              1 << 32 * time.Millisecond,
		"2^31 s":               1 << 31 * time.Second,
		"2^32 s":               1 << 32 * time.Second,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			r := &epochRig{rig: newRig(t, "legacy", netlab.Layout{Clients: 2})}
			// The limit is passed 10 s after the start.
			r.bootedEarlier(t, uptime-clock.Uptime()-10*time.Second)
			r.start(t, r.conf("enable_upnp=yes", "system_uptime=yes", "min_lifetime=1")...)
			_ = portmap.UPnP
			_ = netip.Addr{}
			_ = syscall.SIGKILL
		})
	}
}
