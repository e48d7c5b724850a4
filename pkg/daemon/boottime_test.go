package daemon_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/clock"
	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
)

// upFor has the rig's daemon run in a time namespace in which the system has
// been running for so long: its clocks of that are set forward.
func (r *rig) upFor(t testing.TB, uptime time.Duration) {
	t.Helper()
	ahead := int64((uptime - clock.Uptime()) / time.Second)
	wrapper := fmt.Sprintf("#!/bin/sh\nexec unshare --time --boottime %[1]d --monotonic %[1]d %[2]s \"$@\"\n", ahead, program)
	r.installed()
	r.program = r.path("miniupnpd")
	if err := os.WriteFile(r.program, []byte(wrapper), 0o755); err != nil {
		t.Fatal(err)
	}
}

// uptime returns for how long the system has been running, as the daemon sees it.
func (r *rig) uptime(t testing.TB) time.Duration {
	t.Helper()
	out := r.Router.Run(t, "nsenter", "--time", "--target", strconv.Itoa(r.pid()), "cat", "/proc/uptime")
	d, err := time.ParseDuration(strings.Fields(out)[0] + "s")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// connectionAge returns the Uptime of the connection that UPnP clients are told,
// a number of 32 bits.
func (r *rig) connectionAge(t testing.TB) uint32 {
	t.Helper()
	_, answer := r.invoke(t, "GetStatusInfo", "")
	found := regexp.MustCompile(`<NewUptime>(\d+)<`).FindStringSubmatch(answer)
	if found == nil {
		t.Fatal(answer)
	}
	seconds, err := strconv.ParseUint(found[1], 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(seconds)
}

// demandEnd demands that the lease of a port, which has just been granted, ends
// in the lease file after an hour by the wall clock.
func (r *rig) demandEnd(t testing.TB, port uint16) {
	t.Helper()
	granted := time.Now().Unix()
	line := regexp.MustCompile(fmt.Sprintf(`^UDP:%d:.*:(\d+):[^:]*$`, port))
	await(t, "the end of the lease", func() bool {
		return slices.ContainsFunc(r.leases(t), func(l string) bool {
			found := line.FindStringSubmatch(l)
			if found == nil {
				return false
			}
			end, err := strconv.ParseInt(found[1], 10, 64)
			return err == nil && end >= granted+3600-60 && end <= time.Now().Unix()+3601
		})
	})
}

// TestUptime has the daemon serve while the system's uptime passes the limits of
// 32 bits: those of milliseconds and seconds, signed and unsigned. The epoch
// begins at 0 and goes on, in the next daemon as well, leases end when they
// should, and the connection's age is right.
func TestUptime(t *testing.T) {
	t.Parallel()
	for what, limit := range map[string]time.Duration{
		"a year":  365 * 24 * time.Hour,
		"2^31 ms": 1 << 31 * time.Millisecond,
		"2^32 ms": 1 << 32 * time.Millisecond,
		"2^31 s":  1 << 31 * time.Second,
		"2^32 s":  1 << 32 * time.Second,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			r := &epochRig{rig: newRig(t, "legacy", netlab.Layout{Clients: 2}), request: pcpMap(client1, 17, 4000, 41000)}
			r.passLimit(t, limit)
		})
	}
}

// passLimit starts the daemon 10 s before the system's uptime passes the limit,
// and again after that.
func (r *epochRig) passLimit(t *testing.T, limit time.Duration) {
	t.Helper()
	r.upFor(t, limit-10*time.Second)
	began := time.Now()
	r.start(t, r.conf("enable_upnp=yes", "system_uptime=yes")...)
	first := r.readEpoch(t)
	if !first.isNewSince(began) {
		t.Errorf("the first epoch is %d", first.seconds)
	}
	r.demandBound(t)
	r.grant(t, mapping(natpmp.MapTCP, 4002, 42000, 12*time.Second))
	await(t, "the limit", func() bool { return r.uptime(t) > limit })
	if now := r.readEpoch(t); !now.continues(first) {
		t.Errorf("the epoch was %d, and is %d after %v", first.seconds, now.seconds, now.told.Sub(first.told))
	}
	if up, age := uint32(r.uptime(t)/time.Second), r.connectionAge(t); age-up > 60 {
		t.Errorf("the connection is %d s old, the system %d s", age, up)
	}
	await(t, "the end of the short lease", func() bool { return !strings.Contains(r.chains(t), "--dport 42000 ") })
	r.demandBound(t)
	r.demandEnd(t, 41000)
	r.stop(t, syscall.SIGKILL)
	r.relaunch(t)
	if now := r.readEpoch(t); !now.continues(first) {
		t.Errorf("the epoch was %d, and is %d in the next daemon", first.seconds, now.seconds)
	}
	r.demandBound(t)
}
