package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"igdd/pkg/config"
	"igdd/pkg/netfilter"
	"igdd/pkg/portmap"
	"igdd/pkg/xtables"
)

// DetectIPv6 enables IPv6, or disables it where the system has it disabled, in
// settings that leave the choice to the daemon. It returns the tables of IPv6 if it
// had to list them.
func DetectIPv6(c *config.Config, log *slog.Logger) (tables xtables.Snapshot) {
	if !c.IPv6Auto {
		return nil
	}
	tables, err := checkIPv6(context.Background(), c, log)
	if err == nil && tables["filter"] == nil { // a table in use has been listed
		err = netfilter.ProbeIPv6(log)
	}
	c.IPv6 = err == nil
	if err != nil {
		log.Log(context.Background(), portmap.LevelNotice, "IPv6 is disabled: the system has it disabled, and no setting says ipv6=yes", "why", err)
	}
	return tables
}

// checkIPv6 returns an error that says why the system has IPv6 disabled, nil if it
// is enabled, and the tables of IPv6 if it has listed them.
func checkIPv6(ctx context.Context, c *config.Config, log *slog.Logger) (xtables.Snapshot, error) {
	if _, err := os.Stat("/proc/net/if_inet6"); err != nil {
		return nil, errors.New("the kernel does not support it")
	}
	const all = "/proc/sys/net/ipv6/conf/all/disable_ipv6"
	if b, err := os.ReadFile(all); err == nil && strings.TrimSpace(string(b)) != "0" {
		return nil, fmt.Errorf("%s is set", all)
	}
	tables, err := netfilter.ListIPv6(ctx, log)
	switch {
	case err != nil:
		return nil, fmt.Errorf("ip6tables does not work: %w", err)
	case !tables.PassesAny(c.ForwardChain):
		return nil, errors.New("the firewall's rules let no IPv6 through")
	}
	return tables, nil
}

// How often the daemon checks whether the system has IPv6 enabled, and for how long
// the result must differ before it counts: a firewall that is starting drops
// everything first.
const (
	ipv6Interval   = 5 * time.Second
	ipv6SettleTime = 10 * time.Second
)

// ipv6Watch detects that the system has enabled or disabled IPv6 since the daemon
// started.
type ipv6Watch struct {
	config   *config.Config
	stopped  func() bool // reports whether the firewall is stopped: then nothing can be told
	outdated func()      // has a new instance replace this one; may be nil
	log      *slog.Logger

	looks     chan netfilter.Look // the last look at the firewall that is to be considered; capacity 1
	changedAt time.Time           // since when the result differs; zero: it does not
}

// notify has the watch consider a look at the firewall. Of IPv6 the last look tells
// whether it passes; while IPv6 is disabled there are none.
func (w *ipv6Watch) notify(l netfilter.Look) {
	if !w.config.IPv6Auto || w.outdated == nil || w.config.IPv6 != (l.Family == portmap.IPv6) {
		return
	}
	select {
	case <-w.looks:
	default:
	}
	w.looks <- l
}

// Run watches until ctx ends.
func (w *ipv6Watch) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	timer.Stop()
	defer timer.Stop()
	var last netfilter.Look
	for {
		select {
		case <-ctx.Done():
			return nil
		case last = <-w.looks:
		case <-timer.C:
		}
		if again := w.check(ctx, last); again > 0 {
			timer.Reset(again)
		}
		select { // no more often than once in ipv6Interval
		case <-ctx.Done():
			return nil
		case <-time.After(ipv6Interval):
		}
	}
}

// check returns after what time to check again; 0: when the firewall changes again.
func (w *ipv6Watch) check(ctx context.Context, l netfilter.Look) time.Duration {
	if w.stopped() {
		w.changedAt = time.Time{}
		return 0
	}
	enabled := l.Passes
	if l.Family == portmap.IPv4 {
		_, err := checkIPv6(ctx, w.config, w.log)
		enabled = err == nil
	}
	return w.update(enabled, time.Now())
}

// update takes the result of a check.
func (w *ipv6Watch) update(enabled bool, now time.Time) time.Duration {
	switch {
	case enabled == w.config.IPv6:
		w.changedAt = time.Time{}
		return 0
	case w.changedAt.IsZero():
		w.changedAt = now
	case now.Sub(w.changedAt) >= ipv6SettleTime:
		w.changedAt = time.Time{}
		w.outdated()
		return 0
	}
	return ipv6Interval
}
