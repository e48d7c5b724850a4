package daemon_test

import (
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/netlab"
	"igdd/pkg/pcp"
)

// TestPeerLeavesByItsPort gives a flow another external port by PCP's PEER and
// looks at it from outside, also after a restart.
func TestPeerLeavesByItsPort(t *testing.T) {
	t.Parallel()
	for _, variant := range netlab.Variants {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, variant, netlab.Layout{})
			r.installed()
			r.WAN.Echo(t, "udp", "11.22.33.1:9999")
			r.start(t, "pcp_peer=yes")
			r.peer(t, 41000, time.Hour)
			for range 2 {
				if got := r.seenBy(t, 40000, "11.22.33.1:9999"); got != "11.22.33.44:41000" {
					t.Errorf("the flow comes from %s", got)
				}
				if lines := r.leases(t); len(lines) != 1 || lines[0] != "" {
					t.Errorf("the lease file lists %q", lines)
				}
				r.stop(t, syscall.SIGTERM)
				r.start(t, "pcp_peer=yes")
				r.peer(t, 0, 0) // asks how long it lasts
			}
		})
	}
}

// peer asks for the port of the flow from 40000 to 11.22.33.1:9999, which must
// be 41000 for about an hour.
func (r *rig) peer(t *testing.T, suggested uint16, lifetime time.Duration) {
	t.Helper()
	client := netip.MustParseAddr("192.168.50.10")
	request := pcp.Request{Opcode: pcp.Peer, Lifetime: lifetime, Client: client, Mapping: pcp.Mapping{
		Nonce: pcp.Nonce{1}, Protocol: 17, InternalPort: 40000,
		External: netip.AddrPortFrom(netip.IPv4Unspecified(), suggested),
		Remote:   netip.MustParseAddrPort("11.22.33.1:9999"),
	}}
	reply, _ := exchange(t, r.Clients[0], client, netlab.RouterLAN.Addr(), request.Append(nil), patience)
	got, err := pcp.ParseResponse(reply)
	if err != nil || got.Result != pcp.Success || got.External != netip.MustParseAddrPort("11.22.33.44:41000") || got.Lifetime < 55*time.Minute {
		t.Fatalf("PEER is answered %+v, %v", got, err)
	}
}

// seenBy returns where datagrams from a port of the client seem to come from.
func (r *rig) seenBy(t *testing.T, port int, remote string) (seen string) {
	t.Helper()
	err := r.Clients[0].Do(func() error {
		c, err := net.DialUDP("udp4", &net.UDPAddr{Port: port}, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(remote)))
		if err != nil {
			return err
		}
		defer c.Close()
		fmt.Fprint(c, "hello")
		c.SetReadDeadline(time.Now().Add(patience))
		buf := make([]byte, 64)
		n, err := c.Read(buf)
		seen = string(buf[:n])
		return err
	})
	if err != nil {
		t.Fatalf("%s does not answer: %v", remote, err)
	}
	return seen
}
