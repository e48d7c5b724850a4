package lansock

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlab"
)

// burstSize is how many datagrams of one host find room in a socket.
const burstSize = 1000

// unread returns the memory of the datagrams that wait on the router's port
// 7000, and how many found no room.
func unread(t *testing.T, lab *netlab.Lab) (octets, dropped int) {
	t.Helper()
	for line := range strings.Lines(lab.Router.Run(t, "cat", "/proc/net/udp", "/proc/net/udp6")) {
		fields := strings.Fields(line)
		if !strings.HasSuffix(fields[1], ":1B58") {
			continue
		}
		waits, drops := 0, 0
		fmt.Sscanf(fields[4], "%08X:%08X", new(int), &waits)
		fmt.Sscan(fields[len(fields)-1], &drops)
		octets, dropped = octets+waits, dropped+drops
	}
	return octets, dropped
}

// await waits until something holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// TestBurstWaits sends datagrams to a socket that nobody reads. Each comes in
// two fragments and so takes more memory than a page, as any does that a network
// driver puts into one.
func TestBurstWaits(t *testing.T) {
	const page = 4096
	lab := netlab.NewLab(t, netlab.Layout{IPv6: true})
	for i, to := range []string{"192.168.50.1:7000", "[2001:db8:50::1]:7000"} {
		sockets, err := listen(lab, alone[i])
		if err != nil {
			t.Fatal(err)
		}
		defer sockets.Close()
		var c net.Conn
		if err := lab.Clients[0].Do(func() error { c, err = net.Dial("udp", to); return err }); err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for n := range burstSize {
			if _, err := c.Write(make([]byte, 2600)); err != nil {
				t.Fatal(err)
			}
			if n%50 > 0 && n < burstSize-1 { // the devices' queues are not what is tested
				continue
			}
			await(t, "datagrams to arrive", func() bool {
				octets, dropped := unread(t, lab)
				if dropped > 0 {
					t.Fatalf("%s: %d of %d datagrams find no room", to, dropped, n+1)
				}
				return octets >= (n+1)*page
			})
		}
		var received atomic.Int32
		ended := make(chan error, 1)
		go func() { ended <- sockets[0].Receive(func(*Socket, Datagram) { received.Add(1) }) }()
		await(t, "all datagrams to be read", func() bool { return received.Load() == burstSize })
		sockets.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// TestAnswersWait sends the answers to a burst while the kernel cannot get rid
// of them: it asks for the hardware addresses of hosts that are not there.
func TestAnswersWait(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{IPv6: true})
	sockets, err := listen(lab, alone...)
	if err != nil {
		t.Fatal(err)
	}
	defer sockets.Close()
	word := func(b []byte) []byte { return append(b, make([]byte, 60)...) }
	for i, network := range []netip.Prefix{netlab.RouterLAN, netlab.RouterLAN6} {
		nobody := network.Addr().AsSlice()
		for n := range burstSize {
			nobody[len(nobody)-1] = byte(100 + n%20)
			to, _ := netip.AddrFromSlice(nobody)
			if err := sockets[i].Send(word, network.Addr(), netip.AddrPortFrom(to, 1024)); err != nil {
				t.Fatalf("answer %d to %v: %v", n, to, err)
			}
		}
	}
}

// TestBuffersWithoutCapability opens sockets that may not have buffers of any
// size: they get the largest that everybody may have.
func TestBuffersWithoutCapability(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{})
	var sockets Sockets
	err := lab.Router.Do(func() error { // on a thread that ends with it
		dev, err := net.InterfaceByName("lan0")
		if err != nil {
			return err
		}
		header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		sets := [2]unix.CapUserData{{Effective: 1 << unix.CAP_NET_RAW, Permitted: 1 << unix.CAP_NET_RAW}}
		if err := unix.Capset(header, &sets[0]); err != nil {
			return err
		}
		sockets, err = Listen(wire{dev.Index}, alone[0])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer sockets.Close()
	var size int
	controlErr := sockets[0].raw.Control(func(fd uintptr) { size, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF) })
	if err != nil || controlErr != nil {
		t.Fatal(err, controlErr)
	}
	text, err := os.ReadFile("/proc/sys/net/core/rmem_max")
	if err != nil {
		t.Fatal(err)
	}
	allowed := 0
	fmt.Sscan(string(text), &allowed)
	if want := min(receiveBuffer, 2*allowed); size != want {
		t.Errorf("a receive buffer of %d octets, want %d", size, want)
	}
}
