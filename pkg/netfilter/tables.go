package netfilter

import (
	"context"
	"errors"
	"fmt"

	"igdd/pkg/portmap"
	"igdd/pkg/xtables"
)

// Tables lists the tables of a family as the kernel has them now: those of the
// daemon's variant of iptables, without a program's name, and those of the other
// variant if its program can list them. Nothing else uses what it returns.
func (f *Firewall) Tables(ctx context.Context, v portmap.Family) ([]xtables.Variant, error) {
	family := f.family(v)
	if family == nil {
		return nil, errors.New("netfilter: IPv6 is disabled in the settings")
	}
	own, err := f.untilEnd(ctx, family.listAside)
	if err != nil {
		return nil, fmt.Errorf("netfilter: %w", err)
	}
	variants := []xtables.Variant{{Tables: own}}
	if family.other == nil {
		return variants, nil
	}
	others, err := f.untilEnd(ctx, family.other.programs.Snapshot)
	if err != nil {
		f.log.Debug("cannot list the rules of the other variant of iptables", "program", family.other.programs.Name(), "err", err)
		return variants, nil
	}
	return append(variants, xtables.Variant{Program: family.other.programs.Name(), Tables: others}), nil
}

// listAside lists the tables without f.mu, and without noting what is found.
func (f *family) listAside(ctx context.Context) (xtables.Snapshot, error) {
	if err := f.mu.LockContext(ctx); err != nil {
		return nil, err
	}
	err := f.find()
	programs := f.programs
	f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return programs.Snapshot(ctx)
}

// Owns reports whether a step is a rule in one of the daemon's chains.
func (f *Firewall) Owns(s xtables.Step) bool {
	isIn := func(c *chain) bool { return s.Table == c.table && s.Chain == c.name }
	return s.Program == "" && (isIn(f.nat) || isIn(f.forward))
}
