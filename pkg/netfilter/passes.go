package netfilter

import (
	"context"
	"log/slog"

	"igdd/pkg/xtables"
)

// PassesIPv6 reports whether the router forwards any new IPv6 connection of TCP
// or UDP, apart from those that the chain ownChain accepts. The error says why
// ip6tables does not work. It does not need the xtables lock.
func PassesIPv6(ctx context.Context, ownChain string, log *slog.Logger) (bool, error) {
	programs, err := xtables.Find("ip6tables", log)
	if err != nil {
		return false, err
	}
	s, err := programs.Snapshot(ctx)
	if err != nil {
		return false, err
	}
	return s.PassesAny(ownChain), nil
}

// ProbeIPv6 returns why the kernel has no ip6tables, nil if it has.
func ProbeIPv6(log *slog.Logger) error {
	programs, err := xtables.Find("ip6tables", log)
	if err != nil {
		return err
	}
	return programs.ProbeKernel()
}
