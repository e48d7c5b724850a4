package daemon_test

import (
	"net"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
)

// withSyslogd runs what follows with a /dev of its own, whose /dev/log is the
// socket that is the first argument.
const withSyslogd = `
mount -t tmpfs dev /mnt && mkdir /mnt/pts && mount --bind /dev/pts /mnt/pts &&
cp -a /dev/null /dev/zero /dev/random /dev/urandom /dev/ptmx /mnt && ln -s "$1" /mnt/log &&
mount --rbind /mnt /dev && shift && exec "$@"`

// TestStuckSyslogdHoldsNothing has the daemon log much more than the kernel
// keeps for a syslogd that reads nothing (net.unix.max_dgram_qlen, 10 lines).
func TestStuckSyslogdHoldsNothing(t *testing.T) {
	r := newRig(t, netlab.Variants[0], netlab.Layout{})
	syslogd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: r.path("log"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer syslogd.Close()
	r.configure(t)
	cmd := r.Router.Command("sh", "-c", withSyslogd, "sh", r.path("log"), program, "-v", "-f", r.path("miniupnpd.conf"), "-P", r.path("pid"))
	cmd.Env = r.env
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("the daemon does not start: %v: %s", err, out)
	}
	for port := uint16(4000); port < 4030; port++ {
		r.grant(t, mapping(natpmp.MapTCP, port, port, time.Hour))
		r.grant(t, mapping(natpmp.MapTCP, port, 0, 0))
	}
	r.stop(t, syscall.SIGTERM)
	b := make([]byte, 1<<16)
	for lines := range 10 {
		syslogd.SetReadDeadline(time.Now().Add(patience))
		if _, err := syslogd.Read(b); err != nil {
			t.Fatalf("syslogd has %d lines, so it was not stuck: %v", lines, err)
		}
	}
}
