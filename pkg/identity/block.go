package identity

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sort"
	"strings"

	"igdd/pkg/hosts"
	"igdd/pkg/portmap"
)

// maxBound bounds the hardware addresses that a block is bound to.
const maxBound = 64

// Block is the table's Block. It first binds the block to the hardware addresses of
// the host that it names, so that it also holds for all other addresses of the host.
// It returns an error if no host has the name.
func (r *Resolver) Block(ctx context.Context, b portmap.Block) (portmap.BlockResult, error) {
	if err := r.prepare(ctx, &b.Selector); err != nil {
		return portmap.BlockResult{}, err
	}
	return r.Table.Block(ctx, b)
}

// Delete is the table's Delete. It first finds out the hardware addresses of the host
// that is named, and returns an error if no host has the name.
func (r *Resolver) Delete(ctx context.Context, s portmap.Selector) (int, error) {
	if err := r.prepare(ctx, &s); err != nil {
		return 0, err
	}
	return r.Table.Delete(ctx, s)
}

// prepare binds s to the host that it names, and passes the known hosts of mappings
// to the table.
func (r *Resolver) prepare(ctx context.Context, s *portmap.Selector) error {
	if s.Host.IsEvery() {
		return nil
	}
	if err := r.bind(ctx, &s.Host); err != nil {
		return err
	}
	r.recognizeAll(ctx)
	return nil
}

// bind binds h to the hardware addresses of the host that it names by address or
// name, and adds the addresses that the host has leased.
func (r *Resolver) bind(ctx context.Context, h *portmap.HostSelector) error {
	addrs := []netip.Addr{h.Addr}
	switch {
	case h.Name != "":
		h.Name = hosts.ShortName(h.Name)
		if addrs = r.finder.Named(h.Name); len(addrs) == 0 {
			return fmt.Errorf("no host has the name %q in its DHCP lease; use its address or hardware address", h.Name)
		}
		h.Leased = addrs
	case h.Hardware != "":
		hw, _ := net.ParseMAC(h.Hardware)
		h.Leased = r.finder.LeasedTo(hw)
		return nil
	}
	for _, a := range addrs {
		h.Bound = append(h.Bound, r.hardwareOf(ctx, a)...)
	}
	slices.Sort(h.Bound)
	h.Bound = slices.Compact(h.Bound)
	h.Bound = h.Bound[:min(len(h.Bound), maxBound)]
	return nil
}

// Decided receives the table's answers. It never blocks.
func (r *Resolver) Decided(a portmap.Answer) {
	if a.Refusal != portmap.Blocked || a.Block == nil || !a.Block.Host.IsUnbound() {
		return
	}
	select {
	case r.unbound <- a.Block:
	default: // the host's next request binds it
	}
}

// followUnbound binds blocks that have refused requests until ctx ends.
func (r *Resolver) followUnbound(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case b := <-r.unbound:
			r.bindLate(ctx, b)
		}
	}
}

// bindLate binds a block in force if the hardware addresses of the host that it names
// are known now.
func (r *Resolver) bindLate(ctx context.Context, b *portmap.Block) {
	h := b.Host
	if r.bind(ctx, &h) != nil || h.IsUnbound() {
		return
	}
	r.recognizeAll(ctx)
	r.Bind(ctx, b.ID, h.Bound) // an error means that the table has stopped
}

// hardwareOf returns the hardware addresses of the host that has an address. It may
// probe the host, and wait for the answer. If that does not answer it is the one that
// mapped a port from there.
func (r *Resolver) hardwareOf(ctx context.Context, a netip.Addr) (list []string) {
	if lan, ours := r.lan(a); ours && len(r.finder.HardwareOf(a)) == 0 {
		r.finder.Find(ctx, hosts.Query{Addr: a, LAN: lan})
	}
	for _, hw := range r.finder.HardwareOf(a) {
		list = append(list, hw.String())
	}
	for _, m := range r.List() {
		if len(list) == 0 && m.Internal.Addr() == a && m.Host.Hardware != "" {
			list = append(list, m.Host.Hardware)
		}
	}
	return list
}

// recognizeAll passes the hosts of mappings to the table that are known now and were
// not when they were made.
func (r *Resolver) recognizeAll(ctx context.Context) {
	r.recognizeWhere(ctx, func(*portmap.Mapping) bool { return true })
}

// recognizeWhere passes the known hosts to the table of the mappings for which matters
// is true.
func (r *Resolver) recognizeWhere(ctx context.Context, matters func(*portmap.Mapping) bool) {
	known := make(map[netip.Addr]portmap.Host)
	for _, m := range r.List() {
		a := m.Internal.Addr()
		if _, done := known[a]; done || m.Host.Hardware != "" || !matters(m) {
			continue
		}
		if lan, ours := r.lan(a); ours {
			q := hosts.Query{Addr: a, LAN: lan}
			id, _ := r.finder.Known(q)
			known[a] = r.withLink(q, host(id))
		}
	}
	if len(known) > 0 {
		r.recognize(ctx, known)
	}
}

// withLink adds to the host of a query whether its link has no hardware addresses.
func (r *Resolver) withLink(q hosts.Query, h portmap.Host) portmap.Host {
	if h.Hardware == "" {
		hw, known := r.finder.Lookup(q.LAN.Index, q.Addr)
		h.NoHardware = known && len(hw) == 0
	}
	return h
}

// describe returns an identity in the table's form, with what the blocks in force
// depend on.
func (r *Resolver) describe(q hosts.Query, id hosts.Identity) portmap.Host {
	h, need := host(id), r.BlockedHosts()
	if need.Any {
		h = r.withLink(q, h)
	}
	if len(need.Names) > 0 {
		h.Names = r.finder.Names(q.Addr, id)
	}
	return h
}

// asker returns what is known of the host that asks, if it asks for another one and
// a block may be of it. The daemon has just heard of it, so that nothing is waited
// for.
func (r *Resolver) asker(req *portmap.Request) portmap.Host {
	if req.Op != portmap.Open || req.Client == req.Internal.Addr() || !r.BlockedHosts().Any {
		return portmap.Host{}
	}
	lan, ours := r.lan(req.Client)
	if !ours { // a link-local address
		lan, _ = r.lan(req.Internal.Addr())
	}
	name, _, _ := strings.Cut(req.ClientHost, " ")
	hw, _ := net.ParseMAC(name)
	q := hosts.Query{Addr: req.Client.WithZone(""), LAN: lan, Hardware: hw}
	id, _ := r.finder.Known(q)
	return r.describe(q, id)
}

// dependsOnBlocks adds to the query what the blocks in force depend on.
func (r *Resolver) dependsOnBlocks(q query) query {
	q.need = r.BlockedHosts()
	q.byRules = q.decides
	q.decides = q.decides || q.need.Hardware || q.need.Any && q.Addr.Is6()
	return q
}

// isAnsweredBy reports whether an identity is enough to decide: for blocks by
// hardware address that alone.
func (r *Resolver) isAnsweredBy(q query, id hosts.Identity, settled bool) bool {
	isByIPv4 := len(q.need.IPv4)+len(q.need.Names) > 0 // a name is in the lease of an IPv4 address
	if settled || q.byRules || isByIPv4 && q.Addr.Is6() {
		return settled
	}
	return len(id.Hardware) > 0 || r.withLink(q.Query, portmap.Host{}).NoHardware
}

// withNamed returns the query with the IPv4 addresses that rules and blocks name:
// the finder probes them.
func (r *Resolver) withNamed(q query) hosts.Query {
	if q.Addr.Is6() {
		q.Named = r.named(q)
	}
	return q.Query
}

// named returns the IPv4 addresses in the networks of q that rules or blocks name
// individually, those that are leased to blocked names among them.
func (r *Resolver) named(q query) []netip.Addr {
	blocked := slices.Clip(q.need.IPv4)
	for _, name := range q.need.Names {
		blocked = append(blocked, r.finder.Named(name)...)
	}
	list := q.policy.Named(q.LAN.Networks)
	for _, a := range blocked {
		if slices.ContainsFunc(q.LAN.Networks, func(n netip.Prefix) bool { return n.Contains(a) }) {
			list = append(list, a)
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Less(list[j]) })
	return slices.Compact(list)
}
