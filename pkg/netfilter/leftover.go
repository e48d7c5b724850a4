package netfilter

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"igdd/pkg/xtables"
)

// leftoverTimeout is how long a start may take to remove what an earlier process
// left.
const leftoverTimeout = 10 * time.Second

// removeLeftover removes what an earlier process left and is not needed with
// these settings: chains of other names, jumps for other uplinks, pinholes while
// IPv6 is disabled.
func (f *Firewall) removeLeftover() {
	ctx, cancel := context.WithTimeout(context.Background(), leftoverTimeout)
	defer cancel()
	list := f.ownership.leftover
	has := func(program string) bool {
		return slices.ContainsFunc(list, func(v inventory) bool { return v.program == program })
	}
	if f.ipv6 == nil && !has("ip6tables") {
		share, cancel := shareOfTime(ctx, 2)
		list = mergeInventories(append(list, f.leftoverPinholes(share)))
		cancel()
	}
	now, later := f.splitLeftover(list)
	left, err := removeAll(ctx, now)
	if f.ipv6 != nil && len(now) > 0 {
		f.ipv6.fresh = nil
	}
	f.ownership.update(func(o *ownership) { o.leftover = mergeInventories(append(left, later...)) })
	if len(later) > 0 {
		err = joinErrors(err, f.ipv6.health.trouble)
	}
	level := slog.LevelWarn
	if !has("iptables") {
		level = slog.LevelInfo // without ip6tables nothing is open
	}
	if err != nil {
		f.log.Log(ctx, level, "cannot remove the rules of an earlier process", "err", err)
	}
}

// splitLeftover returns what can be removed now of what an earlier process left,
// and what has to wait because ip6tables hangs. The start has waited for that
// already.
func (f *Firewall) splitLeftover(list []inventory) (now, later []inventory) {
	for _, v := range list {
		if v.program == "ip6tables" && f.ipv6 != nil && errors.Is(f.ipv6.health.trouble, xtables.ErrTimeout) {
			later = append(later, v)
		} else {
			now = append(now, v)
		}
	}
	return now, later
}

// leftoverPinholes returns the IPv6 chain for pinholes if it has rules: no matter
// which process made them, they are closed while IPv6 is disabled. It lists all
// tables in use, since listing a single one loads its kernel module.
func (f *Firewall) leftoverPinholes(ctx context.Context) inventory {
	v := inventory{program: "ip6tables", table: f.forward.table}
	programs, err := xtables.Find(v.program, f.log)
	if err != nil {
		return v // there are no pinholes
	}
	s, err := programs.Snapshot(ctx)
	if err != nil {
		f.log.Debug("cannot look for IPv6 pinholes of an earlier process", "err", err)
		return v
	}
	if len(s[v.table].Rules(f.forward.name)) > 0 {
		v.borrowed = []string{f.forward.name}
	}
	return v
}
