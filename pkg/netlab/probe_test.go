package netlab

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
)

// TestAPortIsFreeAfterTheProbe sends probes from one port, one after the other, to a host
// that does not close its side.
func TestAPortIsFreeAfterTheProbe(t *testing.T) {
	lab := NewLab(t, Layout{})
	var l net.Listener
	if err := lab.Router.Listen(func() (err error) { l, err = net.Listen("tcp", ":7"); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			fmt.Fprint(c, c.RemoteAddr())
		}
	}()
	source := netip.MustParseAddrPort("11.22.33.1:3074")
	for range 3 {
		p := Probe{Network: "tcp", From: lab.WAN, Source: source, To: netip.MustParseAddrPort("11.22.33.44:7")}
		if seen := p.Arrives(t); seen != source {
			t.Errorf("seen as %v", seen)
		}
	}
}

// failing is a test that ends with a message.
type failing struct {
	testing.TB
	message string
}

func (f *failing) Helper()                           {}
func (f *failing) Fatalf(format string, args ...any) { f.message = fmt.Sprintf(format, args...) }

// TestWhatWasNeverSentIsNotBlocked has a probe's source be no address of its host.
func TestWhatWasNeverSentIsNotBlocked(t *testing.T) {
	lab := NewLab(t, Layout{})
	for _, network := range []string{"tcp", "udp"} {
		p := Probe{Network: network, From: lab.WAN, Source: netip.MustParseAddrPort("192.0.2.1:9"), To: netip.MustParseAddrPort("11.22.33.44:9")}
		var f failing
		if p.Blocked(&f); f.message == "" {
			t.Errorf("%v was never sent, and passes for blocked", p)
		}
	}
}
