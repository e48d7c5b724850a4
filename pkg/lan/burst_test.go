package lan

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

// burstSize is the number of datagrams of one host for which a socket has room.
const burstSize = 1000

// unread returns the memory of the datagrams that wait on the router's port 7000,
// and how many were dropped.
func unread(t *testing.T, lab *netlab.Lab) (memory, dropped int) {
	t.Helper()
	for line := range strings.Lines(lab.Router.Run(t, "cat", "/proc/net/udp", "/proc/net/udp6")) {
		fields := strings.Fields(line)
		if !strings.HasSuffix(fields[1], ":1B58") {
			continue
		}
		waiting, drops := 0, 0
		fmt.Sscanf(fields[4], "%08X:%08X", new(int), &waiting)
		fmt.Sscan(fields[len(fields)-1], &drops)
		memory, dropped = memory+waiting, dropped+drops
	}
	return memory, dropped
}

// await waits until a condition is fulfilled.
func await(t *testing.T, what string, isFulfilled func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !isFulfilled(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// TestBurstIsBuffered sends datagrams to a socket that is not read. Each comes in two
// fragments and so takes more memory than a page, like any datagram that a network
// driver puts into a page.
func TestBurstIsBuffered(t *testing.T) {
	const page = 4096
	lab := netlab.NewLab(t, netlab.Layout{IPv6: true})
	for i, to := range []string{"192.168.50.1:7000", "[2001:db8:50::1]:7000"} {
		sockets, err := listen(lab, exclusive[i])
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
			if n%50 > 0 && n < burstSize-1 { // the queues of the devices are not tested
				continue
			}
			await(t, "datagrams to arrive", func() bool {
				memory, dropped := unread(t, lab)
				if dropped > 0 {
					t.Fatalf("%s: %d of %d datagrams are dropped", to, dropped, n+1)
				}
				return memory >= (n+1)*page
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

// TestResponsesAreBuffered sends the responses to a burst while the kernel cannot
// send them on: it resolves the hardware addresses of hosts that do not exist.
func TestResponsesAreBuffered(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{IPv6: true})
	sockets, err := listen(lab, exclusive...)
	if err != nil {
		t.Fatal(err)
	}
	defer sockets.Close()
	encode := func(b []byte) []byte { return append(b, make([]byte, 60)...) }
	for i, network := range []netip.Prefix{netlab.RouterLAN, netlab.RouterLAN6} {
		absent := network.Addr().AsSlice()
		for n := range burstSize {
			absent[len(absent)-1] = byte(100 + n%20)
			to, _ := netip.AddrFromSlice(absent)
			if err := sockets[i].Send(encode, network.Addr(), netip.AddrPortFrom(to, 1024)); err != nil {
				t.Fatalf("response %d to %v: %v", n, to, err)
			}
		}
	}
}

// TestBuffersWithoutCapability opens sockets without CAP_NET_ADMIN: they get the
// largest buffers that any program may have.
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
		sockets, err = Listen(testLAN{dev.Index}, everyone, exclusive[0])
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
		t.Errorf("a receive buffer of %d bytes, want %d", size, want)
	}
}
