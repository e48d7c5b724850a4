package clock

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestBoot(t *testing.T) {
	var info unix.Sysinfo_t
	before := Uptime()
	if err := unix.Sysinfo(&info); err != nil {
		t.Fatal(err)
	}
	after := Uptime()
	if s := info.Uptime; int64(before.Seconds()) > int64(s) || int64(after.Seconds())+1 < int64(s) {
		t.Errorf("up for %v to %v, the kernel says %d s", before, after, s)
	}
	if id := BootID(); len(id) != 36 || id != BootID() {
		t.Errorf("boot ID %q", id)
	}
}
