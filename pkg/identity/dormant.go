package identity

import (
	"context"
	"net/netip"
	"time"

	"igdd/pkg/hosts"
	"igdd/pkg/portmap"
)

// How often hosts of dormant mappings are looked for: soon, then less and less
// often.
const (
	firstPause = time.Second
	maxPause   = time.Minute
)

// Committed hears of changes of the table that are in force. It never blocks.
func (r *Resolver) Committed(changes []portmap.Change) {
	for _, c := range changes {
		if c.After != nil && c.After.Dormant {
			select {
			case r.wake <- struct{}{}:
			default:
			}
			return
		}
	}
}

// followDormant looks for the hosts of dormant mappings until ctx ends.
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

// lookUpDormant tells the table which hosts are known now, and asks for the others. It
// reports whether there are any.
func (r *Resolver) lookUpDormant(ctx context.Context) (more bool) {
	known := make(map[netip.Addr]portmap.Host)
	ask := make(map[netip.Addr]int) // and on which interface
	for _, m := range r.List() {
		if m.Dormant {
			more = true
			r.addDormant(m, known, ask)
		}
	}
	for a, index := range ask {
		r.finder.Probe(index, a)
	}
	if len(known) > 0 {
		r.recognize(ctx, known)
	}
	return more
}

// addDormant adds the host of m to those that are known, or says whom to ask.
func (r *Resolver) addDormant(m *portmap.Mapping, known map[netip.Addr]portmap.Host, ask map[netip.Addr]int) {
	q, ours := r.queryFor(m.Internal)
	if !ours || !q.decides {
		return // its LAN is not there, or it is dormant for another reason
	}
	q.Hardware = hardware(m.Host)
	id, _ := r.finder.Known(q.Query)
	if len(id.Hardware) > 0 {
		known[q.Addr] = host(id)
	}
	if len(id.IPv4) > 0 || q.Addr.Is4() && len(id.Hardware) > 0 {
		return
	}
	for _, a := range append(q.withNamed().Named, q.Addr) {
		ask[a] = q.LAN.Index
	}
}

// recognize tells the table which hosts are known now.
func (r *Resolver) recognize(ctx context.Context, known map[netip.Addr]portmap.Host) {
	r.Recognize(ctx, func(a netip.Addr) (portmap.Host, bool) { h, found := known[a]; return h, found })
}

// SetPolicy is the table's. Where the new rules name hardware addresses, it first
// tells the table those of hosts that have mappings, as far as they are known.
func (r *Resolver) SetPolicy(ctx context.Context, p *portmap.Policy) error {
	known := make(map[netip.Addr]portmap.Host)
	for _, m := range r.List() {
		a := m.Internal.Addr()
		if _, done := known[a]; done || m.Host.Hardware != "" || !p.DependsOnHardware(m.Internal.Port()) {
			continue
		}
		if lan, ours := r.lan(a); ours {
			id, _ := r.finder.Known(hosts.Query{Addr: a, LAN: lan})
			known[a] = host(id)
		}
	}
	if len(known) > 0 {
		r.recognize(ctx, known)
	}
	return r.Table.SetPolicy(ctx, p)
}
