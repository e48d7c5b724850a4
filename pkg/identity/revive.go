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
	firstLook = time.Second
	lastLook  = time.Minute
)

// Committed hears of changes of the table that are in force. It never blocks.
func (d *Resolver) Committed(changes []portmap.Change) {
	for _, c := range changes {
		if c.After != nil && c.After.Dormant {
			select {
			case d.wake <- struct{}{}:
			default:
			}
			return
		}
	}
}

// revive looks for the hosts of dormant mappings until ctx ends.
func (d *Resolver) revive(ctx context.Context) {
	pause := firstLook
	for {
		var again <-chan time.Time
		if d.look(ctx) {
			again = time.After(pause)
		}
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
			pause = firstLook
		case <-again:
			pause = min(2*pause, lastLook)
		}
	}
}

// look tells the table which hosts are known now, and asks for the others. It
// reports whether there are any.
func (d *Resolver) look(ctx context.Context) (more bool) {
	known := make(map[netip.Addr]portmap.Host)
	ask := make(map[netip.Addr]int) // and on which interface
	for _, m := range d.List() {
		if m.Dormant {
			more = true
			d.lookFor(m, known, ask)
		}
	}
	for a, index := range ask {
		d.finder.Probe(index, a)
	}
	if len(known) > 0 {
		d.tell(ctx, known)
	}
	return more
}

// lookFor adds the host of m to those that are known, or says whom to ask.
func (d *Resolver) lookFor(m *portmap.Mapping, known map[netip.Addr]portmap.Host, ask map[netip.Addr]int) {
	q, ours := d.about(m.Internal)
	if !ours || !q.decides {
		return // its LAN is not there, or it is dormant for another reason
	}
	q.Hardware = hardware(m.Host)
	id, _ := d.finder.Known(q.Query)
	if len(id.Hardware) > 0 {
		known[q.Addr] = host(id)
	}
	if len(id.IPv4) > 0 || q.Addr.Is4() && len(id.Hardware) > 0 {
		return
	}
	for _, a := range append(q.asking().Named, q.Addr) {
		ask[a] = q.LAN.Index
	}
}

// tell tells the table which hosts are known now.
func (d *Resolver) tell(ctx context.Context, known map[netip.Addr]portmap.Host) {
	d.Recognize(ctx, func(a netip.Addr) (portmap.Host, bool) { h, found := known[a]; return h, found })
}

// SetPolicy is the table's. Where the new rules name hardware addresses, it first
// tells the table those of hosts that have mappings, as far as they are known.
func (d *Resolver) SetPolicy(ctx context.Context, p *portmap.Policy) error {
	known := make(map[netip.Addr]portmap.Host)
	for _, m := range d.List() {
		a := m.Internal.Addr()
		if _, done := known[a]; done || m.Host.Hardware != "" || !p.DependsOnHardware(m.Internal.Port()) {
			continue
		}
		if lan, ours := d.lan(a); ours {
			id, _ := d.finder.Known(hosts.Query{Addr: a, LAN: lan})
			known[a] = host(id)
		}
	}
	if len(known) > 0 {
		d.tell(ctx, known)
	}
	return d.Table.SetPolicy(ctx, p)
}
