package netfilter

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"
)

// leftoverTimeout is how long a start may take to remove what an earlier process
// left.
const leftoverTimeout = lockWait * time.Second

// removeLeftover removes what an earlier process left and is not needed with
// these settings: chains of other names, jumps for other uplinks, pinholes while
// IPv6 is disabled.
func (f *Firewall) removeLeftover() {
	ctx, cancel := context.WithTimeout(context.Background(), leftoverTimeout)
	defer cancel()
	has := func(program string) bool {
		return slices.ContainsFunc(f.leftover, func(v inventory) bool { return v.program == program })
	}
	if f.ipv6 == nil && f.ipv6Err == nil && !has("ip6tables") {
		share, cancel := shareOfTime(ctx, 2)
		f.leftover = mergeInventories(append(f.leftover, f.leftoverPinholes(share)))
		cancel()
	}
	var err error
	now, later := f.splitLeftover()
	f.withoutNotices(func() { now, err = removeAll(ctx, now) })
	f.leftover = mergeInventories(append(now, later...))
	if len(later) > 0 {
		err = joinErrors(err, f.ipv6Err)
	}
	level := slog.LevelWarn
	if !has("iptables") {
		level = slog.LevelInfo // without ip6tables nothing is open
	}
	if err != nil {
		f.log.Log(ctx, level, "cannot remove the rules of an earlier process", "err", err)
	}
}

// splitLeftover returns what an earlier process left: what can be removed now,
// and what has to wait because ip6tables hangs. The start has waited for that
// already.
func (f *Firewall) splitLeftover() (now, later []inventory) {
	for _, v := range f.leftover {
		if v.program == "ip6tables" && errors.Is(f.ipv6Err, errTimeout) {
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
	path, err := findProgram(v.program)
	if err != nil {
		return v // there are no pinholes
	}
	text, err := run(ctx, nil, path+"-save")
	if err != nil {
		f.log.Debug("cannot look for IPv6 pinholes of an earlier process", "err", err)
		return v
	}
	if tables, err := parseListing(text); err == nil && len(tables[v.table][f.forward.name]) > 0 {
		v.borrowed = []string{f.forward.name}
	}
	return v
}
