package daemon_test

import (
	"strings"
	"testing"

	"igdd/pkg/netlab"
)

// TestStatusWithHangingListing has iptables-save and ip6tables-save hang: neither status
// nor metrics say that all is well, at once as well as later.
func TestStatusWithHangingListing(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	r.replacing()
	r.start(t)
	r.says(t, "status", 0, "healthy: chains, jumps and rules in place")
	var restore []func()
	for _, name := range []string{"iptables-save", "ip6tables-save"} {
		restore = append(restore, r.stub(t, name, "exec sleep 1000"))
	}
	r.says(t, "status", 4, "firewall: unhealthy: IPv4: ")
	r.says(t, "status", 4, "; IPv6: ")
	for series, value := range r.metrics(t) {
		if strings.HasPrefix(series, "igdd_firewall_healthy") && value != 0 {
			t.Errorf("%s is %v", series, value)
		}
	}
	for _, f := range restore {
		f()
	}
	await(t, "a healthy status", func() bool { _, status := r.ctl(t, "status"); return status == 0 })
}
