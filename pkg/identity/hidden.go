package identity

import (
	"net/netip"
	"sync"
	"time"

	"igdd/pkg/hosts"
	"igdd/pkg/portmap"
)

// How long and for how many addresses it is believed that a host may have ports, and
// how long the hosts that rules name are not probed again.
const (
	verdictTime = time.Second
	maxVerdicts = 1024
)

// neighbour is an address on the interface with that index.
type neighbour struct {
	index int
	addr  netip.Addr
}

// verdict is whether the host with an address may have ports under a policy.
type verdict struct {
	policy *portmap.Policy
	may    bool
	until  time.Time
}

// verdicts remembers which hosts may have ports.
type verdicts struct {
	mu      sync.Mutex // guards what follows
	of      map[neighbour]verdict
	probeAt map[int]time.Time // when the hosts that rules name may be probed again, by interface
}

// MayHavePorts reports whether the rules let the host with an address on an interface
// have any port. While that depends on what is not known of the host the answer is no,
// and hosts are probed, so that it is known the next time.
func (r *Resolver) MayHavePorts(index int, a netip.Addr) bool {
	policy, now, n := r.policy(), time.Now(), neighbour{index, a}
	r.verdicts.mu.Lock()
	defer r.verdicts.mu.Unlock()
	if v, found := r.verdicts.of[n]; found && v.policy == policy && now.Before(v.until) {
		return v.may
	}
	if len(r.verdicts.of) >= maxVerdicts {
		clear(r.verdicts.of)
	}
	v := verdict{policy, policy.MayHavePorts(r.destination(policy, n, now)), now.Add(verdictTime)}
	r.verdicts.of[n] = v
	return v.may
}

// AnyMayHavePorts reports whether the rules may let any host on an interface have a
// port.
func (r *Resolver) AnyMayHavePorts(index int) bool {
	lan := r.at(index)
	return r.policy().AnyMayHavePorts(lan.Device, lan.Networks)
}

// destination returns what is known of a host. If that is not all, it probes the host,
// and once in verdictTime those that rules name.
func (r *Resolver) destination(p *portmap.Policy, n neighbour, now time.Time) portmap.Destination {
	lan := r.at(n.index)
	to := portmap.Destination{AddrPort: netip.AddrPortFrom(n.addr, 0), Interface: lan.Device, Routed: r.finder.IsRouted(n.index, n.addr)}
	if to.Routed {
		lan, _ = r.lan(n.addr)
	}
	id, settled := r.finder.Known(hosts.Query{Addr: n.addr, LAN: lan})
	if !settled {
		r.finder.Probe(n.index, n.addr)
	}
	to.Host = host(id)
	if n.addr.Is4() {
		return to
	}
	to.Networks = lan.Networks
	if !settled && !now.Before(r.verdicts.probeAt[n.index]) {
		r.verdicts.probeAt[n.index] = now.Add(verdictTime)
		r.finder.Probe(n.index, p.Named(lan.Networks)...)
	}
	return to
}
