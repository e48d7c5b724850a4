package daemon_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/netlab"
	"igdd/pkg/pcp"
)

// pcpMap returns a MAP request of a client for an hour, with the same nonce for
// the same client.
func pcpMap(client netip.Addr, protocol uint8, internal, external uint16, options ...pcp.Option) pcp.Request {
	raw := client.As16()
	return pcp.Request{Opcode: pcp.Map, Lifetime: time.Hour, Client: client, Options: options, Mapping: pcp.Mapping{
		Nonce: pcp.Nonce(raw[4:]), Protocol: protocol, InternalPort: internal,
		External: netip.AddrPortFrom(netip.IPv4Unspecified(), external),
	}}
}

// pcp asks as the i-th client and returns the answer.
func (r *rig) pcp(t testing.TB, i int, req pcp.Request) pcp.Response {
	t.Helper()
	gateway, source := netlab.RouterLAN.Addr(), []netip.Addr{client1, client2}[i]
	if req.Client.Is6() {
		gateway, source = netlab.RouterLAN6.Addr(), netip.MustParseAddr(fmt.Sprintf("2001:db8:50::1%d", i))
	}
	reply, _ := exchange(t, r.Clients[i], source, gateway, req.Append(nil), patience)
	resp, err := pcp.ParseResponse(reply)
	if err != nil {
		t.Fatalf("reply %x to %+v: %v", reply, req, err)
	}
	return resp
}

// demandMapped demands that the first client is granted an external port.
func (r *rig) demandMapped(t testing.TB, req pcp.Request, external uint16) {
	t.Helper()
	resp := r.pcp(t, 0, req)
	if resp.Result != pcp.Success || resp.External.Port() != external || resp.Lifetime != req.Lifetime || resp.Nonce != req.Nonce {
		t.Fatalf("%+v is answered %+v, want port %d", req, resp, external)
	}
}

// demandDeleted deletes a mapping of the first client.
func (r *rig) demandDeleted(t testing.TB, req pcp.Request) {
	t.Helper()
	req.Lifetime = 0
	r.demandMapped(t, req, req.External.Port())
}

// family is an address family as PCP serves it.
type family struct {
	name          string
	client, other netip.Addr // the first client and the second
	gateway       netip.Addr
	outside       netip.Addr // what the outside dials
	one, two      netip.Addr // hosts outside
	bits          uint8      // where FILTER's prefixes begin
	translates    bool
}

var families = []family{
	{"IPv4", client1, client2, netlab.RouterLAN.Addr(), netlab.RouterWAN.Addr(), wanHost, netip.MustParseAddr("11.22.33.2"), 96, true},
	{"IPv6", addr6, netip.MustParseAddr("2001:db8:50::11"), netlab.RouterLAN6.Addr(), addr6,
		netip.MustParseAddr("2001:db8:33::1"), netip.MustParseAddr("2001:db8:33::2"), 0, false},
}

// external returns the port that the outside dials where wish was asked for.
func (f family) external(wish, internal uint16) uint16 {
	if f.translates {
		return wish
	}
	return internal
}

// newPCPRig makes a lab with two clients whose first answers on TCP and UDP
// port 4000, and with two hosts outside in either family.
func newPCPRig(t *testing.T, variant string) *rig {
	t.Helper()
	r := newRig(t, variant, netlab.Layout{Clients: 2, IPv6: true})
	r.firewallIPv6(t)
	r.WAN.Address(t, "eth0", netip.MustParsePrefix("2001:db8:33::2/64"))
	for _, c := range r.Clients {
		c.Echo(t, "tcp", ":4000")
		c.Echo(t, "udp", ":4000")
	}
	return r
}

// TestPCPClient has a client map, renew and delete, and another host try to do so
// in its name, and probes the port from the WAN.
func TestPCPClient(t *testing.T) {
	t.Parallel()
	r := newPCPRig(t, "legacy")
	r.start(t, "ipv6=yes", "pcp_allow_thirdparty=no", "pcp_lenient_nonce=no")
	for _, f := range families {
		for protocol, network := range map[uint8]string{6: "tcp", 17: "udp"} {
			t.Run(f.name+" "+network, func(t *testing.T) {
				port := f.external(41000, 4000)
				probe := netlab.Probe{Network: network, From: r.WAN, To: netip.AddrPortFrom(f.outside, port)}
				req := pcpMap(f.client, protocol, 4000, 41000)
				refuses := func(what string, i int, req pcp.Request, want pcp.Result) {
					t.Helper()
					if resp := r.pcp(t, i, req); resp.Result != want || resp.Lifetime == 0 {
						t.Errorf("%s: %v for %v, want %v", what, resp.Result, resp.Lifetime, want)
					}
				}

				forged := req
				forged.Client = f.other
				refuses("a wrong client address", 0, forged, pcp.AddressMismatch)
				refuses("an option that is switched off", 1, pcpMap(f.other, protocol, 4000, 41000, pcp.ThirdParty{Internal: f.client}), pcp.UnsuppOption)
				probe.Blocked(t)

				r.demandMapped(t, req, port)
				probe.Arrives(t)
				renewal := req
				renewal.External = netip.AddrPortFrom(netip.IPv4Unspecified(), 41999)
				r.demandMapped(t, renewal, port)
				first, _ := exchange(t, r.Clients[0], f.client, f.gateway, req.Append(nil), patience)
				again, _ := exchange(t, r.Clients[0], f.client, f.gateway, req.Append(nil), patience)
				if !bytes.Equal(first[12:], again[12:]) {
					t.Errorf("a repeated request is answered %x, then %x", first, again)
				}

				stolen := req
				stolen.Nonce[0]++
				refuses("a renewal with another nonce", 0, stolen, pcp.NotAuthorized)
				stolen.Lifetime = 0
				refuses("a delete with another nonce", 0, stolen, pcp.NotAuthorized)
				exact := pcpMap(f.client, protocol, 4000, 41001, pcp.PreferFailure{})
				refuses("another port or none", 0, exact, pcp.CannotProvideExternal)
				if f.client.Is4() {
					refuses("a taken port or none", 1, pcpMap(f.other, protocol, 4000, port, pcp.PreferFailure{}), pcp.CannotProvideExternal)
				}
				probe.Arrives(t)

				r.demandDeleted(t, req)
				probe.Blocked(t)
				r.demandDeleted(t, req) // nothing is left
			})
		}
	}
}

// TestThirdPartyWhereAllowed opens a port for another host of the LAN.
func TestThirdPartyWhereAllowed(t *testing.T) {
	t.Parallel()
	r := newPCPRig(t, "nft")
	r.start(t, "ipv6=yes", "pcp_allow_thirdparty=yes")
	for _, f := range families {
		port := f.external(41000, 4000)
		probe := netlab.Probe{Network: "tcp", From: r.WAN, To: netip.AddrPortFrom(f.outside, port)}
		req := pcpMap(f.other, 6, 4000, 41000, pcp.ThirdParty{Internal: f.client})
		if resp := r.pcp(t, 1, req); resp.Result != pcp.Success || resp.External.Port() != port || len(resp.Options) != 1 {
			t.Fatalf("%s: %+v", f.name, resp)
		}
		probe.Arrives(t)
		req.Lifetime = 0
		if resp := r.pcp(t, 1, req); resp.Result != pcp.Success {
			t.Fatalf("%s: %v", f.name, resp.Result)
		}
		probe.Blocked(t)
	}
}

// TestFiltersKeepOthersOut proves FILTER from outside, by sources that are
// allowed and such that are not, before and after restarts.
func TestFiltersKeepOthersOut(t *testing.T) {
	t.Parallel()
	for variant, network := range map[string]string{"legacy": "tcp", "nft": "udp"} {
		for _, f := range families {
			t.Run(f.name+" "+network, func(t *testing.T) {
				t.Parallel()
				r := newPCPRig(t, variant)
				// As on any router: what is dropped leaves no conntrack entry that later
				// datagrams would match.
				r.ipt(t, "-A", "INPUT", "-i", "wan+", "-j", "DROP")
				r.start(t, "ipv6=yes")
				playFilters(t, r, f, network)
			})
		}
	}
}

// playFilters changes the filters of one mapping.
func playFilters(t *testing.T, r *rig, f family, network string) {
	filter := func(a netip.Addr, bits int, port uint16) pcp.Option {
		return pcp.Filter{PrefixLength: f.bits + uint8(bits), Remote: netip.AddrPortFrom(a, port)}
	}
	none, whole := pcp.Filter{Remote: netip.AddrPortFrom(f.one, 0)}, f.one.BitLen()
	protocol := map[string]uint8{"tcp": 6, "udp": 17}[network]
	port := f.external(41000, 4000)
	restart := func() {
		for _, end := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
			r.stop(t, end)
			r.start(t, "ipv6=yes")
		}
	}
	for _, step := range []struct {
		what    string
		options []pcp.Option
		then    func()
		arrives [3]bool // from one, from two, and from port 7777 of two
	}{
		{"one host", []pcp.Option{filter(f.one, whole, 0)}, nil, [3]bool{true, false, false}},
		{"and a port of another", []pcp.Option{filter(f.two, whole, 7777)}, nil, [3]bool{true, false, true}},
		{"renewed", nil, nil, [3]bool{true, false, true}},
		{"none before a network", []pcp.Option{filter(f.one, whole, 0), none, filter(f.two, whole-1, 0)}, nil, [3]bool{false, true, true}},
		{"and a wider one", []pcp.Option{filter(f.one, whole-8, 0)}, nil, [3]bool{true, true, true}},
		{"a port alone, restarted", []pcp.Option{none, filter(f.two, whole, 7777)}, restart, [3]bool{false, false, true}},
		{"none", []pcp.Option{none}, nil, [3]bool{true, true, true}},
	} {
		r.demandMapped(t, pcpMap(f.client, protocol, 4000, 41000, step.options...), port)
		if step.then != nil {
			step.then()
		}
		for i, source := range []netip.AddrPort{netip.AddrPortFrom(f.one, 0), netip.AddrPortFrom(f.two, 0), netip.AddrPortFrom(f.two, 7777)} {
			probe := netlab.Probe{Network: network, From: r.WAN, Source: source, To: netip.AddrPortFrom(f.outside, port)}
			t.Run(fmt.Sprint(step.what, " from ", source), func(t *testing.T) {
				if step.arrives[i] {
					probe.Arrives(t)
				} else {
					probe.Blocked(t)
				}
			})
		}
	}
}

// TestVersionFallback has clients of one protocol meet a server of the other.
func TestVersionFallback(t *testing.T) {
	t.Parallel()
	r := newPCPRig(t, "legacy")
	for _, tt := range []struct {
		conf    []string
		request []byte
		answer  string // the version, opcode and result that the client goes by
	}{
		{[]string{"enable_pcp=no"}, pcpMap(client1, 6, 4000, 41000).Append(nil), "0080 0001"},
		{[]string{"enable_natpmp=no", "enable_pcp=yes"}, []byte{0, 0}, "0280 0001"},
	} {
		r.start(t, tt.conf...)
		reply, _ := exchange(t, r.Clients[0], client1, netlab.RouterLAN.Addr(), tt.request, patience)
		if len(reply) < 4 || fmt.Sprintf("%x %x", reply[:2], reply[2:4]) != tt.answer {
			t.Errorf("%q: reply %x, want %s …", tt.conf, reply, tt.answer)
		}
		r.stop(t, syscall.SIGTERM)
	}
	r.start(t, "enable_natpmp=no", "enable_pcp=yes")
	r.demandMapped(t, pcpMap(client1, 6, 4000, 41000), 41000)
	r.dial("tcp", 41000).Arrives(t)
}
