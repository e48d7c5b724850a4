package identity

import (
	"context"
	"net/netip"
	"time"

	"igdd/pkg/portmap"
)

// The pauses between lookups of the hosts of mappings that are dormant because
// their hosts are not known: the first one, then doubling up to a maximum.
const (
	firstPause = time.Second
	maxPause   = time.Minute
)

// Committed receives the table's changes that are in force. It never blocks.
func (r *Resolver) Committed(changes []portmap.Change) {
	for _, c := range changes {
		if c.After != nil && c.After.Reason == portmap.UnknownHost {
			select {
			case r.wake <- struct{}{}:
			default:
			}
			return
		}
	}
}

// followDormant looks up the hosts of dormant mappings until ctx ends.
func (r *Resolver) followDormant(ctx context.Context) {
	pause := firstPause
	for {
		var again <-chan time.Time
		if r.lookUpDormant(ctx) {
			again = time.After(pause)
		}
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
			pause = firstPause
		case <-again:
			pause = min(2*pause, maxPause)
		}
	}
}

// lookUpDormant passes the hosts that dormant mappings wait for to the table, if
// they are known now, and probes for the others. It reports whether there are
// such mappings.
func (r *Resolver) lookUpDormant(ctx context.Context) (more bool) {
	known := make(map[netip.Addr]portmap.Host)
	probe := make(map[netip.Addr]int) // index of the interface by address
	for _, m := range r.List() {
		if m.Reason == portmap.UnknownHost {
			more = true
			r.addDormant(m, known, probe)
		}
	}
	for a, index := range probe {
		r.finder.Probe(index, a)
	}
	if len(known) > 0 {
		r.recognize(ctx, known)
	}
	return more
}

// addDormant adds what is known of the host of m to known, and to probe the
// addresses from which the rest can be learned.
func (r *Resolver) addDormant(m *portmap.Mapping, known map[netip.Addr]portmap.Host, probe map[netip.Addr]int) {
	q, ours := r.queryFor(m.Internal)
	if !ours || !q.decides {
		return // its LAN is down, or new rules do not depend on the host
	}
	q.Hardware = hardware(m.Host)
	id, _ := r.finder.Known(q.Query)
	if h := r.describe(q.Query, id); h.Hardware != "" || h.NoHardware {
		known[q.Addr] = h
	}
	if len(id.IPv4) > 0 || q.Addr.Is4() && len(id.Hardware) > 0 {
		return
	}
	for _, a := range append(r.withNamed(q).Named, q.Addr) {
		probe[a] = q.LAN.Index
	}
}

// recognize passes known hosts to the table.
func (r *Resolver) recognize(ctx context.Context, known map[netip.Addr]portmap.Host) {
	r.Recognize(ctx, func(a netip.Addr) (portmap.Host, bool) { h, found := known[a]; return h, found })
}

// SetPolicy is the table's SetPolicy. If the new rules have hardware addresses,
// it first passes the known ones of hosts with mappings to the table.
func (r *Resolver) SetPolicy(ctx context.Context, p *portmap.Policy) error {
	r.recognizeWhere(ctx, func(m *portmap.Mapping) bool { return p.DependsOnHardware(m.Internal.Port()) })
	return r.Table.SetPolicy(ctx, p)
}
