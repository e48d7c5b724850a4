package main

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/pcp"
)

// ssdpPort is the port of searches (UPnP Device Architecture 1.1, section 1.3.2).
const ssdpPort = 1900

// kind is a kind of UDP request, of floods and of honest clients alike.
type kind struct {
	name    string
	port    uint16
	request func(i int, from netip.Addr) []byte // the i-th one
	grants  func(b []byte, i int) bool          // the answer to the i-th one
	pause   time.Duration                       // between two requests of one host
}

// honestPause is the pause between two requests of an honest client, and allPause that
// between two searches for everything: a daemon may answer a host only once a second.
const (
	honestPause = 50 * time.Millisecond
	allPause    = 1100 * time.Millisecond
)

var (
	natpmpAddress = kind{"NAT-PMP address", natpmp.ServerPort, natpmpAddressRequest, isNATPMP(natpmp.Address), honestPause}
	natpmpMapping = kind{"NAT-PMP map, new ports", natpmp.ServerPort, natpmpMapRequest, isNATPMP(natpmp.MapUDP), honestPause}
	pcpMapping    = kind{"PCP MAP", pcp.ServerPort, pcpMapRequest, isPCP(pcp.Map), honestPause}
	pcpAnnounce   = kind{"PCP ANNOUNCE", pcp.ServerPort, pcpAnnounceRequest, isPCP(pcp.Announce), honestPause}
	searchOne     = kind{"M-SEARCH, one target", ssdpPort, searchRequest(igd), isSearchAnswer, honestPause}
	searchAll     = kind{"M-SEARCH, ssdp:all", ssdpPort, searchRequest("ssdp:all"), isSearchAnswer, allPause}
)

// internalPort is the port of the i-th mapping request of a host.
func internalPort(i int) uint16 { return 1024 + uint16(i%60000) }

func natpmpAddressRequest(int, netip.Addr) []byte {
	return natpmp.Request{Opcode: natpmp.Address}.Append(nil)
}

func natpmpMapRequest(i int, _ netip.Addr) []byte {
	return natpmp.Request{Opcode: natpmp.MapUDP, InternalPort: internalPort(i), Lifetime: lifetime}.Append(nil)
}

// isNATPMP returns whether an answer is a success of an operation.
func isNATPMP(op natpmp.Opcode) func([]byte, int) bool {
	return func(b []byte, i int) bool {
		r, err := natpmp.ParseResponse(b)
		return err == nil && r.Opcode == op && r.Result == natpmp.Success && (op == natpmp.Address || r.InternalPort == internalPort(i))
	}
}

// nonce is that of the i-th mapping request of a host.
func nonce(i int) (n pcp.Nonce) {
	binary.BigEndian.PutUint32(n[:], uint32(i))
	return n
}

func pcpMapRequest(i int, from netip.Addr) []byte { return newPCPRequest(pcp.Map, i, from).Append(nil) }

// newPCPRequest returns the i-th mapping request of a host, to any external port.
func newPCPRequest(op pcp.Opcode, i int, from netip.Addr) pcp.Request {
	unspecified := netip.IPv4Unspecified()
	if from.Is6() {
		unspecified = netip.IPv6Unspecified()
	}
	return pcp.Request{Opcode: op, Lifetime: lifetime, Client: from, Mapping: pcp.Mapping{
		Nonce: nonce(i), Protocol: tcp, InternalPort: internalPort(i), External: netip.AddrPortFrom(unspecified, 0),
	}}
}

func pcpAnnounceRequest(_ int, from netip.Addr) []byte {
	return pcp.Request{Opcode: pcp.Announce, Client: from}.Append(nil)
}

// isPCP returns whether an answer is a success of an operation.
func isPCP(op pcp.Opcode) func([]byte, int) bool {
	return func(b []byte, i int) bool {
		r, err := pcp.ParseResponse(b)
		return err == nil && r.Opcode == op && r.Result == pcp.Success && (op == pcp.Announce || r.Nonce == nonce(i))
	}
}

// searchRequest returns a search for one target.
func searchRequest(target string) func(int, netip.Addr) []byte {
	return func(_ int, from netip.Addr) []byte {
		host := "239.255.255.250:1900"
		if from.Is6() {
			host = "[ff02::c]:1900"
		}
		return []byte("M-SEARCH * HTTP/1.1\r\nHOST: " + host + "\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: " + target + "\r\n\r\n")
	}
}

func isSearchAnswer(b []byte, _ int) bool { return bytes.HasPrefix(b, []byte("HTTP/1.1 200 ")) }
