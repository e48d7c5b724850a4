package main

import (
	"fmt"
	"net"
	"net/netip"
	"time"
)

const (
	// connects is the number of connections that are made, one after another.
	connects = 1000
	// connectTargets is the number of mappings that they are made to, from all over the
	// table.
	connectTargets = 20
	// elsewhere is how far a mapping's internal port is below its external port.
	elsewhere = 20000
)

// plainRules is the firewall of a router that has no chains for miniupnpd.
const plainRules = `*nat
:PREROUTING ACCEPT
:POSTROUTING ACCEPT
-A POSTROUTING -o eth0 -j MASQUERADE
COMMIT
*filter
:FORWARD DROP
-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A FORWARD -i eth1 -o eth0 -j ACCEPT
COMMIT
`

// mapElsewhere maps a port to another one.
func (c *client) mapElsewhere(port uint16) error {
	return c.natpmpRequest(port-elsewhere, port, lifetime)
}

func (c *client) unmapElsewhere(port uint16) error { return c.natpmpDelete(port - elsewhere) }

// forward measures how many connections per second the router forwards to mappings from
// all over the table, or to one that it makes.
func (r *round) forward() (float64, error) {
	if r.present == 0 {
		return r.forwardOne()
	}
	var to []netip.AddrPort
	for i := range connectTargets {
		mapping := lease((i*r.present + r.present/2) / connectTargets)
		l, err := net.Listen("tcp4", fmt.Sprintf(":%d", mapping.internal()))
		if err != nil {
			return 0, err
		}
		defer l.Close()
		go acceptAndClose(l)
		to = append(to, netip.AddrPortFrom(routerWAN, mapping.external()))
	}
	return r.connectIn(to)
}

// forwardOne measures with a mapping of the first client.
func (r *round) forwardOne() (float64, error) {
	c, err := newClient(0, 0, r.service, answerTime)
	if err != nil {
		return 0, err
	}
	defer c.close()
	l, err := net.Listen("tcp4", ":0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	go acceptAndClose(l)
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	if err := c.natpmpMap(port); err != nil {
		return 0, err
	}
	defer c.natpmpDelete(port)
	return r.connectIn([]netip.AddrPort{netip.AddrPortFrom(routerWAN, c.granted)})
}

// connectIn makes connections from the Internet.
func (r *round) connectIn(to []netip.AddrPort) (perSecond float64, err error) {
	err = r.lab.wan.Do(func() error {
		perSecond, err = connectAll(to)
		return err
	})
	return perSecond, err
}

// connectOut measures how many connections per second the LAN makes to the Internet.
func (r *round) connectOut() (float64, error) {
	var l net.Listener
	err := r.lab.wan.Do(func() (err error) { l, err = net.Listen("tcp4", ":0"); return err })
	if err != nil {
		return 0, err
	}
	defer l.Close()
	go acceptAndClose(l)
	return connectAll([]netip.AddrPort{netip.AddrPortFrom(far, uint16(l.Addr().(*net.TCPAddr).Port))})
}

// connectAll makes connections to addresses in turn and returns how many per second.
func connectAll(to []netip.AddrPort) (float64, error) {
	begin := time.Now()
	for i := range connects {
		if err := connectOnce(to[i%len(to)]); err != nil {
			return 0, fmt.Errorf("%v: %w", to[i%len(to)], err)
		}
	}
	return connects / time.Since(begin).Seconds(), nil
}

// connectOnce connects and reads one byte.
func connectOnce(to netip.AddrPort) error {
	c, err := net.DialTimeout("tcp4", to.String(), 5*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	var one [1]byte
	_, err = c.Read(one[:])
	return err
}

// acceptAndClose sends one byte on every connection and closes it.
func acceptAndClose(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		c.Write([]byte("!"))
		c.Close()
	}
}
