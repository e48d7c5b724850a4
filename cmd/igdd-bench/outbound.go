package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"
)

// outbound is the name of the rows with each choice of UPNP_OUTBOUND, which are measured
// only when asked for.
const outbound = "outbound"

const (
	outboundMaps     = 50 // mappings, each deleted before the next one
	outboundConnects = 2000
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

const outboundLegend = `
What UPNP_OUTBOUND costs, where the external port is never the internal one: a new mapping by NAT-PMP, as one client sees
it (p50 of %d), and TCP connections from the LAN to the Internet, one after another (%d). A value is the median of %d
rounds, with their range; each starts the daemon anew.

`

// measureOutbound measures our daemon with each choice, and prints the results.
func (b *bench) measureOutbound() error {
	l, err := newLab(b.lab, b.folder)
	if err != nil {
		return err
	}
	l.rules = plainRules
	rounds := 5
	if b.quick {
		rounds = 2
	}
	fmt.Printf(outboundLegend, outboundMaps, outboundConnects, rounds)
	fmt.Println("| present | UPNP_OUTBOUND | rules | new mapping, µs | connections, /s |")
	fmt.Println("| ---: | --- | ---: | ---: | ---: |")
	for _, present := range []int{0, 1000, 5000} {
		if err := b.compareOutbound(l, present, rounds); err != nil {
			return fmt.Errorf("%d mappings: %w: %s", present, err, l.log.recent())
		}
	}
	return nil
}

// compareOutbound measures and prints the rows with a number of mappings present. The
// choices alternate.
func (b *bench) compareOutbound(l *lab, present, rounds int) error {
	ours, choices := b.daemons[len(b.daemons)-1], [...]string{"no", "auto"}
	var cells [len(choices)]outboundCell
	for range rounds {
		for i, choice := range choices {
			l.settings = "outbound=" + choice + "\n"
			if err := cells[i].measure(l, ours.program, present); err != nil {
				return err
			}
		}
	}
	for i, c := range cells {
		fmt.Printf("| %d | %s | %d | %v | %v |\n", present, choices[i], c.rules, &c.maps, &c.connections)
	}
	return nil
}

// outboundCell is what has been measured with one choice.
type outboundCell struct {
	rules             int // outbound ones
	maps, connections cell
}

// measure measures one round.
func (c *outboundCell) measure(l *lab, program string, present int) error {
	r, err := newRound(l, program, present)
	if err != nil {
		return err
	}
	defer r.process.stop()
	listed, err := l.listRules()
	if err != nil {
		return err
	}
	c.rules = len(only(listed, func(r rule) bool { return r.chain() == "MINIUPNPD-OUTBOUND" }))
	took, err := p50(outboundMaps, operation{do: (*client).mapElsewhere, after: (*client).unmapElsewhere})(r)
	if err != nil {
		return err
	}
	rate, err := r.connectOut()
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%d, %s%s µs, %s/s\n", present, l.settings, figure(took), figure(rate))
	c.maps.values, c.connections.values = append(c.maps.values, took), append(c.connections.values, rate)
	return nil
}

// mapElsewhere maps a port to another one.
func (c *client) mapElsewhere(port uint16) error {
	return c.natpmpRequest(port-elsewhere, port, lifetime)
}

func (c *client) unmapElsewhere(port uint16) error { return c.natpmpDelete(port - elsewhere) }

// connectOut measures how many connections per second the LAN makes to the Internet, one
// after another.
func (r *round) connectOut() (float64, error) {
	var l net.Listener
	err := r.lab.wan.Do(func() (err error) { l, err = net.Listen("tcp4", ":0"); return err })
	if err != nil {
		return 0, err
	}
	defer l.Close()
	go acceptAndClose(l)
	to := netip.AddrPortFrom(far, uint16(l.Addr().(*net.TCPAddr).Port))
	begin := time.Now()
	for range outboundConnects {
		if err := connectOnce(to); err != nil {
			return 0, fmt.Errorf("%v: %w", to, err)
		}
	}
	return outboundConnects / time.Since(begin).Seconds(), nil
}
