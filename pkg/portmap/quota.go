package portmap

import "cmp"

// maxClaims bounds the claims on one mapping: UPnP pinholes to one target and
// PCP flows from one port.
const maxClaims = 64

// ipv6QuotaFactor multiplies MaxPerHost for a host with IPv6: clients open ports
// for each of their addresses, and those of old addresses end by expiry only.
const ipv6QuotaFactor = 4

// reservedShare is the part of MaxPerLAN and MaxTotal, an eighth, that is kept for
// hosts with few mappings.
const reservedShare = 8

// quotas counts what the mappings of hosts, of LANs and of all take, in rules.
type quotas struct {
	hosts map[hostKey]hostQuota
	lans  map[int]int // by number of the LAN
	total int
}

// hostKey identifies a host by its name. All hosts of a LAN that are not known
// have the empty name and the number of the LAN.
type hostKey struct {
	name string
	lan  int
}

// hostQuota counts what the mappings of a host take.
type hostQuota struct{ ipv4, all int }

func newQuotas() quotas { return quotas{hosts: make(map[hostKey]hostQuota), lans: make(map[int]int)} }

// size returns the number of rules that the claim takes: one for each remote peer
// that it names, at least one. In the kernel that is one in each chain.
func (c Claim) size() int { return max(1, len(c.Filters)) }

// size returns the number of rules that the claims on m take.
func (m *Mapping) size() (n int) {
	for _, c := range m.Claims {
		n += c.size()
	}
	return n
}

// add counts m for a host and a LAN; sign is 1, or -1 to count it no longer.
func (q *quotas) add(k hostKey, lan int, m *Mapping, sign int) {
	n, own := sign*m.size(), q.hosts[k]
	own.all += n
	if m.Family() == IPv4 {
		own.ipv4 += n
	}
	q.total += n
	update(q.hosts, k, own)
	update(q.lans, lan, q.lans[lan]+n)
}

// update sets a value, or deletes the one that has become zero.
func update[K, V comparable](m map[K]V, k K, v V) {
	var zero V
	if m[k] = v; v == zero {
		delete(m, k)
	}
}

// count counts the change of a mapping.
func (al *allocator) count(c Change) {
	if c.Before != nil {
		k, lan := al.quotaOf(c.Before)
		al.quotas.add(k, lan, c.Before, -1)
		al.numbers.remove(al.sharerOf(c.Before.Internal.Addr(), k.name), c.Before.External)
	}
	if c.After != nil {
		k, lan := al.quotaOf(c.After)
		al.quotas.add(k, lan, c.After, 1)
		al.numbers.add(al.sharerOf(c.After.Internal.Addr(), k.name), c.After.External)
	}
}

// setNetwork puts a new network state in force, which says anew which mappings and
// ports in hold-down belong to which LAN.
func (al *allocator) setNetwork(s NetworkState) {
	al.network, al.quotas = s, newQuotas()
	clear(al.numbers)
	for _, m := range al.index.order {
		al.count(Change{After: m})
	}
	al.recountHeld()
}

// quotaOf returns the host and the LAN that m counts for.
func (al *allocator) quotaOf(m *Mapping) (hostKey, int) {
	lan := al.network.lanNumber(m.Internal.Addr())
	if name := cmp.Or(m.Host.Name, m.Host.Hardware); name != "" {
		return hostKey{name: name}, lan
	}
	return hostKey{lan: lan}, lan
}

// checkQuota checks the limits for n further rules of m.
func (al *allocator) checkQuota(m *Mapping, n int) Refusal {
	if n <= 0 {
		return Granted
	}
	k, lan := al.quotaOf(m)
	p, q, own := al.policy, &al.quotas, al.quotas.hosts[k]
	switch {
	case p.MaxPerHost > 0 && (own.all+n > p.maxOfHost() || m.Internal.Addr().Is4() && own.ipv4+n > p.MaxPerHost):
		return QuotaExceeded
	case !hasRoom(p.MaxTotal, q.total, own.all, n), lan != noLAN && !hasRoom(p.MaxPerLAN, q.lans[lan], own.all, n):
		return TableFull
	}
	return Granted
}

// maxOfHost returns the limit for the mappings of one host over both families.
// Half of a LAN's limit is left for the others, however many addresses the host
// has.
func (p *Policy) maxOfHost() int {
	most := ipv6QuotaFactor * p.MaxPerHost
	if p.MaxPerLAN > 0 {
		most = min(most, max(p.MaxPerHost, p.MaxPerLAN/2))
	}
	return most
}

// hasRoom reports whether n more fit below a limit, of which some are used, for a
// host that has some itself. In the last part of the limit a host may have no more
// than are left. So hosts with few mappings find room even beside many hosts that
// take all that they can.
func hasRoom(limit, used, own, n int) bool {
	return limit == 0 || used+n <= limit-limit/reservedShare || own+n <= limit-used
}
