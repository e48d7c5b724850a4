// Package identity finds out which host a request is for before the table
// decides it.
package identity

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"igdd/pkg/fair"
	"igdd/pkg/hosts"
	"igdd/pkg/lan"
	"igdd/pkg/portmap"
)

// maxWaiting bounds the requests that wait for one host.
const maxWaiting = 32

// Options configure a Resolver.
type Options struct {
	Table  *portmap.Table
	Finder *hosts.Finder
	// Hosts names the hosts on the LANs.
	Hosts *lan.Hosts
	// Policy returns the rules in force.
	Policy func() *portmap.Policy
	// LAN returns the LAN that an address belongs to, if it is one of the
	// router's.
	LAN func(netip.Addr) (hosts.LAN, bool)
	// At returns the LAN of the interface with an index.
	At func(index int) hosts.LAN
	// Index returns the kernel's index of an interface, 0 if there is none.
	Index func(device string) int
}

// Resolver is a table that finds out the host of a request before it decides
// it. It embeds the table because servers use it in the table's place: Submit,
// Do, Explain and SetPolicy look up hosts first, all other methods are the
// table's own.
type Resolver struct {
	*portmap.Table
	finder *hosts.Finder
	hosts  *lan.Hosts
	policy func() *portmap.Policy
	lan    func(netip.Addr) (hosts.LAN, bool)
	at     func(int) hosts.LAN
	index  func(string) int

	queue chan *lookup
	wake  chan struct{} // there may be new mappings whose hosts are not known

	unbound chan *portmap.Block // has refused a request, and is not bound yet

	limiter       *fair.Counts[string] // of the lookups for Submit, by host of the client
	directLimiter *fair.Counts[string] // of those whose callers wait: Do, Explain, SameHost

	mu      sync.Mutex // guards what follows, and the order of requests for one host
	lookups map[netip.Addr]*lookup

	verdicts verdicts
}

// lookup is a search for a host, and the requests that wait for the result.
type lookup struct {
	hosts.Query
	former  netip.Addr   // if valid, find out whether the host no longer has this address
	host    portmap.Host // with former: the host
	client  string       // host of the client that caused it; empty: not known
	waiting []pending
}

type pending struct {
	portmap.Request
	answer func(portmap.Answer)
}

// New returns a Resolver. Run does its lookups.
func New(o Options) *Resolver {
	return &Resolver{
		Table: o.Table, finder: o.Finder, hosts: o.Hosts, policy: o.Policy, lan: o.LAN, at: o.At, index: o.Index,
		queue: make(chan *lookup, maxLookups), wake: make(chan struct{}, 1), unbound: make(chan *portmap.Block, 1),
		lookups:       make(map[netip.Addr]*lookup),
		verdicts:      verdicts{of: make(map[neighbour]verdict), probeAt: make(map[int]time.Time)},
		limiter:       newLimiter(maxPerClient),
		directLimiter: newLimiter(maxPerClientDirect),
	}
}

// Run does the lookups until ctx ends.
func (r *Resolver) Run(ctx context.Context) error {
	var work errgroup.Group
	work.Go(func() error { r.followDormant(ctx); return nil })
	work.Go(func() error { r.followUnbound(ctx); return nil })
	for {
		select {
		case <-ctx.Done():
			return work.Wait()
		case l := <-r.queue:
			work.Go(func() error { r.resolve(ctx, l); return nil })
		}
	}
}

// Submit is the table's Submit. A request whose host must be looked up waits
// for the result, and so do later requests for the same host. Submit itself
// never waits.
func (r *Resolver) Submit(req portmap.Request, answer func(portmap.Answer)) bool {
	req.Host.Name, req.Asker = r.nameOfTarget(&req), r.asker(&req)
	q, needed := r.query(&req)
	if !needed {
		setHost(&req, r.neighbour(&req))
		q.Addr = req.Internal.Addr()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.lookups[q.Addr]; l != nil {
		return l.add(req, answer)
	}
	if needed {
		id, final := r.finder.Known(q.Query)
		if req.Op == portmap.Open && q.decides && !r.isAnsweredBy(q, id, final) {
			return r.startLookup(&lookup{Query: r.withNamed(q), client: r.hostOfClient(&req, q.LAN)}, req, answer)
		}
		setHost(&req, r.describe(q.Query, id))
	}
	if l := r.moveLookup(&req); l != nil {
		return r.startLookup(l, req, answer)
	}
	return r.Table.Submit(req, answer)
}

// Do is the table's Do; it waits for the lookup as well.
func (r *Resolver) Do(ctx context.Context, req portmap.Request) (portmap.Answer, error) {
	r.complete(ctx, &req)
	return r.Table.Do(ctx, req)
}

// Explain is the table's Explain; it waits for the lookup as well.
func (r *Resolver) Explain(ctx context.Context, req portmap.Request) (portmap.Explanation, error) {
	r.complete(ctx, &req)
	return r.Table.Explain(ctx, req)
}

// SameHost reports whether an IPv6 address certainly belongs to the host that
// sent a request from another address on an interface. It may wait for a
// lookup. If the client has too many lookups under way the answer is no.
func (r *Resolver) SameHost(ctx context.Context, device string, client, other netip.Addr) (same bool) {
	lan, ours := r.lan(other)
	if !ours || other.IsLinkLocalUnicast() || lan.Index != r.index(device) {
		return false
	}
	r.withinLimit(r.hostOf(lan, client), func() { same = r.finder.Same(ctx, lan, client, other) })
	return same
}

// withinLimit calls lookUp for a client that waits for the result, unless too
// many lookups are under way.
func (r *Resolver) withinLimit(client string, lookUp func()) {
	if r.directLimiter.Acquire(client) {
		defer r.directLimiter.Release(client)
		lookUp()
	}
}

// complete fills in the host of a request and its former address.
func (r *Resolver) complete(ctx context.Context, req *portmap.Request) {
	req.Host.Name, req.Asker = r.nameOfTarget(req), r.asker(req)
	setHost(req, r.find(ctx, req))
	l := r.moveLookup(req)
	if l == nil {
		return
	}
	r.withinLimit(l.client, func() {
		if r.hasMoved(ctx, l) {
			req.Former = l.former
		}
	})
}

// find returns the host that a request is for, and looks it up if the rules
// depend on it.
func (r *Resolver) find(ctx context.Context, req *portmap.Request) portmap.Host {
	q, needed := r.query(req)
	if !needed {
		return r.neighbour(req)
	}
	id, final := r.finder.Known(q.Query)
	if req.Op == portmap.Open && q.decides && !r.isAnsweredBy(q, id, final) {
		r.withinLimit(r.hostOfClient(req, q.LAN), func() { id = r.finder.Find(ctx, r.withNamed(q)) })
	}
	return r.describe(q.Query, id)
}

// neighbour returns the host that has the IPv4 target of a request, as far as
// the neighbour table knows it, so that the mapping can be recognized as that
// host's when the address changes hands or the host gets another one.
func (r *Resolver) neighbour(req *portmap.Request) portmap.Host {
	to := req.Internal.Addr()
	if !to.Is4() {
		return req.Host
	}
	lan, ours := r.lan(to)
	if !ours {
		return req.Host
	}
	return portmap.Host{Hardware: r.finder.Hardware(lan.Index, to).String()}
}

// nameOfTarget returns the name of the host that a request is for; empty if it is
// not known, or if the table knows it as the client's.
func (r *Resolver) nameOfTarget(req *portmap.Request) string {
	to := req.Internal.Addr()
	lan, ours := r.lan(to)
	if req.Op != portmap.Open || !ours || req.ClientHost != "" && to == req.Client {
		return ""
	}
	return r.hostOf(lan, to)
}

// hostOfClient returns the host that sent a request; empty: not known.
func (r *Resolver) hostOfClient(req *portmap.Request, lan hosts.LAN) string {
	if req.ClientHost != "" {
		return req.ClientHost
	}
	return r.hostOf(lan, req.Client)
}

// hostOf returns the host that has an address on a LAN; empty: not known.
func (r *Resolver) hostOf(lan hosts.LAN, a netip.Addr) string {
	host, _ := r.hosts.Lookup(lan.Index, a)
	return string(host)
}

// setHost completes the host of a request, which may have its name already.
func setHost(req *portmap.Request, h portmap.Host) {
	h.Name = req.Host.Name
	req.Host = h
}

// query is a query for the host of an address, and whether the rules or blocks
// depend on it.
type query struct {
	hosts.Query
	policy  *portmap.Policy
	need    portmap.BlockedHosts
	decides bool
	byRules bool // the rules alone decide that it does
}

// query returns the query for the target of a request, if the rules or blocks may
// need it.
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

// queryFor returns the query for the host of an address, if the rules or blocks may
// need it. For an IPv4 address only those of hardware addresses do.
func (r *Resolver) queryFor(to netip.AddrPort) (query, bool) {
	p := r.policy()
	if !to.Addr().Is6() && !(to.Addr().Is4() && (p.NamesHardware() || r.BlockedHosts().Hardware)) {
		return query{}, false
	}
	lan, ours := r.lan(to.Addr())
	q := query{Query: hosts.Query{Addr: to.Addr(), LAN: lan}, policy: p, decides: p.DependsOnHardware(to.Port())}
	if to.Addr().Is6() {
		q.decides = p.DependsOnHost(to.Port(), lan.Networks)
	}
	return r.dependsOnBlocks(q), ours
}

// moveLookup returns the lookup that finds out whether the host of a request no
// longer has an address that it may have had before; nil if there is none.
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
		former: former, host: req.Host, client: r.hostOfClient(req, lan),
	}
}

// hasMoved probes whether the host of l no longer has its former address. It
// waits for the answers.
func (r *Resolver) hasMoved(ctx context.Context, l *lookup) bool {
	return r.finder.Moved(ctx, l.LAN, l.Hardware, l.former, l.Addr)
}

// startLookup starts a lookup for a request, unless too many are under way.
func (r *Resolver) startLookup(l *lookup, req portmap.Request, answer func(portmap.Answer)) bool {
	if !r.limiter.Acquire(l.client) {
		return false
	}
	r.lookups[l.Addr] = l
	l.add(req, answer)
	r.queue <- l // never blocks: it has room for maxLookups
	return true
}

// add adds a request to those that wait, unless there are too many.
func (l *lookup) add(req portmap.Request, answer func(portmap.Answer)) bool {
	if len(l.waiting) >= maxWaiting {
		return false
	}
	l.waiting = append(l.waiting, pending{req, answer})
	return true
}

// resolve does a lookup and submits the requests that wait for it.
func (r *Resolver) resolve(ctx context.Context, l *lookup) {
	found, former := r.lookUp(ctx, l)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.lookups, l.Addr)
	r.limiter.Release(l.client)
	for _, p := range l.waiting {
		setHost(&p.Request, found)
		p.Former = former
		r.Table.Submit(p.Request, p.answer) // if the queue is full they are lost, as datagrams can be
	}
}

// lookUp returns the host of l, and its former address if it no longer has
// that.
func (r *Resolver) lookUp(ctx context.Context, l *lookup) (h portmap.Host, former netip.Addr) {
	switch {
	case !l.former.IsValid():
		return r.describe(l.Query, r.finder.Find(ctx, l.Query)), netip.Addr{}
	case r.hasMoved(ctx, l):
		return l.host, l.former
	}
	return l.host, netip.Addr{}
}

// maxAddresses bounds the IPv4 addresses of one host. A host with more, such as
// a repeater or one that makes up addresses, counts as one without known
// addresses.
const maxAddresses = 64

// host returns an identity in the table's form.
func host(id hosts.Identity) portmap.Host {
	if len(id.IPv4) > maxAddresses {
		id.IPv4 = nil
	}
	return portmap.Host{Hardware: id.Hardware.String(), IPv4: id.IPv4}
}

// hardware returns the hardware address of a host.
func hardware(h portmap.Host) net.HardwareAddr {
	a, _ := net.ParseMAC(h.Hardware) // nil if it is not known
	return a
}
