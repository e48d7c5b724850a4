package clock

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Uptime returns the time since the system was started, suspended time included.
// Setting the wall clock does not change it.
func Uptime() time.Duration {
	var now unix.Timespec
	unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) // never fails: every kernel since 2.6.39 has this clock
	return time.Duration(now.Nano())
}

// BootID returns the kernel's ID of this boot, or "" if it cannot be read.
func BootID() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id))
}
