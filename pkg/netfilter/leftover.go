package netfilter

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"
)

// leftoverTime is what a start has to take away what an earlier process left.
const leftoverTime = lockWait * time.Second

// clearOut takes away what an earlier process left and there is no place for:
// chains of other names, jumps of other uplinks, pinholes without IPv6.
func (f *Firewall) clearOut() {
	ctx, cancel := context.WithTimeout(context.Background(), leftoverTime)
	defer cancel()
	has := func(program string) bool {
		return slices.ContainsFunc(f.leftover, func(h holding) bool { return h.program == program })
	}
	if f.ipv6 == nil && f.no6 == nil && !has("ip6tables") {
		share, cancel := fraction(ctx, 2)
		f.leftover = merge(append(f.leftover, f.pinholes(share)))
		cancel()
	}
	var err error
	now, later := f.removable()
	f.withoutNotices(func() { now, err = takeDown(ctx, now) })
	f.leftover = merge(append(now, later...))
	if len(later) > 0 {
		err = also(err, f.no6)
	}
	level := slog.LevelWarn
	if !has("iptables") {
		level = slog.LevelInfo // a router without ip6tables has nothing open
	}
	if err != nil {
		f.log.Log(ctx, level, "rules that an earlier process left cannot be removed", "err", err)
	}
}

// removable parts what an earlier process left from what is of programs that
// hang: a start has waited for those already.
func (f *Firewall) removable() (now, later []holding) {
	for _, h := range f.leftover {
		if h.program == "ip6tables" && errors.Is(f.no6, errLate) {
			later = append(later, h)
		} else {
			now = append(now, h)
		}
	}
	return now, later
}

// pinholes returns the IPv6 chain of our name if it has rules: whoever made it,
// and whenever, a service without IPv6 keeps none open. It asks for all tables
// there are, since asking for one loads the kernel's module of it.
func (f *Firewall) pinholes(ctx context.Context) holding {
	h := holding{program: "ip6tables", table: f.forward.table}
	path, err := find(h.program)
	if err != nil {
		return h // nobody has opened any
	}
	text, err := run(ctx, nil, path+"-save")
	if err != nil {
		f.log.Debug("whether there are IPv6 pinholes of an earlier process is not known", "err", err)
		return h
	}
	if tables, err := parseListing(text); err == nil && len(tables[h.table][f.forward.name]) > 0 {
		h.used = []string{f.forward.name}
	}
	return h
}
