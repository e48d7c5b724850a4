package daemon

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"time"

	"igdd/pkg/netfilter"
)

// removeTimeout is how long it may take to remove all rules, with the wait for
// the xtables lock. AstLinux's web page leaves one second between stop and
// start, and the firewall's own script may be at work on the same tables.
const removeTimeout = 800 * time.Millisecond

// RemoveChains removes the daemon's rules and jumps, whoever made the chains,
// and the chains that the daemon made. It is for the end of a daemon that
// nobody follows.
func (d *Daemon) RemoveChains() {
	removeRules(d.log, d.firewall.Teardown)
}

// RemoveChains removes from the firewall what an earlier process left there,
// which kept the same pid file.
func (p *PIDFile) RemoveChains(log *slog.Logger) {
	removeRules(log, func(ctx context.Context) error {
		return netfilter.TakeDown(ctx, ownershipFile(p.file.Name()), log)
	})
}

func removeRules(log *slog.Logger, remove func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), removeTimeout)
	defer cancel()
	if err := remove(ctx); err != nil {
		log.Error("cannot remove all rules: ports may stay open until the next start or stop", "err", err)
	}
}

// HasLeftovers reports whether a process that kept the pid file has left, or
// still has, something in the firewall.
func HasLeftovers(pidFile string) bool {
	_, err := os.Stat(ownershipFile(pidFile))
	return err == nil
}

// ownershipFile returns the path of the file that says what in the firewall belongs
// to the process that keeps the pid file.
func ownershipFile(pidFile string) string {
	return strings.TrimSuffix(pidFile, ".pid") + ".chains"
}
