package upstream

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"igdd/pkg/natpmp"
)

// allHosts is the group to which NAT-PMP and PCP servers announce changes (RFC 6886,
// section 3.2.1; RFC 6887, section 14.1).
var allHosts = netip.AddrFrom4([4]byte{224, 0, 0, 1})

// listenTo makes the engine check the router when it announces something. The firewall may
// well drop that, so nothing depends on it.
func (e *engine) listenTo(g Gateway) {
	ctx, cancel := context.WithCancel(e.ctx)
	e.stopListening = cancel
	if !g.Address.IsValid() {
		return
	}
	e.running.Go(func() {
		if err := e.hear(ctx, g, e.heard); err != nil {
			e.options.Log.Debug("cannot listen to announcements of the router in front", "err", err)
		}
	})
}

// hear signals whatever the gateway sends to the group until ctx ends.
func hear(ctx context.Context, g Gateway, heard chan<- struct{}) error {
	conn, err := g.listen()
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	var b [1]byte
	for {
		_, from, err := conn.ReadFrom(b[:])
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if a, ok := from.(*net.UDPAddr); err == nil && ok && a.AddrPort().Addr().Unmap() == g.Address {
			signal(heard)
		}
	}
}

// listen returns a socket that is bound to the group itself, so that it gets nothing else.
// Package net would bind it to the wildcard address: then the port would look open to whoever
// probes the uplink.
func (g Gateway) listen() (net.PacketConn, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), "announcements")
	defer f.Close()
	if err := g.join(fd); err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: natpmp.AnnouncePort, Addr: allHosts.As4()}); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	return net.FilePacketConn(f)
}

// join prepares a socket for the group on the uplink. Other programs may share its port.
func (g Gateway) join(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if g.Device != "" {
		if err := unix.BindToDevice(fd, g.Device); err != nil {
			return err
		}
	}
	return unix.SetsockoptIPMreq(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP,
		&unix.IPMreq{Multiaddr: allHosts.As4(), Interface: g.Local.As4()})
}
