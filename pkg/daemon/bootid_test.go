package daemon_test

import (
	"net/netip"
	"strconv"
	"syscall"
	"testing"

	"igdd/pkg/netlab"
	"igdd/pkg/ssdp"
	"igdd/pkg/vectors/discovery"
)

// TestBootIDGrowsOverRestarts starts the daemon first with a BOOTID of 2033, so that its
// clock is behind what clients have heard, as that of a board whose clock is not set yet:
// it grows with each restart, new service and address. The one of the settings counts.
func TestBootIDGrowsOverRestarts(t *testing.T) {
	t.Parallel()
	const late = 2_000_000_000
	r := newRig(t, "nft", netlab.Layout{})
	r.installed()
	heard := discovery.Listen(t, r.Clients[0], ssdp.IPv4.Addr())
	start := func(more ...string) func() {
		return func() { r.start(t, append(more, "enable_upnp=yes")...) }
	}
	restart := func(s syscall.Signal, more ...string) func() {
		return func() { r.stop(t, s); start(more...)() }
	}
	moved := netip.MustParsePrefix("192.168.50.2/24")
	var last uint64
	for _, step := range []struct {
		what  string
		do    func()
		exact uint64 // 0: greater than the last one
	}{
		{"of the settings", start("bootid=2000000000"), late},
		{"restarted", restart(syscall.SIGTERM), 0},
		{"killed", restart(syscall.SIGKILL), 0},
		{"with other settings", func() { r.configure(t, "enable_upnp=yes", "friendly_name=x"); r.kill(syscall.SIGHUP) }, 0},
		{"at another address", func() { r.replaceAddress(t, "lan0", netlab.RouterLAN, moved) }, 0},
		{"killed after that", restart(syscall.SIGKILL), 0},
		{"of the settings again", restart(syscall.SIGTERM, "bootid=7"), 7},
	} {
		step.do()
		got := nextBootID(t, heard, last)
		if step.exact != 0 && got != step.exact || step.exact == 0 && got <= last {
			t.Errorf("%s: BOOTID %d after %d", step.what, got, last)
		}
		last = got
	}
}

// nextBootID returns the first announced BOOTID that differs from the last one.
func nextBootID(t *testing.T, heard discovery.GroupListener, last uint64) uint64 {
	t.Helper()
	for range 1000 {
		m := heard.Next(t, "another BOOTID", 1, "ssdp:alive")[0]
		id, err := strconv.ParseUint(m.Fields["BOOTID.UPNP.ORG"], 10, 31)
		if err != nil {
			t.Fatal(err)
		}
		if id != last {
			return id
		}
	}
	t.Fatalf("BOOTID is still %d", last)
	return 0
}
