package netlab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"sync"
	"testing"
)

// TestAPortIsFreeAfterTheProbe sends probes from one port, one after the other, to a host
// that does not close its side, while programs are started.
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
	startPrograms(t)
	source := netip.MustParseAddrPort("11.22.33.1:3074")
	for range 50 {
		p := Probe{Network: "tcp", From: lab.WAN, Source: source, To: netip.MustParseAddrPort("11.22.33.44:7")}
		if seen := p.Arrives(t); seen != source {
			t.Errorf("seen as %v", seen)
		}
	}
}

// startPrograms starts programs until the test ends. Each has the sockets of the test until
// it is executed.
func startPrograms(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	var working sync.WaitGroup
	t.Cleanup(func() { stop(); working.Wait() })
	for range 4 {
		working.Go(func() {
			for ctx.Err() == nil {
				if err := exec.CommandContext(ctx, "true").Run(); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
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
