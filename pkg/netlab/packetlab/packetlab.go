// Package packetlab asks the kernel of a router in a network namespace what becomes of
// a packet.
package packetlab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"igdd/pkg/netlab"

	"golang.org/x/sys/unix"
)

// Device is a device of the router.
type Device struct {
	Name      string
	Addresses []netip.Prefix // of the router, with the network's length
}

// Arrival is where a packet came out of the router; the zero Arrival is a packet
// that did not.
type Arrival struct {
	Out   string         // the router's device that it left by
	Local bool           // it was for a program of the router
	To    netip.AddrPort // its destination by then
	From  netip.AddrPort // its source by then; only if it left
}

// Lab is a router whose networks are played by the test. Every address of its
// networks and beyond can be reached: the router asks for no hardware address.
type Lab struct {
	Router *netlab.Namespace

	links   []*link
	barrier int    // socket of the router, for frames that are no packets
	own     int    // socket of the router, for its own IPv4 packets
	local   []*raw // sockets of the router
	tag     uint32 // of the packet sent last
}

// link is a device of the router and its other end.
type link struct {
	name   string
	index  int // of the router's device
	router hardwareAddr
	far    int // socket of the other end
}

// New builds a router that forwards, has no firewall rules and accepts any
// source address by any device.
func New(t testing.TB, devices ...Device) *Lab {
	t.Helper()
	l := &Lab{Router: netlab.New(t, "router")}
	world := netlab.New(t, "world")
	l.sysctls(t, world)
	for _, d := range devices {
		l.Router.Connect(t, d.Name, world, d.Name)
		l.Router.IP(t, "link", "set", d.Name, "arp", "off")
		for _, a := range d.Addresses {
			l.Router.Address(t, d.Name, a)
		}
	}
	if err := errors.Join(l.Router.Do(func() error { return l.openRouter(devices) }), world.Do(l.openWorld)); err != nil {
		t.Fatalf("packetlab: %v", err)
	}
	t.Cleanup(l.close)
	return l
}

// sysctls makes a router of one namespace, and keeps the other one silent.
func (l *Lab) sysctls(t testing.TB, world *netlab.Namespace) {
	for name, value := range map[string]string{
		"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1", "ipv4/conf/all/rp_filter": "0", "ipv4/conf/default/rp_filter": "0",
		"ipv4/conf/all/send_redirects": "0", "ipv4/conf/default/send_redirects": "0",
	} {
		l.Router.Sysctl(t, "net/"+name, value)
	}
	world.Sysctl(t, "net/ipv6/conf/default/disable_ipv6", "1")
}

// HardwareAddr is the source of every frame that the lab sends.
const HardwareAddr = "02:00:5e:10:00:01"

// source is HardwareAddr.
var source = hardwareAddr{0x02, 0x00, 0x5e, 0x10, 0x00, 0x01}

// openRouter opens the sockets of the router.
func (l *Lab) openRouter(devices []Device) (err error) {
	for _, d := range devices {
		dev, err := net.InterfaceByName(d.Name)
		if err != nil {
			return err
		}
		l.links = append(l.links, &link{name: d.Name, index: dev.Index, router: hardwareAddr(dev.HardwareAddr)})
	}
	if l.barrier, err = packetSocket(etherTypeBarrier); err != nil {
		return err
	}
	if l.own, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW); err != nil {
		return err
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		for _, protocol := range []int{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
			r, err := newRaw(family, protocol)
			if err != nil {
				return err
			}
			l.local = append(l.local, r)
		}
	}
	return nil
}

// openWorld opens the sockets of the other ends.
func (l *Lab) openWorld() error {
	for _, k := range l.links {
		dev, err := net.InterfaceByName(k.name)
		if err != nil {
			return err
		}
		if k.far, err = packetSocket(0); err != nil {
			return err
		}
		if err := unix.Bind(k.far, &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL), Ifindex: dev.Index}); err != nil {
			return err
		}
	}
	return nil
}

// close closes the sockets.
func (l *Lab) close() {
	unix.Close(l.barrier)
	unix.Close(l.own)
	for _, k := range l.links {
		unix.Close(k.far)
	}
	for _, r := range l.local {
		unix.Close(r.fd)
	}
}

// Send sends packets, each as if nothing had been sent before, and returns where
// they came out.
func (l *Lab) Send(packets ...Packet) ([]Arrival, error) {
	arrivals := make([]Arrival, len(packets))
	err := l.Router.Do(func() error {
		if err := pin(); err != nil {
			return err
		}
		for i, p := range packets {
			var err error
			if arrivals[i], err = l.send(p); err != nil {
				return fmt.Errorf("packetlab: %v: %w", p, err)
			}
		}
		return nil
	})
	return arrivals, err
}

// pin keeps the thread, which ends soon, on one processor. What it sends through a veth
// waits in the queue of that processor and is handled in order.
func pin() error {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return err
	}
	for i := range len(all) * 64 {
		if all.IsSet(i) {
			var one unix.CPUSet
			one.Set(i)
			return unix.SchedSetaffinity(0, &one)
		}
	}
	return errors.New("no processor")
}

// send sends one packet and forgets its connection.
func (l *Lab) send(p Packet) (Arrival, error) {
	if p.In == "" {
		return l.sendOwn(p)
	}
	in := l.link(p.In)
	if in == nil {
		return Arrival{}, fmt.Errorf("no device %q", p.In)
	}
	l.tag++
	kind := uint16(unix.ETH_P_IP)
	if p.Source.Addr().Is6() {
		kind = unix.ETH_P_IPV6
	}
	frame := append(ethernet(in.router, source, kind), p.encode(l.tag)...)
	if _, err := unix.Write(in.far, frame); err != nil {
		return Arrival{}, err
	}
	a, err := l.await(in)
	return a, errors.Join(err, forget(p))
}

// sendOwn does so for a packet of the router's own.
func (l *Lab) sendOwn(p Packet) (Arrival, error) {
	l.tag++
	to := &unix.SockaddrInet4{Addr: p.Destination.Addr().As4()}
	if err := unix.Sendto(l.own, p.encode(l.tag), 0, to); err != nil && err != unix.EPERM { // a rule has dropped it
		return Arrival{}, err
	}
	a, err := l.forwarded(binary.BigEndian.AppendUint32(nil, l.tag))
	return a, errors.Join(err, forget(p))
}

// link returns a device of the router by its name.
func (l *Lab) link(name string) *link {
	for _, k := range l.links {
		if k.name == name {
			return k
		}
	}
	return nil
}

// await returns where the packet sent last came out, once the kernel has done with it:
// a frame that follows it through the router's queue has arrived, and
// on every device one that follows what the router has forwarded.
func (l *Lab) await(in *link) (Arrival, error) {
	mark := binary.BigEndian.AppendUint32(nil, l.tag)
	if _, err := unix.Write(in.far, append(ethernet(in.router, source, etherTypeBarrier), mark...)); err != nil {
		return Arrival{}, err
	}
	if _, _, err := l.readUntilBarrier(l.barrier); err != nil {
		return Arrival{}, err
	}
	for _, r := range l.local {
		if to, ok, err := r.receive(l.tag); ok || err != nil {
			return Arrival{Local: true, To: to}, errors.Join(err, l.drain())
		}
	}
	return l.forwarded(mark)
}

// drain reads what is left when a packet was not forwarded.
func (l *Lab) drain() error {
	_, err := l.forwarded(binary.BigEndian.AppendUint32(nil, l.tag))
	return err
}

// forwarded returns the device that forwarded the packet, if one did.
func (l *Lab) forwarded(mark []byte) (a Arrival, err error) {
	for _, k := range l.links {
		frame := append(ethernet(source, k.router, etherTypeBarrier), mark...)
		if err := unix.Sendto(l.barrier, frame, 0, &unix.SockaddrLinklayer{Ifindex: k.index}); err != nil {
			return a, err
		}
		from, to, err := l.readUntilBarrier(k.far)
		if err != nil {
			return a, fmt.Errorf("%s: %w", k.name, err)
		}
		if to.IsValid() {
			a = Arrival{Out: k.name, To: to, From: from}
		}
	}
	return a, nil
}
