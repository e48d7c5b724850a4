package daemon_test

import (
	"net"
	"os"
	"strings"
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
for device in null zero random urandom ptmx; do : >/mnt/$device && mount --bind /dev/$device /mnt/$device || exit 1; done &&
ln -s "$1" /mnt/log &&
mount --rbind /mnt /dev && shift && exec "$@"`

// listenSyslog is a syslogd at the rig's /dev/log that reads nothing by itself.
func (r *rig) listenSyslog(t *testing.T) *net.UnixConn {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: r.path("log"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetReadDeadline(time.Now().Add(2 * patience))
	return c
}

// fillSyslog sends lines to the rig's syslogd until the kernel keeps no more.
func (r *rig) fillSyslog(t *testing.T) {
	t.Helper()
	c, err := net.Dial("unixgram", r.path("log"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for err == nil {
		c.SetWriteDeadline(time.Now().Add(hush))
		_, err = c.Write([]byte("<30>full"))
	}
}

// TestStuckSyslogdHoldsNothing runs the daemon with a syslogd that reads nothing.
// Then another syslogd takes its place, and gets the last line of the daemon.
func TestStuckSyslogdHoldsNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, netlab.Variants[0], netlab.Layout{})
	stuck := r.listenSyslog(t)
	r.fillSyslog(t)
	r.configure(t)
	cmd := r.Router.Command("sh", "-c", withSyslogd, "sh", r.path("log"), r.program, "-v", "-f", r.path("miniupnpd.conf"), "-P", r.path("pid"))
	cmd.Env = r.env
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("the daemon does not start: %v: %s", err, out)
	}
	for port := uint16(4000); port < 4030; port++ {
		r.grant(t, mapping(natpmp.MapTCP, port, port, time.Hour))
		r.grant(t, mapping(natpmp.MapTCP, port, 0, 0))
	}
	if err := os.Remove(r.path("log")); err != nil {
		t.Fatal(err)
	}
	syslogd := r.listenSyslog(t)
	stuck.Close()
	ended := make(chan error)
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, err := syslogd.Read(b)
			if err != nil || strings.HasSuffix(string(b[:n]), ": shutting down MiniUPnPd\n") {
				ended <- err
				return
			}
		}
	}()
	r.stop(t, syscall.SIGTERM)
	if err := <-ended; err != nil {
		t.Errorf("the last line does not reach syslogd: %v", err)
	}
}
