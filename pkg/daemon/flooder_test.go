package daemon_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlab"
)

// floodRate is the number of forged datagrams per second.
const floodRate = 2000

// flooder sends forged datagrams from a host's eth0 to the router.
type flooder struct {
	socket int
	header []byte // of Ethernet, without the type
	sent   atomic.Int64
}

// newFlooder opens the socket of one on a host behind a device of the router.
func (r *rig) newFlooder(t *testing.T, host *netlab.Namespace, dev string) *flooder {
	t.Helper()
	f := &flooder{socket: -1}
	router, own := linkOf(t, r.Router, dev), linkOf(t, host, "eth0")
	err := host.Do(func() (err error) {
		f.socket, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return unix.Bind(f.socket, &unix.SockaddrLinklayer{Ifindex: own.Index})
	})
	t.Cleanup(func() { unix.Close(f.socket) })
	if err != nil {
		t.Fatal(err)
	}
	f.header = append(append(f.header, router.HardwareAddr...), own.HardwareAddr...)
	return f
}

// linkOf returns a device of a namespace.
func linkOf(t *testing.T, ns *netlab.Namespace, name string) (dev *net.Interface) {
	t.Helper()
	if err := ns.Do(func() (err error) { dev, err = net.InterfaceByName(name); return err }); err != nil {
		t.Fatal(err)
	}
	return dev
}

// run sends the datagrams that next makes, at floodRate, until the returned function is
// called.
func (f *flooder) run(next func(n int) datagram) (stop func()) {
	ended, end := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for began, n := time.Now(), 0; ; {
			for ; n < int(time.Since(began)*floodRate/time.Second); n++ {
				if err := unix.Sendto(f.socket, next(n).frame(f.header), 0, nil); err == nil {
					f.sent.Add(1)
				}
			}
			select {
			case <-end:
				return
			case <-tick.C:
			}
		}
	}()
	return func() { close(end); <-ended }
}

// datagram is a UDP datagram.
type datagram struct {
	from, to netip.AddrPort
	payload  []byte
}

// frame returns the datagram in an Ethernet frame.
func (d datagram) frame(header []byte) []byte {
	segment := d.segment()
	if d.from.Addr().Is6() {
		b := binary.BigEndian.AppendUint16(append([]byte(nil), header...), unix.ETH_P_IPV6)
		b = append(b, 0x60, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(len(segment)))
		b = append(b, unix.IPPROTO_UDP, 64)
		return append(append(append(b, d.from.Addr().AsSlice()...), d.to.Addr().AsSlice()...), segment...)
	}
	ip := binary.BigEndian.AppendUint16([]byte{0x45, 0}, uint16(20+len(segment)))
	ip = append(ip, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0)
	ip = append(append(ip, d.from.Addr().AsSlice()...), d.to.Addr().AsSlice()...)
	binary.BigEndian.PutUint16(ip[10:], internetChecksum(ip))
	b := binary.BigEndian.AppendUint16(append([]byte(nil), header...), unix.ETH_P_IP)
	return append(append(b, ip...), segment...)
}

// segment returns the UDP header and the payload.
func (d datagram) segment() []byte {
	b := binary.BigEndian.AppendUint16(nil, d.from.Port())
	b = binary.BigEndian.AppendUint16(b, d.to.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(d.payload)))
	b = append(append(b, 0, 0), d.payload...)
	pseudo := append(d.from.Addr().AsSlice(), d.to.Addr().AsSlice()...)
	pseudo = append(pseudo, 0, unix.IPPROTO_UDP, byte(len(b)>>8), byte(len(b)))
	binary.BigEndian.PutUint16(b[6:], internetChecksum(append(pseudo, b...)))
	return b
}

// internetChecksum is that of RFC 1071.
func internetChecksum(b []byte) uint16 {
	var sum uint32
	for i, octet := range b {
		sum += uint32(octet) << (8 * (1 - i%2))
	}
	sum = sum>>16 + sum&0xffff
	return ^uint16(sum>>16 + sum)
}
