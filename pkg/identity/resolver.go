// Package identity says which host a request is for before the table decides it.
package identity

import (
	"context"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/sync/errgroup"

	"igdd/pkg/hosts"
	"igdd/pkg/portmap"
)

// maxWaiting bounds the requests that wait for one host.
const maxWaiting = 32

// Options are what a Desk is made of.
type Options struct {
	Table  *portmap.Table
	Finder *hosts.Finder
	// Policy returns the rules in force.
	Policy func() *portmap.Policy
	// LAN returns the interface that an address is behind, if it is one of ours.
	LAN func(netip.Addr) (hosts.LAN, bool)
	// Index returns the kernel's number of an interface, 0 if there is none.
	Index func(device string) int
}

// Resolver is a table to whom clients need not say which hosts they are.
type Resolver struct {
	*portmap.Table
	finder *hosts.Finder
	policy func() *portmap.Policy
	lan    func(netip.Addr) (hosts.LAN, bool)
	index  func(string) int

	queue chan *lookup
	wake  chan struct{} // there may be mappings whose hosts are not known

	mu            sync.Mutex // guards what follows, and the order of requests for one host
	lookups       map[netip.Addr]*lookup
	limiter       lookupLimiter // of the lookups
	directLimiter lookupLimiter // of those who wait for their own answers
}

// lookup is a host that is being asked for, and what waits for the answer.
type lookup struct {
	hosts.Query
	former  netip.Addr   // valid: whether the host has left this address for its own
	host    portmap.Host // then: the host
	client  string       // hardware address of whoever caused it; empty: not known
	waiting []pending
}

type pending struct {
	portmap.Request
	answer func(portmap.Answer)
}

// New returns a Desk that Run puts to work.
func New(o Options) *Resolver {
	return &Resolver{
		Table: o.Table, finder: o.Finder, policy: o.Policy, lan: o.LAN, index: o.Index,
		queue: make(chan *lookup, maxLookups), wake: make(chan struct{}, 1),
		lookups:       make(map[netip.Addr]*lookup),
		limiter:       lookupLimiter{clients: make(map[string]int), perClient: maxPerClient},
		directLimiter: lookupLimiter{clients: make(map[string]int), perClient: maxPerClientDirect},
	}
}

// Run finds hosts until ctx ends.
func (r *Resolver) Run(ctx context.Context) error {
	var work errgroup.Group
	work.Go(func() error { r.followDormant(ctx); return nil })
	for {
		select {
		case <-ctx.Done():
			return work.Wait()
		case l := <-r.queue:
			work.Go(func() error { r.resolve(ctx, l); return nil })
		}
	}
}

// Submit is the table's. A request whose host must be asked for waits for that,
// and with it those that come later for the same host. Submit never waits.
func (r *Resolver) Submit(req portmap.Request, answer func(portmap.Answer)) bool {
	q, asks := r.query(&req)
	if !asks {
		req.Host, q.Addr = r.neighbour(&req), req.Internal.Addr()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.lookups[q.Addr]; l != nil {
		return l.add(req, answer)
	}
	if asks {
		id, settled := r.finder.Known(q.Query)
		if req.Op == portmap.Open && q.decides && !settled {
			return r.startLookup(r.newLookup(q, id, req.Client), req, answer)
		}
		req.Host = host(id)
	}
	if l := r.moveLookup(&req); l != nil {
		return r.startLookup(l, req, answer)
	}
	return r.Table.Submit(req, answer)
}

// Do is the table's; it waits for the host as well.
func (r *Resolver) Do(ctx context.Context, req portmap.Request) (portmap.Answer, error) {
	r.complete(ctx, &req)
	return r.Table.Do(ctx, req)
}

// Explain is the table's; it waits for the host as well.
func (r *Resolver) Explain(ctx context.Context, req portmap.Request) (portmap.Explanation, error) {
	r.complete(ctx, &req)
	return r.Table.Explain(ctx, req)
}

// SameHost reports whether an IPv6 address on an interface is for sure of the
// host whose request came in there from another. It may wait for an answer; while
// too many of the client's questions do, none of the others is for sure.
func (r *Resolver) SameHost(ctx context.Context, device string, client, other netip.Addr) (same bool) {
	lan, ours := r.lan(other)
	if !ours || other.IsLinkLocalUnicast() || lan.Index != r.index(device) {
		return false
	}
	r.withinLimit(lan, client, func() { same = r.finder.Same(ctx, lan, client, other) })
	return same
}

// withinLimit has a client wait for what is asked of hosts, unless too much is asked
// for it or for all already.
func (r *Resolver) withinLimit(lan hosts.LAN, client netip.Addr, ask func()) {
	hardware := r.finder.Hardware(lan.Index, client).String()
	r.mu.Lock()
	free := r.directLimiter.acquire(hardware)
	r.mu.Unlock()
	if !free {
		return
	}
	ask()
	r.mu.Lock()
	r.directLimiter.release(hardware)
	r.mu.Unlock()
}

// complete says which host a request is for, and which address it has left.
func (r *Resolver) complete(ctx context.Context, req *portmap.Request) {
	req.Host = r.find(ctx, req)
	l := r.moveLookup(req)
	if l == nil {
		return
	}
	r.withinLimit(l.LAN, req.Client, func() {
		if r.hasMoved(ctx, l) {
			req.Former = l.former
		}
	})
}

// find returns the host that a request is for, and asks for it if the rules
// want to know.
func (r *Resolver) find(ctx context.Context, req *portmap.Request) portmap.Host {
	q, asks := r.query(req)
	if !asks {
		return r.neighbour(req)
	}
	id, settled := r.finder.Known(q.Query)
	if req.Op == portmap.Open && q.decides && !settled {
		r.withinLimit(q.LAN, req.Client, func() { id = r.finder.Find(ctx, q.withNamed()) })
	}
	return host(id)
}

// neighbour returns whose the IPv4 address is that a request opens a port to, as
// far as that is known: another may have it later, or the host another address.
func (r *Resolver) neighbour(req *portmap.Request) portmap.Host {
	to := req.Internal.Addr()
	if req.Op != portmap.Open || !to.Is4() {
		return req.Host
	}
	lan, ours := r.lan(to)
	if !ours {
		return req.Host
	}
	return portmap.Host{Hardware: r.finder.Hardware(lan.Index, to).String()}
}

// query is the question whose an address is, and whether rules depend on it.
type query struct {
	hosts.Query
	policy  *portmap.Policy
	decides bool
}

// query returns the question that a request raises, if rules may ask it.
func (r *Resolver) query(req *portmap.Request) (query, bool) {
	to := req.Internal
	if m, ok := r.Pinhole(req.ID); ok && req.ID != 0 {
		to = m.Internal
	}
	if to.Addr().Is6() && to.Addr().IsLinkLocalUnicast() {
		return query{}, false
	}
	return r.queryFor(to)
}

// queryFor returns the question whose an address is. Of IPv4 only rules for hardware
// addresses ask it.
func (r *Resolver) queryFor(to netip.AddrPort) (query, bool) {
	p := r.policy()
	if !to.Addr().Is6() && !(to.Addr().Is4() && p.NamesHardware()) {
		return query{}, false
	}
	lan, ours := r.lan(to.Addr())
	q := query{hosts.Query{Addr: to.Addr(), LAN: lan}, p, p.DependsOnHardware(to.Port())}
	if to.Addr().Is6() {
		q.decides = p.DependsOnHost(to.Port(), lan.Networks)
	}
	return q, ours
}

// withNamed returns the question with the addresses that are asked for.
func (q query) withNamed() hosts.Query {
	if q.Addr.Is6() {
		q.Named = q.policy.Named(q.LAN.Networks)
	}
	return q.Query
}

// newLookup returns the look-up for a question that a client raises.
func (r *Resolver) newLookup(q query, id hosts.Identity, client netip.Addr) *lookup {
	if client != q.Addr {
		id, _ = r.finder.Known(hosts.Query{Addr: client, LAN: q.LAN})
	}
	return &lookup{Query: q.withNamed(), client: id.Hardware.String()}
}

// moveLookup returns the look-up whether the host of a request has left the address
// that it may have had before; nil: there is no such address.
func (r *Resolver) moveLookup(req *portmap.Request) *lookup {
	former, found := r.Former(req)
	if !found {
		return nil
	}
	lan, ours := r.lan(req.Internal.Addr())
	if !ours {
		return nil
	}
	return &lookup{
		Query:  hosts.Query{Addr: req.Internal.Addr(), LAN: lan, Hardware: hardware(req.Host)},
		former: former, host: req.Host, client: req.Host.Hardware,
	}
}

// hasMoved asks whether the host of l has left its former address. It waits for
// the answers.
func (r *Resolver) hasMoved(ctx context.Context, l *lookup) bool {
	return r.finder.Moved(ctx, l.LAN, l.Hardware, l.former, l.Addr)
}

// startLookup has a host asked for.
func (r *Resolver) startLookup(l *lookup, req portmap.Request, answer func(portmap.Answer)) bool {
	if !r.limiter.acquire(l.client) {
		return false
	}
	r.lookups[l.Addr] = l
	l.add(req, answer)
	r.queue <- l // has room for all of them
	return true
}

// add lets a request wait, unless too many do.
func (l *lookup) add(req portmap.Request, answer func(portmap.Answer)) bool {
	if len(l.waiting) >= maxWaiting {
		return false
	}
	l.waiting = append(l.waiting, pending{req, answer})
	return true
}

// resolve asks for a host and hands on what waited for it.
func (r *Resolver) resolve(ctx context.Context, l *lookup) {
	found, former := r.lookUp(ctx, l)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.lookups, l.Addr)
	r.limiter.release(l.client)
	for _, p := range l.waiting {
		p.Host, p.Former = found, former
		r.Table.Submit(p.Request, p.answer) // false: as lost as a datagram may be
	}
}

// lookUp returns the host of l and the address that it has left, if it has.
func (r *Resolver) lookUp(ctx context.Context, l *lookup) (h portmap.Host, former netip.Addr) {
	switch {
	case !l.former.IsValid():
		return host(r.finder.Find(ctx, l.Query)), netip.Addr{}
	case r.hasMoved(ctx, l):
		return l.host, l.former
	}
	return l.host, netip.Addr{}
}

// maxAddresses bounds what is kept of one host. One with more, a repeater or one
// that makes addresses up, counts as a host of which none is known.
const maxAddresses = 64

// host returns what the table has to know of a host.
func host(id hosts.Identity) portmap.Host {
	if len(id.IPv4) > maxAddresses {
		id.IPv4 = nil
	}
	return portmap.Host{Hardware: id.Hardware.String(), IPv4: id.IPv4}
}

// hardware returns the address that a host was stored with.
func hardware(h portmap.Host) net.HardwareAddr {
	a, _ := net.ParseMAC(h.Hardware) // that of a host that nobody knows is empty
	return a
}
