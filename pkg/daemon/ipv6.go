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
)

// DetectIPv6 switches IPv6 off in settings that do not say whether it is to be
// on, where the system has it off.
func DetectIPv6(c *config.Config, log *slog.Logger) {
	if !c.IPv6Auto {
		return
	}
	err := netfilter.ProbeIPv6()
	if err == nil {
		err = checkIPv6(c)
	}
	c.IPv6 = err == nil
	if err != nil {
		log.Log(context.Background(), portmap.LevelNotice, "no IPv6: the system has it off, and no setting says ipv6=yes", "why", err)
	}
}

// checkIPv6 returns why the system does without IPv6, nil if it does not.
func checkIPv6(c *config.Config) error {
	if _, err := os.Stat("/proc/net/if_inet6"); err != nil {
		return errors.New("the kernel has none")
	}
	const everywhere = "/proc/sys/net/ipv6/conf/all/disable_ipv6"
	if b, err := os.ReadFile(everywhere); err == nil && strings.TrimSpace(string(b)) != "0" {
		return fmt.Errorf("%s is set", everywhere)
	}
	passes, err := netfilter.PassesIPv6(context.Background(), c.ForwardChain)
	switch {
	case err != nil:
		return fmt.Errorf("ip6tables does not work: %w", err)
	case !passes:
		return errors.New("the firewall's own rules let none through")
	}
	return nil
}

// How often the system is asked whether it has IPv6 on, and for how long the
// answer must be another one before it counts: a firewall that is started drops
// everything first.
const (
	ipv6Interval   = 5 * time.Second
	ipv6SettleTime = 10 * time.Second
)

// ipv6Watch sees whether the system's IPv6 is as it was when the service began.
type ipv6Watch struct {
	config   *config.Config
	stopped  func() bool // the firewall is: a service that begins now would not know
	outdated func()      // has a new service take the place of this one

	checked   time.Time
	changedAt time.Time // since when, zero: it does not
}

// check asks after the firewall was touched. It returns when to ask again, 0:
// not before somebody touches it again.
func (w *ipv6Watch) check(now time.Time) time.Duration {
	if !w.config.IPv6Auto || w.outdated == nil {
		return 0
	}
	if rest := ipv6Interval - now.Sub(w.checked); rest > 0 {
		return rest
	}
	w.checked = now
	if w.stopped() {
		w.changedAt = time.Time{}
		return 0
	}
	on := checkIPv6(w.config) == nil
	return w.update(on, now)
}

// update takes an answer.
func (w *ipv6Watch) update(on bool, now time.Time) time.Duration {
	switch {
	case on == w.config.IPv6:
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
