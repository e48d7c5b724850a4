package upstreamlab_test

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
	"igdd/pkg/netlab/upstreamlab"
	"igdd/pkg/pcp"
)

func TestMain(m *testing.M) { os.Exit(netlab.Main(m.Run)) }

// TestChainForwards has the inner router of two map a port by NAT-PMP, and packets take
// that way from the outermost host; the capture has heard what was asked.
func TestChainForwards(t *testing.T) {
	chain := netlab.NewChain(t, 2)
	outer, inner := chain[0], chain[1]
	inner.Router.Echo(t, "tcp", ":4000")
	outer.Router.Run(t, "/usr/sbin/iptables-legacy", "-w", "-A", "INPUT", "-i", "wan0", "-j", "DROP") // until it is forwarded
	capture := upstreamlab.NewCapture(t, inner.Router, "wan0")
	s := upstreamlab.Serve(t, outer.Router, netlab.ChainLink(0).Addr(), upstreamlab.Conduct{
		NATPMP: true, External: netlab.RouterWAN.Addr(), Ports: []uint16{52000}, Lease: time.Minute,
	})
	req := natpmp.Request{Opcode: natpmp.MapTCP, InternalPort: 4000, SuggestedPort: 4000, Lifetime: time.Hour}
	resp, err := natpmp.ParseResponse(ask(t, inner.Router, req.Append(nil)))
	if want := (natpmp.Response{Opcode: natpmp.MapTCP, InternalPort: 4000, ExternalPort: 52000, Lifetime: time.Minute, Epoch: resp.Epoch}); err != nil || resp != want {
		t.Fatalf("%+v, %v", resp, err)
	}
	probe := netlab.Probe{Network: "tcp", From: outer.WAN, To: netip.AddrPortFrom(netlab.RouterWAN.Addr(), 52000)}
	if seen := probe.Arrives(t); seen.Addr() != netip.MustParseAddr("11.22.33.1") {
		t.Errorf("seen as %v", seen)
	}
	if sent := capture.Sent(t); !slices.ContainsFunc(sent, func(p upstreamlab.Packet) bool {
		return p.Protocol == 17 && p.To == netip.AddrPortFrom(netlab.ChainLink(0).Addr(), pcp.ServerPort)
	}) {
		t.Errorf("what was asked is not in %v", sent)
	}
	s.Restart()
	probe.Blocked(t)
	if asked := s.Asked(); len(asked) != 1 || asked[0].Port != 4000 || len(s.Leases()) != 0 {
		t.Errorf("asked: %+v, leases: %+v", asked, s.Leases())
	}
}

// ask sends a request to the router in front and returns what it answers.
func ask(t *testing.T, from *netlab.Namespace, request []byte) (reply []byte) {
	t.Helper()
	err := from.Do(func() error {
		c, err := net.ListenUDP("udp4", nil)
		if err != nil {
			return err
		}
		defer c.Close()
		reply, _, err = netlab.Ask(c, netip.AddrPortFrom(netlab.ChainLink(0).Addr(), pcp.ServerPort), request, time.Minute)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return reply
}
