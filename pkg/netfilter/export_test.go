package netfilter

import (
	"context"
	"time"

	"igdd/pkg/portmap"
	"igdd/pkg/xtables"
)

// Healthy reports whether a family's tables have all rules and jumps that they
// should have, and no others in the daemon's chains.
func (f *Firewall) Healthy(v portmap.Family) (bool, error) {
	family := f.family(v)
	if family == nil {
		return true, nil
	}
	family.mu.Lock()
	defer family.mu.Unlock()
	s, err := family.snapshot(f.ctx)
	if err != nil {
		return false, err
	}
	p := family.plan(s, f.wantedRules(family), f.currentNetwork())
	if p.stopped {
		return false, ErrStopped
	}
	return p.isEmpty(), nil
}

// StaticForwards returns the static port forwards of an uplink.
func (f *Firewall) StaticForwards(u Uplink) (Forwards, error) {
	f.ipv4.mu.Lock()
	defer f.ipv4.mu.Unlock()
	s, err := f.ipv4.snapshot(f.ctx)
	if err != nil {
		return Forwards{}, err
	}
	p := f.ipv4.plan(s, f.wantedRules(f.ipv4), f.currentNetwork())
	return f.nat.forwards(p.tables[f.nat.table], u), nil
}

// Dead returns why connections do not get to the chains of a family.
func (f *Firewall) Dead(v portmap.Family) []string {
	family := f.family(v)
	family.status.Lock()
	defer family.status.Unlock()
	return family.health.dead
}

// Watch reads the notices of changes, as Run does, until ctx ends.
func (f *Firewall) Watch(ctx context.Context) error { return f.watch.Run(ctx, f.ipv4.programs) }

// Changed has an element when another program has used the firewall.
func (f *Firewall) Changed() <-chan struct{} { return f.watch.Changed }

// Busy is an operation on the firewall that ends with done.
func (f *Firewall) Busy() (done func()) {
	f.ipv4.mu.Lock()
	return f.ipv4.mu.Unlock
}

// forwardsOf returns the forwards of table nat.
func forwardsOf(t xtables.Table, u Uplink, wan ...string) Forwards {
	f := Firewall{ipv4: newFamily(portmap.IPv4, "iptables", nil)}
	f.initChains(Options{NATChain: "MINIUPNPD", WAN: wan})
	plan := f.nat.planJumps(t, Network{Uplink: u})
	return f.nat.forwards(plan.table, u)
}

// CloseResident ends the process that waits for the next IPv4 transaction.
func (f *Firewall) CloseResident() { f.ipv4.programs.Close() }

// Forget forgets the snapshot of Setup, so that the next Sync makes its own.
func (f *Firewall) Forget() {
	for _, family := range f.families() {
		family.fresh = nil
	}
}

// LookAtOther looks at the other variant's tables of a family and returns why its
// rules stop connections.
func (f *Firewall) LookAtOther(ctx context.Context, v portmap.Family) []string {
	family := f.family(v)
	f.lookAtOther(ctx, family)
	family.status.Lock()
	defer family.status.Unlock()
	return family.health.other
}

// Trouble returns what Health says of a family, without a look.
func (f *Firewall) Trouble(v portmap.Family) error {
	family := f.family(v)
	family.status.Lock()
	defer family.status.Unlock()
	return family.health.trouble
}

// EndPauses lets the time pass until what has failed is tried again.
func (f *Firewall) EndPauses() {
	for _, family := range f.families() {
		family.retry.until, family.refusals.until = time.Time{}, time.Time{}
	}
}

// CloseResident6 ends the process that waits for the next IPv6 transaction.
func (f *Firewall) CloseResident6() { f.ipv6.programs.Close() }

// UseUpRepairs has the next repair wait for an hour, as after too many.
func (f *Firewall) UseUpRepairs() {
	f.ipv4.repairs = tokens{used: repairBurst, since: time.Now().Add(time.Hour)}
}

// Repairs returns how often a family's rules were restored.
func (f *Firewall) Repairs(v portmap.Family) int { return f.family(v).currentHealth().Repairs }
