package daemon_test

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
	"igdd/pkg/pcp"
	"igdd/pkg/ssdp"
	"igdd/pkg/vectors/discovery"
)

// The addresses of the flood tests.
var (
	wideLAN   = netip.MustParsePrefix("10.50.0.1/16") // a second network of lan0
	attacker  = netip.MustParseAddr("192.168.50.11")
	honest6   = netip.MustParseAddr("2001:db8:50::10")
	router4   = netip.AddrPortFrom(netlab.RouterLAN.Addr(), 5351)
	router6   = netip.AddrPortFrom(netlab.RouterLAN6.Addr(), 5351)
	linkLocal = netip.MustParseAddrPort("[fe80::1]:5351")
)

// aliases is the number of addresses that the attacker really has, from .100 on.
const aliases = 100

// What follows returns the source of the n-th datagram.
func ownAddr(int) netip.Addr    { return attacker }
func honestAddr(int) netip.Addr { return client1 }
func aliasAddr(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{192, 168, 50, byte(100 + n%aliases)})
}
func absentAddr(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{192, 168, 50, byte(210 + n%40)})
}
func absentInWideLAN(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 50, byte(1 + n/200%200), byte(1 + n%200)})
}
func absentInSecondLAN(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{192, 168, 60, byte(100 + n%100)})
}

// inPrefix returns addresses of an IPv6 network that no host has.
func inPrefix(prefix string) func(int) netip.Addr {
	base := netip.MustParseAddr(prefix).As16()
	return func(n int) netip.Addr {
		binary.BigEndian.PutUint32(base[12:], 0xbad00000+uint32(n))
		return netip.AddrFrom16(base)
	}
}

// flood says which datagrams are forged.
type flood struct {
	source  func(n int) netip.Addr
	to      netip.AddrPort
	payload func(n int, source netip.Addr) []byte
	lan     string // the device of the router; "": lan0
}

func askAddress(int, netip.Addr) []byte { return []byte{0, 0} }

func askMapping(n int, _ netip.Addr) []byte {
	port := 2000 + uint16(n%1000)
	return mapping(natpmp.MapUDP, port, port, time.Hour).Append(nil)
}

func announce(_ int, source netip.Addr) []byte {
	return pcp.Request{Opcode: pcp.Announce, Client: source}.Append(nil)
}

func pcpMapping(n int, source netip.Addr) []byte {
	port := 2000 + uint16(n%1000)
	return pcpMap(source, 17, port, port).Append(nil)
}

func search(target string) func(int, netip.Addr) []byte {
	return func(int, netip.Addr) []byte { return discovery.Search(target) }
}

// floods are all by name.
func floods() map[string]flood {
	group := netip.AddrPortFrom(netlab.RouterLAN.Addr(), ssdp.Port)
	return map[string]flood{
		"address, absent":                     {source: absentAddr, to: router4, payload: askAddress},
		"address, thousands absent":           {source: absentInWideLAN, to: router4, payload: askAddress},
		"address, absent in the second LAN":   {source: absentInSecondLAN, to: netip.MustParseAddrPort("192.168.60.1:5351"), payload: askAddress, lan: "lan1"},
		"address, the honest one's":           {source: honestAddr, to: router4, payload: askAddress},
		"address, one host":                   {source: ownAddr, to: router4, payload: askAddress},
		"address, a hundred addresses":        {source: aliasAddr, to: router4, payload: askAddress},
		"mapping, the honest one's":           {source: honestAddr, to: router4, payload: askMapping},
		"mapping, one host":                   {source: ownAddr, to: router4, payload: askMapping},
		"mapping, a hundred addresses":        {source: aliasAddr, to: router4, payload: askMapping},
		"announce, link-local":                {source: inPrefix("fe80::"), to: linkLocal, payload: announce},
		"MAP, IPv6":                           {source: inPrefix("2001:db8:50::"), to: router6, payload: pcpMapping},
		"search, absent":                      {source: absentAddr, to: group, payload: search("upnp:rootdevice")},
		"search, one host":                    {source: ownAddr, to: group, payload: search("upnp:rootdevice")},
		"search, the honest one's":            {source: honestAddr, to: group, payload: search("upnp:rootdevice")},
		"search for all, thousands absent":    {source: absentInWideLAN, to: group, payload: search("ssdp:all")},
		"search for all, a hundred addresses": {source: aliasAddr, to: group, payload: search("ssdp:all")},
	}
}

// TestHonestClientBesideFlood has one host send 2,000 forged datagrams a second of each
// kind, and another one ask for the address, for a mapping and for an announcement over
// IPv6, and search for the gateway, each time as if it were new to the neighbour table.
func TestHonestClientBesideFlood(t *testing.T) {
	r := newRig(t, "legacy", netlab.Layout{Clients: 2, SecondLAN: true, IPv6: true})
	r.installed()
	r.Router.Address(t, "lan0", wideLAN)
	for n := range aliases {
		r.Clients[1].Address(t, "eth0", netip.PrefixFrom(aliasAddr(n), 24))
	}
	r.start(t, "listening_ip=lan1", "enable_upnp=yes", "ipv6=yes", "allow 1024-65535 0.0.0.0/0 1024-65535")
	all := floods()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		t.Run(name, func(t *testing.T) { r.beside(t, all[name]) })
	}
}

// beside demands responses during a flood, and logs what that took.
func (r *rig) beside(t *testing.T, f flood) {
	from, dev := r.Clients[1], "lan0"
	if f.lan != "" {
		from, dev = r.Client2, f.lan
	}
	flooder := r.newFlooder(t, from, dev)
	before, began := r.processorTime(t), time.Now()
	stop := flooder.run(func(n int) datagram {
		source := f.source(n)
		return datagram{from: netip.AddrPortFrom(source, 40000), to: f.to, payload: f.payload(n, source)}
	})
	defer stop()
	await(t, "the flood", func() bool { return flooder.sent.Load() > floodRate/2 })
	r.demandResponses(t)
	t.Logf("%d forged datagrams in %v, %v of processor time", flooder.sent.Load(), time.Since(began).Round(time.Millisecond), r.processorTime(t)-before)
}

// honestRequests are the requests of the honest client.
var honestRequests = map[string]honestRequest{
	"address":  {client1, router4, []byte{0, 0}, "\x00\x80"},
	"announce": {honest6, router6, announce(0, honest6), "\x02\x80"},
	"mapping":  {client1, router4, mapping(natpmp.MapTCP, 1900, 19000, time.Hour).Append(nil), "\x00\x82"},
	"search":   {client1, netip.AddrPortFrom(ssdp.IPv4.Addr(), ssdp.Port), discovery.Search("upnp:rootdevice"), "HTTP/1.1 200"},
}

// demandResponses makes a few requests of each kind, of which one may have no response
// within its first second, while the flood goes on. It tries again if the machine was
// too busy for the test itself.
func (r *rig) demandResponses(t *testing.T) {
	t.Helper()
	const rounds, asked = 5, 4
	for range rounds {
		took := make(map[string][]time.Duration)
		for range asked {
			for what, request := range honestRequests {
				r.Router.Command("ip", "neigh", "del", request.from.String(), "dev", "lan0").Run() // it may not be there
				if d, ok := r.askAsNew(t, request); ok {
					took[what] = append(took[what], d)
				}
				time.Sleep(50 * time.Millisecond) // else requests share a moment of the flood
			}
		}
		isAnswered := true
		for what, list := range took {
			slices.Sort(list)
			t.Logf("%s: %d of %d responses, after %v", what, len(list), asked, list)
			isAnswered = isAnswered && len(list) >= asked-1
		}
		if isAnswered && len(took) == len(honestRequests) {
			return
		}
	}
	t.Errorf("in %d rounds of %d requests more than one had no response", rounds, asked)
}

// honestRequest is a request and what its response begins with.
type honestRequest struct {
	from     netip.Addr
	to       netip.AddrPort
	payload  []byte
	response string
}

// askAsNew sends a request as the first client, and repeats it after 250 and 500 ms more (RFC
// 6886, section 3.1). It returns the time until a response, false if that is more than a
// second.
func (r *rig) askAsNew(t *testing.T, request honestRequest) (took time.Duration, ok bool) {
	t.Helper()
	c := discovery.Open(t, r.Clients[0], request.from)
	defer c.Close()
	began, b := time.Now(), make([]byte, 2048)
	for _, until := range []time.Duration{250 * time.Millisecond, 750 * time.Millisecond, time.Second} {
		if _, err := c.WriteToUDPAddrPort(request.payload, request.to); err != nil {
			t.Fatal(err)
		}
		c.SetReadDeadline(began.Add(until))
		n, err := c.Read(b)
		if err == nil && strings.HasPrefix(string(b[:n]), request.response) {
			return time.Since(began), true
		}
		if err, isNet := err.(net.Error); err != nil && (!isNet || !err.Timeout()) {
			t.Fatal(err)
		}
	}
	return 0, false
}

// processorTime returns the processor time that the daemon has used.
func (r *rig) processorTime(t *testing.T) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.pid()))
	if err != nil {
		t.Fatal(err)
	}
	const perTick = 10 * time.Millisecond // USER_HZ is 100
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+2:]))
	var user, system int
	fmt.Sscan(fields[11], &user)
	fmt.Sscan(fields[12], &system)
	return time.Duration(user+system) * perTick
}
