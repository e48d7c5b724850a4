package pcpd

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlab"
	"igdd/pkg/pcp"
)

// wire is the router's lan0.
type wire struct{ index int }

func (wire) Name() string             { return "lan0" }
func (w wire) Index() int             { return w.index }
func (wire) Prefixes() []netip.Prefix { return []netip.Prefix{netlab.RouterLAN} }

// TestSendNeverWaits answers neighbours that do not exist more often than the
// socket's buffer holds: waiting for them would stop the whole table.
func TestSendNeverWaits(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{})
	var c *conn
	err := lab.Router.Do(func() error {
		dev, err := net.InterfaceByName("lan0")
		if err == nil {
			c, err = listen(ipv4, wire{dev.Index})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	began, reply := time.Now(), make([]byte, pcp.MaxLen)
	word := func(b []byte) []byte { return append(b, reply...) }
	for i := range 2000 {
		nobody := netip.AddrFrom4([4]byte{192, 168, 50, byte(100 + i%100)})
		c.send(word, netlab.RouterLAN.Addr(), netip.AddrPortFrom(nobody, 1024))
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("sending took %v", took)
	}
}

func TestDestination(t *testing.T) {
	to := netip.MustParseAddr("192.168.50.1")
	control := unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: [4]byte{192, 168, 50, 2}, Addr: to.As4()})
	if got, ok := destination(control); !ok || got != to {
		t.Errorf("destination %v, %v", got, ok)
	}
	for name, control := range map[string][]byte{
		"nothing": nil, "cut short": control[:unix.CmsgLen(4)], "no header": control[:8], "zeros": make([]byte, 32),
	} {
		if got, ok := destination(control); ok {
			t.Errorf("%s: %v", name, got)
		}
	}
}
