// Command miniupnpd lets LAN clients map ports of the router through NAT-PMP, PCP and
// UPnP IGD. It replaces the C program of the same name.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"igdd/pkg/config"
	"igdd/pkg/control"
	"igdd/pkg/daemon"
	"igdd/pkg/event"
	"igdd/pkg/portmap"
	"igdd/pkg/syslog"
)

func main() {
	if isHelper(os.Args) {
		os.Exit(runHelper(os.Args[1], source{args: os.Args[3:], dir: os.Args[2]}))
	}
	if args, is := ctlArgs(os.Args); is {
		os.Exit(control.Main(args, os.Stdout, os.Stderr))
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// ctlArgs reports whether the program was started as miniupnpctl, by that name or with
// "ctl" as its first argument, and returns the arguments of miniupnpctl.
func ctlArgs(args []string) ([]string, bool) {
	switch {
	case filepath.Base(args[0]) == "miniupnpctl":
		return args[1:], true
	case len(args) > 1 && args[1] == "ctl":
		return args[2:], true
	}
	return nil, false
}

// run runs the program and returns its exit status.
func run(args []string, stdout, stderr io.Writer) int {
	from := sourceOf(args)
	c, err := from.parse()
	var info config.Info
	switch {
	case errors.As(err, &info):
		fmt.Fprint(stdout, info.Text(programVersion()))
		return 0
	case err != nil:
		fmt.Fprintln(stderr, err)
		if pidFile := from.pidFile(); pidFile != "" { // it is not a check of the settings
			log, closeLog := systemLog(portmap.LevelNotice)
			logUnusable(log, "cannot start", err)
			removeLeftovers(nil, pidFile, log)
			closeLog()
		}
		return unusableStatus(args)
	case c.Check:
		fmt.Fprint(stdout, c)
		return min(c.BadRules+c.BadSwitches+c.BadEntries, 1)
	}
	tuneRuntime()
	syscall.Umask(0o022) // keepalived's, 0177, would close the daemon's own folders to it
	parent := newParent(c.Foreground)
	if !c.Foreground && !parent.exists() && enabled(c) { // else it ends at once
		if err = background(); err != nil {
			log, closeLog := systemLog(portmap.LevelNotice)
			removeLeftovers(c, c.PIDFile, log) // of a process that was killed
			closeLog()
		}
	} else {
		err = serve(c, from, parent)
		parent.report(err)
	}
	if err != nil {
		fmt.Fprintln(stderr, &config.Unusable{Warnings: c.Warnings, Reason: err})
		return 1
	}
	if c.Supervised && !enabled(c) {
		return exitUnusable
	}
	return 0
}

// exitUnusable is the exit status for a supervisor if a start can succeed only with
// other settings: EX_CONFIG of sysexits.h, which systemd calls CONFIG.
const exitUnusable = 78

// unusableStatus returns the exit status for invalid settings.
func unusableStatus(args []string) int {
	if slices.Contains(args, "-D") {
		return exitUnusable
	}
	return 1
}

// serve runs the daemon: one instance after another, each with the settings of the
// last reload. The working directory is the root, so that no other file system is kept
// mounted by the process and the programs that it starts.
func serve(c *config.Config, from source, parent *parent) error {
	if err := os.Chdir("/"); err != nil {
		return err
	}
	log, closeLog := openLog(c)
	defer closeLog() // after the pid file is removed: a stuck syslogd does not delay the next start
	signals := listenForSignals()
	pid, err := daemon.AwaitPIDFile(signals.stopping, c.PIDFile)
	if err != nil {
		log.Error(err.Error())
		return err
	}
	defer pid.Remove()
	context.AfterFunc(signals.stopping, pid.MarkStopping)
	i := instance{
		log: log, signals: signals, pid: pid, parent: parent, rights: &rights{source: from, log: log},
		events: event.NewFeed(), metrics: daemon.NewMetrics(programVersion()), first: true,
	}
	for ; c != nil && err == nil; i.first = false {
		for _, w := range c.Warnings {
			log.Warn(w)
		}
		i.config = c
		c, err = i.run()
	}
	if err != nil {
		log.Error("cannot continue", "err", err)
	}
	return err
}

// logUnusable logs what is wrong with invalid settings, one line each, the reason
// last.
func logUnusable(log *slog.Logger, what string, err error) {
	var u *config.Unusable
	if errors.As(err, &u) {
		for _, w := range u.Warnings {
			log.Warn(w)
		}
		err = u.Reason
	}
	text, _, _ := strings.Cut(err.Error(), "\n") // without the usage text
	log.Error(what, "err", text)
}

// removeLeftovers removes the rules and chains that an earlier process has left in the
// firewall, for a process that cannot start. It does nothing while a daemon runs. The
// settings are nil if they are invalid.
func removeLeftovers(c *config.Config, pidFile string, log *slog.Logger) {
	if !daemon.HasLeftovers(pidFile) {
		return
	}
	pid, err := daemon.AwaitPIDFile(context.Background(), pidFile)
	if err != nil {
		return
	}
	defer pid.Remove()
	pid.MarkStopping()
	pid.RemoveChains(c, log)
}

// openLog returns the log of the settings, and a function that closes it.
func openLog(c *config.Config) (log *slog.Logger, closeLog func()) {
	if c.Foreground && !c.Supervised {
		return slog.New(syslog.Limit(syslog.NewText(os.Stderr, slog.LevelDebug))), func() {}
	}
	levels := []slog.Level{portmap.LevelNotice, slog.LevelInfo, slog.LevelDebug}
	return systemLog(levels[min(c.Verbose, len(levels)-1)])
}

// closeLogTime is how long the program may wait for syslogd when it ends.
const closeLogTime = 500 * time.Millisecond

// systemLog returns a log that writes to syslogd, and a function that closes it.
func systemLog(level slog.Level) (log *slog.Logger, closeLog func()) {
	h := syslog.New("miniupnpd", level)
	return slog.New(syslog.Limit(h)), func() { h.Close(closeLogTime) }
}
