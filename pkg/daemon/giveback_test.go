package daemon_test

import (
	"syscall"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
	"igdd/pkg/netlab/upstreamlab"
)

// TestForwardingsAtTheEnd ends the daemon, or the instance, in each way. What the router in
// front forwards stays where the next one takes it over, and else is given back before the
// process ends.
func TestForwardingsAtTheEnd(t *testing.T) {
	const same, other, off = "upstream=natpmp", "upstream=pcp", "upstream=no"
	for _, tt := range []struct {
		what   string
		next   []string // settings
		signal syscall.Signal
		stays  bool
	}{
		{"stop", []string{same}, syscall.SIGTERM, false},
		{"restart", []string{same}, syscall.SIGUSR2, true},
		{"restart with another protocol", []string{other}, syscall.SIGUSR2, false},
		{"restart with nothing enabled", []string{same, "enable_natpmp=no"}, syscall.SIGUSR2, false},
		{"restart with unusable settings", []string{unusable}, syscall.SIGUSR2, false},
		{"reload", []string{same, "friendly_name=x"}, syscall.SIGHUP, true},
		{"reload with another protocol", []string{other}, syscall.SIGHUP, false},
		{"reload with none", []string{off}, syscall.SIGHUP, false},
		{"reload with nothing enabled", []string{same, "enable_natpmp=no"}, syscall.SIGHUP, false},
		{"kill", []string{same}, syscall.SIGKILL, true},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, "nft", netlab.Layout{})
			server := serveInFront(t, r.WAN, "11.22.33.1", "203.0.113.1")
			r.start(t, same)
			r.awaitExternalAddr(t, at("203.0.113.1"))
			r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
			await(t, "the forwarding", func() bool { return len(server.Leases()) == 1 })
			asked := len(server.Asked())
			r.configure(t, tt.next...)
			pid := r.pid()
			r.kill(tt.signal)
			if tt.signal != syscall.SIGHUP {
				await(t, "the end of the daemon", func() bool { return !alive(pid) })
			}
			if !tt.stays {
				await(t, "the forwarding to be given back", func() bool { return len(server.Leases()) == 0 })
				return
			}
			if tt.signal != syscall.SIGHUP {
				r.start(t, tt.next...)
			}
			await(t, "the forwarding to be taken over", func() bool { return len(server.Asked()) > asked })
			for _, q := range server.Asked()[asked:] {
				if q.Lifetime == 0 {
					t.Errorf("given back: %+v", q)
				}
			}
		})
	}
}

// TestStopBehindSilentRouter stops the daemon when the router in front has gone.
func TestStopBehindSilentRouter(t *testing.T) {
	t.Parallel()
	r := newRig(t, "nft", netlab.Layout{})
	server := serveInFront(t, r.WAN, "11.22.33.1", "203.0.113.1")
	r.start(t, "upstream=natpmp")
	r.awaitExternalAddr(t, at("203.0.113.1"))
	r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
	server.Conduct(func(c *upstreamlab.Conduct) { c.Silent = true })
	pid := r.pid()
	r.stop(t, syscall.SIGTERM)
	r.awaitEnd(t, pid)
	if asked := server.Asked(); asked[len(asked)-1].Lifetime != 0 {
		t.Errorf("it asked last: %+v", asked[len(asked)-1])
	}
}
