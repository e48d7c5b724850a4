package daemon

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"time"

	"igdd/pkg/netfilter"
)

// takeDownTime is how long it may take to remove all rules, with the wait for
// the xtables lock. AstLinux's web page leaves one second between stop and
// start, and the firewall's own script may be at work on the same tables.
const takeDownTime = 800 * time.Millisecond

// RemoveChains removes the daemon's rules and jumps, whoever made the chains,
// and the chains that the daemon made. It is for the end of a daemon that
// nobody follows.
func (d *Daemon) RemoveChains() {
	takeDown(d.log, d.firewall.Teardown)
}

// TakeDownChains removes from the firewall what an earlier process left there,
// which kept the same pid file.
func (p *PIDFile) TakeDownChains(log *slog.Logger) {
	takeDown(log, func(ctx context.Context) error {
		return netfilter.TakeDown(ctx, recordOf(p.file.Name()), log)
	})
}

func takeDown(log *slog.Logger, remove func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), takeDownTime)
	defer cancel()
	if err := remove(ctx); err != nil {
		log.Error("cannot remove all rules: ports may stay open until the next start or stop", "err", err)
	}
}

// LeftBehind reports whether a process that kept the pid file has left, or
// still has, something in the firewall.
func LeftBehind(pidFile string) bool {
	_, err := os.Stat(recordOf(pidFile))
	return err == nil
}

// recordOf returns the path of the file that says what in the firewall belongs
// to the process that keeps the pid file.
func recordOf(pidFile string) string {
	return strings.TrimSuffix(pidFile, ".pid") + ".chains"
}
