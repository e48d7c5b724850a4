package daemon

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"time"

	"igdd/pkg/config"
	"igdd/pkg/netfilter"
)

// removeTimeout limits the removal of all rules, with the wait for the xtables lock.
// AstLinux's web page leaves one second between stop and start, and the firewall's
// script may hold the lock.
const removeTimeout = 800 * time.Millisecond

// RemoveChains removes the daemon's rules and jumps from all chains, and the chains
// that the daemon created. It is for a daemon that ends without a successor. An error
// is logged, too.
func (d *Daemon) RemoveChains() error { return removeRules(d.log, d.firewall.Teardown) }

// RemoveChains removes the rules and chains that an earlier process with the same
// pid file has left in the firewall. The settings, which may be nil, name the chains
// if the record of them is damaged. An error is logged, too.
func (p *PIDFile) RemoveChains(c *config.Config, log *slog.Logger) error {
	o := netfilter.Options{OwnershipFile: ownershipFile(p.file.Name()), Log: log}
	o.NATChain, o.ForwardChain, o.PostroutingChain = c.Chains()
	return removeRules(log, func(ctx context.Context) error { return netfilter.RemoveRecorded(ctx, o) })
}

func removeRules(log *slog.Logger, remove func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), removeTimeout)
	defer cancel()
	err := remove(ctx)
	if err != nil {
		log.Error("cannot remove all rules: ports may stay open until the daemon is started or stopped again", "err", err)
	}
	return err
}

// HasLeftovers reports whether a process with the pid file has rules or chains in
// the firewall, or has left some there.
func HasLeftovers(pidFile string) bool {
	_, err := os.Lstat(ownershipFile(pidFile))
	return err == nil
}

// ownershipFile returns the path of the file that lists the chains and rules of the
// process with the pid file.
func ownershipFile(pidFile string) string {
	return strings.TrimSuffix(pidFile, ".pid") + ".chains"
}
