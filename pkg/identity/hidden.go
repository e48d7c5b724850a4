package identity

import (
	"net/netip"
	"time"

	"igdd/pkg/hosts"
	"igdd/pkg/portmap"
)

// How long and for how many addresses it is believed that a host may have ports.
const (
	verdictTime = time.Second
	maxVerdicts = 1024
)

// verdict is whether the host with an address may have ports under a policy.
type verdict struct {
	policy *portmap.Policy
	may    bool
	until  time.Time
}

// MayHavePorts reports whether the rules let the host with an address on a LAN have any
// port. While that depends on what is not known of the host the answer is no, and the
// host is probed, so that it is known the next time.
func (r *Resolver) MayHavePorts(lan hosts.LAN, a netip.Addr) bool {
	policy, now := r.policy(), time.Now()
	r.verdictMu.Lock()
	defer r.verdictMu.Unlock()
	if v, found := r.verdicts[a]; found && v.policy == policy && now.Before(v.until) {
		return v.may
	}
	if len(r.verdicts) >= maxVerdicts {
		clear(r.verdicts)
	}
	v := verdict{policy, policy.MayHavePorts(r.destination(policy, lan, a)), now.Add(verdictTime)}
	r.verdicts[a] = v
	return v.may
}

// AnyMayHavePorts reports whether the rules may let any host on a LAN have a port.
func (r *Resolver) AnyMayHavePorts(lan hosts.LAN) bool {
	return r.policy().AnyMayHavePorts(lan.Networks)
}

// destination returns what is known of the host with an address. It probes the host if
// that is not all.
func (r *Resolver) destination(p *portmap.Policy, lan hosts.LAN, a netip.Addr) portmap.Destination {
	to := portmap.Destination{AddrPort: netip.AddrPortFrom(a, 0)}
	q := hosts.Query{Addr: a, LAN: lan}
	if a.Is6() {
		to.Networks, q.Named = lan.Networks, p.Named(lan.Networks)
	}
	id, settled := r.finder.Known(q)
	if !settled {
		r.finder.Probe(lan.Index, append(q.Named, a)...)
	}
	to.Host = host(id)
	return to
}
