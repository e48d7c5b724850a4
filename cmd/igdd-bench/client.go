package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/natpmp"
	"igdd/pkg/pcp"
)

// How long a client waits for a response; it sends a request only once.
const (
	answerTime = 30 * time.Second
	// probeTime is that of a probe whether there is a response at all. It is how accurate
	// the time of a start is: the router's kernel refuses a few requests only.
	probeTime = 4 * time.Millisecond
)

// lifetime is the lifetime that clients request.
const lifetime = time.Hour

const tcp = 6 // IANA protocol number

// client is a host of the LAN.
type client struct {
	addr    netip.Addr
	udp     *os.File // to the router's port 5351
	web     *web     // the gateway's UPnP
	present int      // how many mappings are in the table before the client comes
	granted uint16   // the port of the last mapping
	nonces  map[uint16]pcp.Nonce
}

// newClient returns the client of host number i.
func newClient(i, present int, w *service, wait time.Duration) (*client, error) {
	c := &client{addr: nth(firstClient, i), present: present, nonces: make(map[uint16]pcp.Nonce)}
	c.web = &web{service: w, from: c.addr}
	var err error
	c.udp, err = dial(unix.SOCK_DGRAM, c.addr, netip.AddrPortFrom(routerLAN, pcp.ServerPort), wait)
	return c, err
}

func (c *client) close() {
	c.udp.Close()
	c.web.close()
}

// dial connects a socket whose calls block: waiting in the kernel adds less to the
// measured time than Go's poller does.
func dial(kind int, from netip.Addr, to netip.AddrPort, wait time.Duration) (*os.File, error) {
	family := unix.AF_INET
	if to.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	limit := unix.NsecToTimeval(wait.Nanoseconds())
	err = errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit),
		unix.Bind(fd, socketAddress(netip.AddrPortFrom(from, 0), 0)))
	if err == nil {
		err = connect(fd, socketAddress(to, 0))
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("connect to %v: %w", to, err)
	}
	return os.NewFile(uintptr(fd), to.String()), nil
}

// connect connects a socket, also when a signal of Go's scheduler interrupts it.
func connect(fd int, to unix.Sockaddr) error {
	err := unix.Connect(fd, to)
	for err == unix.EINTR {
		_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, int(answerTime.Milliseconds()))
		if err == nil {
			return socketError(fd)
		}
	}
	return err
}

// socketError returns the error of a socket's pending operation.
func socketError(fd int) error {
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && code != 0 {
		err = unix.Errno(code)
	}
	return err
}

// exchange sends a datagram and reads until its response comes.
func (c *client) exchange(request []byte, isAnswer func([]byte) bool) error {
	if _, err := c.udp.Write(request); err != nil {
		return err
	}
	var answer [pcp.MaxLen]byte
	for {
		n, err := c.udp.Read(answer[:])
		if err != nil {
			return err
		}
		if isAnswer(answer[:n]) {
			return nil
		}
	}
}

func (c *client) natpmp(r natpmp.Request) error {
	var got natpmp.Response
	err := c.exchange(r.Append(nil), func(b []byte) (ok bool) {
		var err error
		got, err = natpmp.ParseResponse(b)
		return err == nil && got.Opcode == r.Opcode && got.InternalPort == r.InternalPort
	})
	c.granted = got.ExternalPort
	if err == nil && got.Result != natpmp.Success {
		err = fmt.Errorf("NAT-PMP result %d", got.Result)
	}
	return err
}

func (c *client) externalAddress(uint16) error {
	return c.natpmp(natpmp.Request{Opcode: natpmp.Address})
}

func (c *client) natpmpMap(port uint16) error { return c.natpmpRequest(port, port, lifetime) }

func (c *client) natpmpDelete(port uint16) error { return c.natpmpRequest(port, 0, 0) }

func (c *client) natpmpRequest(internal, suggested uint16, lifetime time.Duration) error {
	return c.natpmp(natpmp.Request{Opcode: natpmp.MapTCP, InternalPort: internal, SuggestedPort: suggested, Lifetime: lifetime})
}

// takeIsolated asks for the port of the mapping whose next port is free.
func (c *client) takeIsolated(port uint16) error { return c.takeNext(port, isolatedPort) }

// takeBlock asks for the first port of the row of ports that are taken.
func (c *client) takeBlock(port uint16) error { return c.takeNext(port, blockPort+1) }

// takeNext asks for a port of another host, and expects to get a different one.
func (c *client) takeNext(internal, taken uint16) error {
	err := c.natpmpRequest(internal, taken, lifetime)
	if err == nil && (c.granted == taken || c.granted == 0) {
		err = fmt.Errorf("NAT-PMP: granted port %d instead of %d", c.granted, taken)
	}
	return err
}

// deleteLast deletes the client's last mapping, of the internal port given, in the
// fastest way: miniupnpd is slow to delete through NAT-PMP, and igdd deletes a mapping
// only through the protocol that requested it.
func (c *client) deleteLast(port uint16) error {
	err := c.upnpDelete(c.granted)
	if err == nil {
		return nil
	}
	other := c.natpmpDelete
	if _, known := c.nonces[port]; known {
		other = c.pcpDelete
	}
	if otherwise := other(port); otherwise != nil {
		return errors.Join(err, otherwise)
	}
	return nil
}

// search searches for the gateway from one host after the other: a daemon may answer
// a host only once a second.
func (c *client) search(port uint16) error {
	_, err := search(nth(firstClient, int(port)%clients))
	return err
}

func (c *client) pcp(r pcp.Request) error {
	r.Client = c.addr
	var got pcp.Response
	err := c.exchange(r.Append(nil), func(b []byte) bool {
		var err error
		got, err = pcp.ParseResponse(b)
		return err == nil && got.Opcode == r.Opcode && got.Nonce == r.Nonce
	})
	c.granted = got.External.Port()
	if err == nil && got.Result != pcp.Success {
		err = got.Result
	}
	return err
}

func (c *client) announce(uint16) error { return c.pcp(pcp.Request{Opcode: pcp.Announce}) }

func (c *client) pcpMap(port uint16) error { return c.pcpRequest(port, lifetime) }

func (c *client) pcpDelete(port uint16) error { return c.pcpRequest(port, 0) }

// pcpRequest sends a MAP request, with the same nonce for the same port.
func (c *client) pcpRequest(port uint16, lifetime time.Duration) error {
	nonce, known := c.nonces[port]
	if !known {
		rand.Read(nonce[:])
		c.nonces[port] = nonce
	}
	return c.pcp(pcp.Request{
		Opcode:   pcp.Map,
		Lifetime: lifetime,
		Mapping: pcp.Mapping{
			Nonce:        nonce,
			Protocol:     tcp,
			InternalPort: port,
			External:     netip.AddrPortFrom(netip.IPv4Unspecified(), port),
		},
	})
}
