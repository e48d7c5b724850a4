package netlab

import (
	"fmt"
	"net/netip"
	"testing"
)

// ChainLink returns the address that router i of a chain has towards router i+1, which
// has the next one: of a shared network (RFC 6598) in front, of private ones behind.
func ChainLink(i int) netip.Prefix {
	first := byte(10)
	if i == 0 {
		first = 100
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{first, 64, byte(i), 1}), 24)
}

// NewChain builds n routers one behind the other and returns the lab of each, the
// outermost first: its WAN is the router before it, its client the router behind it.
// The outermost has a public address, the innermost a LAN with a client as in NewLab.
func NewChain(t testing.TB, n int) []*Lab {
	t.Helper()
	labs := make([]*Lab, n)
	for i := range labs {
		labs[i] = &Lab{Router: New(t, fmt.Sprintf("router%d", i))}
		labs[i].Router.Sysctl(t, "net/ipv4/ip_forward", "1")
	}
	labs[0].WAN = labs[0].uplink(t, "wan0", RouterWAN)
	labs[0].WAN.Address(t, "eth0", netip.PrefixFrom(host(RouterWAN, 2), RouterWAN.Bits()))
	labs[0].Router.IP(t, "route", "add", "default", "via", host(RouterWAN, 1).String())
	for i, lab := range labs[1:] {
		labs[i].connect(t, lab, ChainLink(i))
	}
	labs[n-1].lan(t, 1)
	return labs
}

// connect puts a router behind this one, which has the address towards it.
func (lab *Lab) connect(t testing.TB, behind *Lab, address netip.Prefix) {
	t.Helper()
	lab.Router.Connect(t, "lan0", behind.Router, "wan0")
	lab.Router.Address(t, "lan0", address)
	behind.Router.Address(t, "wan0", netip.PrefixFrom(address.Addr().Next(), address.Bits()))
	behind.Router.IP(t, "route", "add", "default", "via", address.Addr().String())
	lab.Clients, behind.WAN = []*Namespace{behind.Router}, lab.Router
}
