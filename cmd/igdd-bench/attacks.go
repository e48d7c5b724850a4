package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/pcp"
)

const (
	// attackTime is how long a flood goes on.
	attackTime = 6 * time.Second
	// attackRequests is the number of requests of an attack that waits for answers: many
	// times a host's quota.
	attackRequests = 2000
	// fatBody is the length of a fat request's body, a little less than the daemon takes.
	fatBody = 60000
)

// attack is what a hostile host does to have the daemon use memory. It returns how many
// requests or connections there were.
type attack struct {
	what string
	run  func(l *lab, s *service) (int, error)
}

var attacks = []attack{
	{"nothing", func(*lab, *service) (int, error) { return 0, nil }},
	{"AddPortMapping with 60,000 octets", fatMappings("AddPortMapping")},
	{"AddAnyPortMapping with 60,000 octets", fatMappings("AddAnyPortMapping")},
	{"AddPinhole with 60,000 octets", fatPinholes},
	{"PCP MAP with 16 filters and a description", flooding(fatPCPMap, hundred)},
	{"PCP MAP over IPv6 with 16 filters and a description", flooding(fatPCPMap, hundredULA)},
	{"PCP PEER with a description", flooding(fatPCPPeer, hundred)},
	{"NAT-PMP map from 100 addresses", flooding(natpmpMapping, hundred)},
	{"NAT-PMP map from invented hosts", flooding(natpmpMapping, invented)},
	{"64 lists of 384 mappings that nobody reads", unreadLists},
	{"64 bodies of 60,000 octets that never end", holdingFor(endlessBody)},
	{"64 subscriptions that nobody reads", subscriptions},
	{"M-SEARCH from invented hosts", flooding(searchOne, invented)},
	{"M-SEARCH for everything from 100 addresses", flooding(searchAll, hundred)},
}

// flooding is an attack by a flood.
func flooding(k kind, from sources) func(*lab, *service) (int, error) {
	return func(l *lab, _ *service) (int, error) {
		f, err := l.startFlood(k, from)
		if err != nil {
			return 0, err
		}
		return goOn(f)
	}
}

// goOn lets a nuisance go on for the time of an attack.
func goOn(n nuisance) (int, error) {
	time.Sleep(attackTime)
	perSecond, err := n.stop()
	return int(perSecond * attackTime.Seconds()), err
}

// holdingFor is an attack by held connections, with a text sent on each.
func holdingFor(text func(*service) string) func(*lab, *service) (int, error) {
	return func(l *lab, s *service) (int, error) { return goOn(l.startHold(s.host, hundred, text(s))) }
}

// endlessBody is a request whose body lacks its last octet.
func endlessBody(s *service) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %v\r\nContent-Type: text/xml\r\nSOAPAction: \"%s#AddPortMapping\"\r\nContent-Length: %d\r\n\r\n%s",
		s.control, s.host, wanIP, fatBody, strings.Repeat(" ", fatBody-1))
}

// unreadLists fills the table and asks for lists.
func unreadLists(l *lab, s *service) (int, error) {
	if err := l.fillTable(s); err != nil {
		return 0, err
	}
	return holdingFor(listRequest)(l, s)
}

// fatText is a description: characters that grow when they are escaped, or plain ones.
func fatText(i int) string {
	const room = fatBody - 2000
	if i%2 == 0 {
		return strings.Repeat("&amp;", room/len("&amp;"))
	}
	return strings.Repeat("d", room)
}

// fatMappings is an attack by mappings with long descriptions.
func fatMappings(action string) func(*lab, *service) (int, error) {
	return func(l *lab, s *service) (int, error) {
		kind := wanIP
		if action == "AddAnyPortMapping" {
			kind = wanIP2
		}
		return l.attackHTTP(s, hundred, func(i int, from netip.Addr) (string, string) {
			return soap(kind, action, mappingArguments(internalPort(i), from, fatText(i))...)
		})
	}
}

// firewallControl is the service type of pinholes.
const firewallControl = "urn:schemas-upnp-org:service:WANIPv6FirewallControl:1"

// fatPinholes is an attack by pinholes in long requests.
func fatPinholes(l *lab, s *service) (int, error) {
	at := &service{host: netip.AddrPortFrom(routerULA, s.host.Port()), control: s.pinholes}
	return l.attackHTTP(at, hundredULA, func(i int, from netip.Addr) (string, string) {
		header, body := soap(firewallControl, "AddPinhole", "RemoteHost", "", "RemotePort", 0, "InternalClient", from,
			"InternalPort", internalPort(i), "Protocol", tcp, "LeaseTime", 3600)
		return header, body + strings.Repeat("\n", fatBody-len(body))
	})
}

// attackHTTP posts requests from the attacker, and returns how many were granted.
func (l *lab) attackHTTP(s *service, from sources, request func(i int, from netip.Addr) (header, body string)) (granted int, err error) {
	return l.countGranted(s, from, attackRequests, func(i int, w *web) error {
		header, body := request(i, w.from)
		_, err := w.roundTrip("POST "+s.control, header, body)
		return err
	})
}

// countGranted has the attacker send so many requests, each on a connection of its own,
// and returns how many were granted.
func (l *lab) countGranted(s *service, from sources, requests int, send func(i int, w *web) error) (granted int, err error) {
	err = l.attacker.Do(func() error {
		for i := range requests {
			w := &web{service: s, from: from.at(i), wait: servedWait}
			if err = send(i, w); err == nil {
				granted++
			}
			w.close()
		}
		if granted == 0 {
			return fmt.Errorf("nothing was granted: %w", err)
		}
		return nil
	})
	return granted, err
}

var (
	fatPCPMap  = kind{name: "PCP MAP", port: pcp.ServerPort, request: fatPCP(pcp.Map, fatFilters)}
	fatPCPPeer = kind{name: "PCP PEER", port: pcp.ServerPort, request: fatPCP(pcp.Peer, 0)}
)

// fatFilters is the number of filters that a mapping may have.
const fatFilters = 16

// fatPCP returns the longest request for a mapping.
func fatPCP(op pcp.Opcode, filters int) func(int, netip.Addr) []byte {
	return func(i int, from netip.Addr) []byte {
		peer := netip.MustParseAddr("9.9.0.0")
		if from.Is6() {
			peer = netip.MustParseAddr("2001:db8:9::")
		}
		r := newPCPRequest(op, i, from)
		if op == pcp.Peer {
			r.Remote = netip.AddrPortFrom(peer, 443)
		}
		for n := range filters {
			peer = peer.Next()
			r.Options = append(r.Options, pcp.Filter{PrefixLength: 128, Remote: netip.AddrPortFrom(peer, uint16(1+n))})
		}
		room := pcp.MaxLen - len(r.Append(nil)) - 4 // an option's header
		r.Options = append(r.Options, pcp.Description{Text: strings.Repeat("d", room)})
		return r.Append(nil)
	}
}

// natpmpChange maps a port and deletes it again, in turn.
var natpmpChange = kind{name: "NAT-PMP map and delete", port: natpmp.ServerPort, request: func(i int, _ netip.Addr) []byte {
	r := natpmp.Request{Opcode: natpmp.MapTCP, InternalPort: internalPort(i / 2)}
	if i%2 == 0 {
		r.Lifetime = lifetime
	}
	return r.Append(nil)
}}

// subscriptions subscribes to a listener that takes no connection, and changes the
// table, so that there are events.
func subscriptions(l *lab, s *service) (int, error) {
	var listener net.Listener
	err := l.attacker.Do(func() (err error) {
		listener, err = net.Listen("tcp4", ":0")
		return err
	})
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	port := listener.Addr().(*net.TCPAddr).Port
	granted, err := l.subscribe(s, port)
	_, changes := flooding(natpmpChange, oneHost)(l, s)
	return granted, errors.Join(err, changes)
}

// subscribe subscribes the attacker's port as often as it holds connections.
func (l *lab) subscribe(s *service, port int) (granted int, err error) {
	return l.countGranted(s, hundred, holders, func(_ int, w *web) error {
		_, err := w.roundTrip("SUBSCRIBE "+s.events, fmt.Sprintf("CALLBACK: <http://%v:%d/%s>\r\nNT: upnp:event\r\nTIMEOUT: Second-3600\r\n",
			w.from, port, strings.Repeat("c", 900)), "")
		return err
	})
}
