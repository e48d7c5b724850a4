package netfilter

import (
	"context"
	"log/slog"

	"igdd/pkg/xtables"
)

// ListIPv6 lists the tables of IPv6. The error says why ip6tables does not work.
// It does not need the xtables lock.
func ListIPv6(ctx context.Context, log *slog.Logger) (xtables.Snapshot, error) {
	programs, err := xtables.Find("ip6tables", log)
	if err != nil {
		return nil, err
	}
	return programs.Snapshot(ctx)
}

// ProbeIPv6 returns why the kernel has no ip6tables, nil if it has.
func ProbeIPv6(log *slog.Logger) error {
	programs, err := xtables.Find("ip6tables", log)
	if err != nil {
		return err
	}
	return programs.ProbeKernel()
}
