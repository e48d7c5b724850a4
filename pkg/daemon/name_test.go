package daemon_test

import (
	"os"
	"strings"
	"testing"

	"igdd/pkg/netlab"
)

// TestOwnName maps a port to a host by the name that it has in the DHCP leases,
// as long as that is its name alone.
func TestOwnName(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{Clients: 2})
	leases := r.path("dnsmasq.leases")
	write := func(lines string) {
		t.Helper()
		if err := os.WriteFile(leases, []byte(lines), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const laptop, console = "0 02:00:00:00:00:01 192.168.50.10 Laptop.lan *\n", "0 02:00:00:00:00:02 192.168.50.11 console *\n"
	write(laptop + console)
	r.start(t, "enable_upnp=yes", "dhcp_leases="+leases)
	for _, name := range []string{"console", "laptop.lan", "printer"} {
		if status, body := r.addPortMapping(t, name); status != 500 || !strings.Contains(body, "<errorCode>402<") {
			t.Errorf("by %q: %d %s", name, status, body)
		}
	}
	r.Clients[0].Echo(t, "tcp", ":4000")
	if status, body := r.addPortMapping(t, "laptop"); status != 200 {
		t.Fatalf("by its own name: %d %s", status, body)
	}
	r.dial("tcp", 4000).Arrives(t)
	write(laptop + strings.Replace(console, "console", "LAPTOP", 1))
	if status, body := r.addPortMapping(t, "laptop"); status != 500 || !strings.Contains(body, "<errorCode>402<") {
		t.Errorf("by a name that two have: %d %s", status, body)
	}
}
