package portmap

// maxClaims bounds the claims on one mapping: UPnP's pinholes to one target
// and PCP's flows from one port.
const maxClaims = 64

// forIPv6 is how many times more mappings an IPv6 address may have than an IPv4
// one: clients open ports for each of their addresses, and those of old ones
// end by expiry alone.
const forIPv6 = 4

// quota judges a request for a new mapping.
func (d *desk) quota(req *Request) Refusal {
	p, host := d.policy, req.Internal.Addr()
	perHost := p.MaxPerHost
	if host.Is6() {
		perHost *= forIPv6
	}
	switch {
	case p.MaxTotal > 0 && len(d.book.byKey) >= p.MaxTotal:
		return TableFull
	case perHost > 0 && len(d.book.byHost[host]) >= perHost:
		return QuotaExceeded
	case p.MaxPerLAN > 0 && d.onLAN(req) >= p.MaxPerLAN:
		return TableFull
	}
	return Granted
}

// onLAN counts the mappings of all hosts of the target's network.
func (d *desk) onLAN(req *Request) int {
	lan, ok := d.around.lan(req.Internal.Addr())
	if !ok {
		return 0
	}
	n := 0
	for host, list := range d.book.byHost {
		if lan.Contains(host) {
			n += len(list)
		}
	}
	return n
}
