package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"
)

const (
	// firstWait is the time until an honest client repeats its request, once (RFC 6886,
	// section 3.1), and honestWait that until it gives up.
	firstWait  = 250 * time.Millisecond
	honestWait = time.Second
)

// errUnanswered is what an honest client gets if it gives up.
var errUnanswered = errors.New("no answer")

// honest is a client that keeps to the protocols.
type honest struct {
	lab     *lab
	service *service // for HTTP
	isNew   bool     // to the router's neighbour table, at each request
}

// forget makes the client new to the router.
func (h *honest) forget() {
	if h.isNew {
		// It fails if the router does not know the client.
		h.lab.onRouter("ip", "neighbour", "delete", firstClient.String(), "dev", "eth1").Run()
	}
}

// ask sends the i-th request of a kind and returns how long the answer took.
func (h *honest) ask(k kind, from netip.Addr, i int) (time.Duration, error) {
	to, err := h.lab.destination(k, from)
	if err != nil {
		return 0, err
	}
	zone, err := zoneOf(from, to.Addr())
	if err != nil {
		return 0, err
	}
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: from.AsSlice(), Zone: zone})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	h.forget()
	begin := time.Now()
	for _, end := range []time.Duration{firstWait, honestWait} {
		if _, err := c.WriteToUDPAddrPort(k.request(i, from), netip.AddrPortFrom(to.Addr().WithZone(zone), to.Port())); err != nil {
			return 0, err
		}
		c.SetReadDeadline(begin.Add(end))
		if err = readAnswer(c, k, i); err == nil {
			return time.Since(begin), nil
		}
	}
	return 0, errUnanswered
}

// zoneOf returns the zone for requests to an address: by number, because net remembers
// names, and those of all namespaces as one.
func zoneOf(from, to netip.Addr) (string, error) {
	if to.Is4() || !from.IsLinkLocalUnicast() && !to.IsMulticast() {
		return "", nil
	}
	device, err := net.InterfaceByName("eth0")
	if err != nil {
		return "", err
	}
	return strconv.Itoa(device.Index), nil
}

// readAnswer reads until the answer to the i-th request of a kind comes.
func readAnswer(c *net.UDPConn, k kind, i int) error {
	var b [2048]byte
	for {
		n, _, err := c.ReadFromUDPAddrPort(b[:])
		if err != nil {
			return err
		}
		if k.grants(b[:n], i) {
			return nil
		}
	}
}

// askHTTP asks for the external address on a new connection, once.
func (h *honest) askHTTP() (time.Duration, error) {
	w := &web{service: h.service, from: firstClient, wait: honestWait}
	defer w.close()
	h.forget()
	begin := time.Now()
	if err := w.call("GetExternalIPAddress"); err != nil {
		return 0, fmt.Errorf("%w: %w", errUnanswered, err)
	}
	return time.Since(begin), nil
}
