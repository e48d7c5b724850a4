package daemon_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/netlab"
)

// TestHTTPBelow1024 runs the daemon in the sandbox with UPnP on port 80, on which it
// listens again when a LAN comes back. Another daemon without that port at its start keeps
// its own when it is told to use it, says what to do, and does so when it is restarted.
func TestHTTPBelow1024(t *testing.T) {
	t.Parallel()
	r := newRig(t, "nft", netlab.Layout{})
	r.installed()
	demand := func(port uint16, capabilities string) {
		t.Helper()
		r.demandHTTP(t, port)
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.pid()))
		if err != nil || !strings.Contains(string(status), "\nCapEff:\t"+capabilities+"\n") {
			t.Errorf("capabilities for port %d, want %s: %v\n%s", port, capabilities, err, status)
		}
	}
	configure := func(port uint16) { r.configure(t, "enable_upnp=yes", "sandbox=yes", fmt.Sprint("http_port=", port)) }
	configure(80)
	r.serve(t, "-f", r.path("miniupnpd.conf"))
	demand(80, "0000000000003400")
	r.Router.IP(t, "link", "set", "lan0", "down")
	await(t, "the LAN to be gone", func() bool { return strings.Contains(r.log(t), "interface is gone") })
	r.Router.IP(t, "link", "set", "lan0", "up")
	await(t, "the LAN to be back", func() bool { return strings.Count(r.log(t), "HTTP listening on port 80") == 2 })
	demand(80, "0000000000003400")
	r.stop(t, syscall.SIGTERM)

	configure(5000)
	r.serve(t, "-f", r.path("miniupnpd.conf"))
	demand(5000, "0000000000003000")
	configure(80)
	r.kill(syscall.SIGHUP)
	await(t, "word of the port", func() bool {
		return strings.Contains(r.log(t), "port 80: restart the daemon to listen below port 1024")
	})
	demand(5000, "0000000000003000")
	r.stop(t, syscall.SIGTERM)
	r.serve(t, "-f", r.path("miniupnpd.conf"))
	demand(80, "0000000000003400")
}

// demandHTTP demands that the router's page at a port is served.
func (r *rig) demandHTTP(t *testing.T, port uint16) {
	t.Helper()
	at := netip.AddrPortFrom(netlab.RouterLAN.Addr(), port).String()
	var answer []byte
	err := r.Clients[0].Do(func() error {
		c, err := net.Dial("tcp", at)
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(c, "GET /rootDesc.xml HTTP/1.1\r\nHost: "+at+"\r\nConnection: close\r\n\r\n"); err != nil {
			return err
		}
		answer, err = io.ReadAll(c)
		return err
	})
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200 ") {
		t.Errorf("%s answers %.80q: %v", at, answer, err)
	}
}
