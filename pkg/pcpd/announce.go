package pcpd

import (
	"net/netip"
	"slices"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/pcp"
	"igdd/pkg/portmap"
)

// Where clients listen for announcements: the group of all hosts (RFC 6886,
// section 3.2.1; RFC 6887, section 14.1.3).
var (
	allHosts4 = netip.AddrPortFrom(netip.AddrFrom4([4]byte{224, 0, 0, 1}), pcp.AnnouncePort)
	allHosts6 = netip.AddrPortFrom(netip.IPv6LinkLocalAllNodes(), pcp.AnnouncePort)
)

func (l *Listener) news() news { return news{l.Desk.External(), l.Desk.Epoch()} }

// tell sends the n-th copy of an announcement from every address that clients
// may use as their gateway: they ignore other sources.
func (l *Listener) tell(n int) {
	own := l.lan.Prefixes()
	for _, c := range l.conns {
		for _, from := range gateways(own, c.any) {
			if err := l.announce(c, from); err != nil {
				l.Log.Debug("announcement is lost", "interface", l.lan.Name(), "from", from, "err", err)
			}
		}
	}
	if n < updateCopies {
		l.update()
	}
}

// announce sends one copy in each protocol, PCP's first. NAT-PMP has nothing to
// say without an external address.
func (l *Listener) announce(c *conn, from netip.Addr) error {
	to := allHosts6
	if from.Is4() {
		to = allHosts4
	}
	if l.PCP {
		if err := c.send(pcp.Response{Epoch: l.Desk.Epoch()}.Append(nil), from, to); err != nil {
			return err
		}
	}
	if r := l.addressResponse(); l.NATPMP && from.Is4() && r.Result == natpmp.Success {
		return c.send(r.Append(nil), from, to)
	}
	return nil
}

// gateways returns the own addresses of one family that clients may send to:
// the first of each IPv4 network, all of IPv6.
func gateways(own []netip.Prefix, family netip.Addr) []netip.Addr {
	var list []netip.Addr
	seen := make(map[netip.Prefix]bool)
	for _, p := range own {
		if p.Addr().Is4() == family.Is4() && (p.Addr().Is6() || !seen[p.Masked()]) {
			seen[p.Masked()] = true
			list = append(list, p.Addr())
		}
	}
	return list
}

// Mapping updates go out with the first copies of an announcement (RFC 6887,
// section 14.2), many of them in portions.
const (
	updateCopies  = 3
	portion       = 100
	portionPause  = 5 * time.Millisecond
	longestUpdate = 200 * time.Millisecond // less than the first gap
)

// contact is where the desk finds the client of a PCP mapping again. It is
// never changed.
type contact struct {
	lan      string // name of the interface
	client   netip.AddrPort
	asked    netip.Addr
	request  pcp.Request
	external netip.Addr // no newer than the address that the client was told
}

// update tells the clients on the interface whose mappings have another
// external address than they know. A client that asks again is known by its
// new contact.
func (l *Listener) update() {
	external := l.Desk.External()
	if !external.IsValid() {
		return
	}
	began, sent := time.Now(), 0
	for _, m := range l.Desk.List() {
		claim, _ := m.Claim(portmap.PCP)
		c, ok := claim.Contact.(*contact)
		if !ok || c.lan != l.lan.Name() || c.external == external || m.Pinhole.IsValid() {
			continue
		}
		l.updateOne(m, claim, c)
		if sent++; sent%portion == 0 && time.Since(began) < longestUpdate {
			time.Sleep(portionPause)
		}
	}
}

// updateOne sends what the client would be answered now. Optional options are
// left out (RFC 6887, section 14.2).
func (l *Listener) updateOne(m *portmap.Mapping, claim portmap.Claim, c *contact) {
	x := exchange{Listener: l, conn: l.conns[0], client: c.client, asked: c.asked}
	ask, options := question(c.request)
	if fault := objection(c.request, ask, l.Desk.External()); fault != pcp.Success {
		x.packet = c.request.Append(nil)
		x.refuse(fault, fault.Lifetime())
		return
	}
	reply := pcp.Response{
		Opcode: pcp.Map, Lifetime: time.Until(claim.Expires), Epoch: l.Desk.Epoch(),
		Mapping: c.request.Mapping, Options: slices.DeleteFunc(options, isDescription),
	}
	reply.External = l.endpoint(m)
	x.reply(reply.Append(nil))
}
