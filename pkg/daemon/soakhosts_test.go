package daemon_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
	"igdd/pkg/pcp"
)

// soakHost is a host of a LAN that sends requests of all protocols.
type soakHost struct {
	*soakRun
	net          *netlab.Namespace
	rng          *rand.Rand
	addr, addr6  netip.Addr
	router       netip.Addr // its addresses on the host's LAN
	router6      netip.Addr
	anyProtocol  uint8  // of mappings whose external port the router chooses; UPnP names them by that port
	subscriber   bool   // to events
	subscription string // its SID
}

// hostPause is the mean pause between two requests of a host: 12 hosts send fewer than 50 a
// second, of which a quarter opens a TCP connection. A run takes less than half a core.
const hostPause = 200 * time.Millisecond

// The first external port that clients ask for, and how many there are.
const (
	firstExternal = 20000
	externalPorts = 40
)

// work sends requests until the run stops.
func (h *soakHost) work() {
	for {
		select {
		case <-h.stopped:
			return
		case <-time.After(time.Duration(h.rng.Int64N(int64(2 * hostPause)))):
			h.request()
		}
	}
}

// request sends one request.
func (h *soakHost) request() {
	kinds := []struct {
		weight int
		send   func()
	}{
		{24, h.askNATPMP}, {18, h.askPCP}, {12, h.askPCP6}, {5, h.askPeer}, {2, h.deleteAll}, {3, h.askAddress}, {3, h.announce},
		{10, h.askUPnP}, {3, h.askAny}, {6, h.askPinhole}, {4, h.read}, {2, h.search}, {2, h.subscribe}, {6, h.sendNonsense},
	}
	sum := 0
	for _, k := range kinds {
		sum += k.weight
	}
	n := h.rng.IntN(sum)
	for _, k := range kinds {
		if n -= k.weight; n < 0 {
			k.send()
			return
		}
	}
}

// pick returns one of a number of ports.
func (h *soakHost) pick(first, n int) uint16 { return uint16(first + h.rng.IntN(n)) }

// protocol returns TCP or UDP.
func (h *soakHost) protocol() uint8 { return []uint8{6, 17}[h.rng.IntN(2)] }

// external returns a port to ask for, sometimes any.
func (h *soakHost) external() uint16 {
	if h.rng.IntN(4) == 0 {
		return 0
	}
	return h.pick(firstExternal, externalPorts)
}

// lifetime returns how long a mapping is to last: many are to expire soon.
func (h *soakHost) lifetime() time.Duration {
	return []time.Duration{10 * time.Second, 30 * time.Second, 3 * time.Minute, 20 * time.Minute, time.Hour}[h.rng.IntN(5)]
}

// isDeletion decides whether a request deletes a mapping: one that exists twice out of
// five times, any other seldom.
func (h *soakHost) isDeletion(p promise) bool {
	if p.state == isGranted {
		return h.rng.IntN(5) < 2
	}
	return h.rng.IntN(10) == 0
}

// resends are the times until a client repeats a request, and then gives up.
var resends = []time.Duration{250 * time.Millisecond, 500 * time.Millisecond, time.Second}

// addrPort is shorter than netip.AddrPortFrom.
func addrPort(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

// exchange sends a datagram until isAnswer accepts a response.
func (h *soakHost) exchange(to netip.Addr, request []byte, isAnswer func([]byte) bool) (o outcome) {
	from := h.addr
	if to.Is6() {
		from = h.addr6
	}
	c, err := h.listenUDP(from)
	if err != nil {
		return o
	}
	defer c.Close()
	for _, wait := range resends {
		if _, err := c.WriteToUDPAddrPort(request, addrPort(to, pcp.ServerPort)); err == nil {
			o.isSent, o.isRepeated = true, o.isSent
		}
		if o.isAnswered = readUntil(c, wait, isAnswer); o.isAnswered {
			break
		}
	}
	return o
}

// listenUDP opens a socket of the host.
func (h *soakHost) listenUDP(from netip.Addr) (c *net.UDPConn, err error) {
	err = h.net.Do(func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(addrPort(from, 0)))
		return err
	})
	return c, err
}

// readUntil reads datagrams for a time, until one is accepted.
func readUntil(c *net.UDPConn, wait time.Duration, accept func([]byte) bool) bool {
	c.SetReadDeadline(time.Now().Add(wait))
	b := make([]byte, 2048)
	for {
		n, err := c.Read(b)
		if err != nil {
			return false
		}
		if accept(b[:n]) {
			return true
		}
	}
}

// outcome is how a request ended.
type outcome struct {
	isSent, isAnswered, isGranted bool          // isSent: a copy of the request has left the host
	isRepeated                    bool          // more than one has
	lifetime                      time.Duration // asked for; 0: delete
	granted                       time.Duration
	other                         uint16
	id                            string
	what                          string // in words
}

// finish notes how a request for a claim ended, of which the promise was was. If a
// repetition is refused the first copy may have been granted, and its answer lost.
func (h *soakHost) finish(c claim, was promise, o outcome) {
	kind := "refused"
	switch {
	case !o.isSent:
		kind = "not sent"
	case !o.isAnswered:
		kind, was.state, was.expires = "unanswered", isPerhaps, later(was, o.lifetime)
	case o.isGranted && o.lifetime == 0:
		kind, was.state = "deleted", isGone
	case o.isGranted:
		kind, was.state, was.other, was.id, was.expires = "granted", isGranted, o.other, o.id, time.Now().Add(o.granted)
	case o.isRepeated:
		was.state, was.expires = isPerhaps, later(was, o.lifetime)
	}
	h.book.count(kind)
	h.book.answer(c, was, fmt.Sprintf("%s: %s, port %d, asked for %v", kind, o.what, o.other, o.lifetime))
}

// later returns when a mapping ends at the latest if a request for a lifetime has been
// processed, or has not.
func later(was promise, lifetime time.Duration) time.Time {
	end := time.Now().Add(lifetime)
	switch {
	case was.state != isGone && (was.expires.IsZero() || was.expires.After(end)):
		return was.expires
	}
	return end
}

// askNATPMP maps a port by NAT-PMP, or deletes the mapping.
func (h *soakHost) askNATPMP() {
	number := h.protocol()
	c := claim{"NAT-PMP", h.addr, protocols[number], h.pick(natpmpPorts, 6)}
	was := h.book.ask(c)
	req := mapping(map[uint8]natpmp.Opcode{6: natpmp.MapTCP, 17: natpmp.MapUDP}[number], c.port, h.external(), h.lifetime())
	if h.isDeletion(was) {
		req.Lifetime, req.SuggestedPort = 0, 0
	}
	resp, o := h.natpmp(req)
	o.other, o.granted, o.lifetime = resp.ExternalPort, resp.Lifetime, req.Lifetime
	h.finish(c, was, o)
}

// natpmp sends a request.
func (h *soakHost) natpmp(req natpmp.Request) (resp natpmp.Response, o outcome) {
	o = h.exchange(h.router, req.Append(nil), func(b []byte) bool {
		var err error
		resp, err = natpmp.ParseResponse(b)
		return err == nil && resp.Opcode == req.Opcode && resp.InternalPort == req.InternalPort
	})
	o.isGranted, o.what = resp.Result == natpmp.Success, fmt.Sprintf("NAT-PMP result %d", resp.Result)
	return resp, o
}

// askAddress asks for the external address by NAT-PMP.
func (h *soakHost) askAddress() {
	_, o := h.natpmp(natpmp.Request{Opcode: natpmp.Address})
	h.countRead(o.isAnswered)
}

// countRead counts a request that changes nothing.
func (h *soakHost) countRead(isAnswered bool) {
	h.book.count(map[bool]string{true: "read", false: "unanswered"}[isAnswered])
}

// deleteAll deletes all mappings of a protocol that were made by NAT-PMP.
func (h *soakHost) deleteAll() {
	number := h.protocol()
	all := h.book.of(func(c claim, _ promise) bool {
		return c.origin == "NAT-PMP" && c.client == h.addr && c.protocol == protocols[number]
	})
	before := make([]promise, len(all))
	for i, c := range all {
		before[i] = h.book.ask(c)
	}
	resp, o := h.natpmp(mapping(map[uint8]natpmp.Opcode{6: natpmp.MapTCP, 17: natpmp.MapUDP}[number], 0, 0, 0))
	o.isGranted = o.isGranted || resp.Result == natpmp.NotAuthorized // mappings of other protocols are left
	for i, c := range all {
		h.finish(c, before[i], o)
	}
}

// nonce returns the nonce of a claim.
func (c claim) nonce() (n pcp.Nonce) {
	binary.BigEndian.PutUint16(n[:], c.port)
	copy(n[2:], c.protocol)
	return n
}

// pcpNumber returns the protocol's number.
func (c claim) pcpNumber() uint8 { return map[string]uint8{"TCP": 6, "UDP": 17}[c.protocol] }

// askPCP maps a port by PCP, or deletes the mapping.
func (h *soakHost) askPCP() {
	c := claim{"PCP", h.addr, protocols[h.protocol()], h.pick(pcpPorts, 6)}
	h.askMap(c, h.router, pcp.Filter{PrefixLength: 120, Remote: netip.MustParseAddrPort("11.22.33.0:0")})
}

// askPCP6 opens a pinhole by PCP, or closes it.
func (h *soakHost) askPCP6() {
	c := claim{"PCP", h.addr6, protocols[h.protocol()], h.pick(pcp6Ports, 4)}
	h.askMap(c, h.router6, pcp.Filter{PrefixLength: 64, Remote: netip.MustParseAddrPort("[2001:db8:33::]:0")})
}

// askMap sends a MAP request, with the filter in some.
func (h *soakHost) askMap(c claim, to netip.Addr, peers pcp.Filter) {
	was := h.book.ask(c)
	req := pcpMap(c.client, c.pcpNumber(), c.port, h.external())
	req.Nonce, req.Lifetime = c.nonce(), max(h.lifetime(), 2*time.Minute)
	switch {
	case h.isDeletion(was):
		req.Lifetime = 0
	case h.rng.IntN(6) == 0 && req.External.Port() > 0:
		req.Options = []pcp.Option{pcp.PreferFailure{}}
	case h.rng.IntN(4) == 0:
		req.Options = []pcp.Option{peers}
	case h.rng.IntN(4) == 0:
		req.Options = []pcp.Option{pcp.Filter{Remote: peers.Remote}} // none
	}
	h.finishPCP(c, was, to, req)
}

// askPeer gives a flow an external port by PCP's PEER. It cannot be deleted: it ends by
// itself (RFC 6887, section 12.1).
func (h *soakHost) askPeer() {
	c := claim{"PCP", h.addr, "UDP", h.pick(peerPorts, 3)}
	req := pcpMap(c.client, 17, c.port, h.external())
	req.Opcode, req.Nonce, req.Lifetime = pcp.Peer, c.nonce(), 2*time.Minute
	req.Remote = netip.MustParseAddrPort("11.22.33.1:9999")
	h.finishPCP(c, h.book.ask(c), h.router, req)
}

// finishPCP sends a MAP or PEER request and notes the response.
func (h *soakHost) finishPCP(c claim, was promise, to netip.Addr, req pcp.Request) {
	resp, o := h.pcp(to, req)
	o.lifetime, o.granted, o.other = req.Lifetime, resp.Lifetime, resp.External.Port()
	h.finish(c, was, o)
}

// pcp sends a request.
func (h *soakHost) pcp(to netip.Addr, req pcp.Request) (resp pcp.Response, o outcome) {
	o = h.exchange(to, req.Append(nil), func(b []byte) bool {
		var err error
		resp, err = pcp.ParseResponse(b)
		return err == nil && resp.Opcode == req.Opcode && resp.Nonce == req.Nonce && resp.InternalPort == req.InternalPort
	})
	o.isGranted, o.what = resp.Result == pcp.Success, resp.Result.Error()
	return resp, o
}

// announce asks for the epoch by PCP's ANNOUNCE, over either family.
func (h *soakHost) announce() {
	to, from := h.router, h.addr
	if h.rng.IntN(2) == 0 {
		to, from = h.router6, h.addr6
	}
	_, o := h.pcp(to, pcp.Request{Opcode: pcp.Announce, Client: from})
	h.countRead(o.isAnswered)
}

// sendNonsense sends a request that must change nothing.
func (h *soakHost) sendNonsense() {
	other := pcpMap(netip.MustParseAddr("192.168.50.99"), 6, 4990, 20000)
	random := make([]byte, h.rng.IntN(1200))
	for i := range random {
		random[i] = byte(h.rng.Uint32()) | 4 // no version of NAT-PMP or PCP
	}
	wrong := [][]byte{
		random, {0}, {0, 1, 0}, {2, 1}, {3, 1, 0, 0}, append([]byte{2}, random...),
		other.Append(nil), append(other.Append(nil), 2, 0, 0, 9),
	}
	c, err := h.listenUDP(h.addr)
	if err != nil {
		return
	}
	defer c.Close()
	port := []uint16{pcp.ServerPort, pcp.ServerPort, 1900}[h.rng.IntN(3)]
	c.WriteToUDPAddrPort(wrong[h.rng.IntN(len(wrong))], addrPort(h.router, port))
	h.book.count("nonsense")
	if h.rng.IntN(3) == 0 {
		h.sendWrongHTTP()
	}
}
