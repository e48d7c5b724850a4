package portmap

// maxClaims bounds the claims on one mapping: UPnP pinholes to one target and
// PCP flows from one port.
const maxClaims = 64

// ipv6QuotaFactor multiplies MaxPerHost for an IPv6 address: clients open ports
// for each of their addresses, and those of old addresses end by expiry only.
const ipv6QuotaFactor = 4

// checkQuota checks the limits on the number of mappings for a new one.
func (al *allocator) checkQuota(req *Request) Refusal {
	p, host := al.policy, req.Internal.Addr()
	perHost := p.MaxPerHost
	if host.Is6() {
		perHost *= ipv6QuotaFactor
	}
	switch {
	case p.MaxTotal > 0 && len(al.index.byKey) >= p.MaxTotal:
		return TableFull
	case perHost > 0 && len(al.index.byHost[host]) >= perHost:
		return QuotaExceeded
	case p.MaxPerLAN > 0 && al.countOnLAN(req) >= p.MaxPerLAN:
		return TableFull
	}
	return Granted
}

// countOnLAN counts the mappings of all hosts of the target's network.
func (al *allocator) countOnLAN(req *Request) int {
	lan, ok := al.network.lan(req.Internal.Addr())
	if !ok {
		return 0
	}
	n := 0
	for host, list := range al.index.byHost {
		if lan.Contains(host) {
			n += len(list)
		}
	}
	return n
}
