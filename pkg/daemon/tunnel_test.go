package daemon_test

import (
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlab"
)

// newTunnel makes a tun device of the router and returns its other end, of a VPN server.
func (r *rig) newTunnel(t *testing.T, name string, address netip.Prefix) (server *os.File) {
	t.Helper()
	err := r.Router.Do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		request, err := unix.NewIfreq(name)
		if err == nil {
			request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
		}
		server = os.NewFile(uintptr(fd), name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	r.Router.IP(t, "link", "set", name, "up")
	r.Router.Address(t, name, address)
	return server
}

// nextDatagram returns the payload of the next UDP datagram over IPv4 for an address that
// comes through the tunnel.
func nextDatagram(t *testing.T, server *os.File, to netip.Addr) []byte {
	t.Helper()
	const headers = 20 + 8 // of IPv4 without options, and of UDP
	server.SetReadDeadline(time.Now().Add(patience))
	for b := make([]byte, 2048); ; {
		n, err := server.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		if n >= headers && b[0] == 0x45 && b[9] == unix.IPPROTO_UDP && netip.AddrFrom4([4]byte(b[16:20])) == to {
			return b[headers:n]
		}
	}
}

// TestClientsOfATunnel serves clients of a VPN server: the kernel resolves nothing there,
// and has no neighbours.
func TestClientsOfATunnel(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	router := netip.MustParsePrefix("10.8.0.1/24")
	server := r.newTunnel(t, "tun0", router)
	r.start(t, "listening_ip=tun0")
	for _, client := range []string{"10.8.0.2", "10.8.0.3"} {
		from := netip.MustParseAddr(client)
		request := datagram{from: netip.AddrPortFrom(from, 40000), to: netip.AddrPortFrom(router.Addr(), 5351), payload: []byte{0, 0}}
		if _, err := server.Write(request.frame(nil)[2:]); err != nil { // behind the type of the frame
			t.Fatal(err)
		}
		if reply := nextDatagram(t, server, from); !strings.HasPrefix(string(reply), "\x00\x80\x00\x00") {
			t.Errorf("%s: reply %x", client, reply)
		}
	}
}
