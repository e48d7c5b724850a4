// Command miniupnpd lets LAN clients open ports of the router by NAT-PMP, PCP
// and UPnP IGD. It takes the place of the program of that name.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"igdd/pkg/config"
	"igdd/pkg/control"
	"igdd/pkg/daemon"
	"igdd/pkg/portmap"
	"igdd/pkg/sandbox"
	"igdd/pkg/syslog"
)

func main() {
	if args, is := ctlArgs(os.Args); is {
		os.Exit(control.Main(args, os.Stdout, os.Stderr))
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// ctlArgs reports whether the program was called as the operator's tool, by
// that name or with "ctl" as its first argument, and the tool's arguments.
func ctlArgs(args []string) ([]string, bool) {
	switch {
	case filepath.Base(args[0]) == "miniupnpctl":
		return args[1:], true
	case len(args) > 1 && args[1] == "ctl":
		return args[2:], true
	}
	return nil, false
}

// run is the whole program; its result is the exit status.
func run(args []string, stdout, stderr io.Writer) int {
	c, err := config.Parse(args)
	var info config.Info
	switch {
	case errors.As(err, &info):
		fmt.Fprint(stdout, info.Text(programVersion()))
		return 0
	case err != nil:
		fmt.Fprintln(stderr, err)
		if pidFile := config.PIDFile(args); pidFile != "" { // no check
			log, closeLog := systemLog(portmap.LevelNotice)
			logUnusable(log, "cannot start", err)
			removeLeftovers(pidFile, log)
			closeLog()
		}
		return 1
	case c.Check:
		fmt.Fprint(stdout, c)
		return min(c.BadRules, 1)
	}
	tuneRuntime()
	up := newParent()
	if !c.Foreground && !up.exists() {
		if err = background(); err != nil {
			log, closeLog := systemLog(portmap.LevelNotice)
			removeLeftovers(c.PIDFile, log) // of a process that had no time to do it
			closeLog()
		}
	} else {
		err = serve(c, args, up)
		up.report(err)
	}
	if err != nil {
		fmt.Fprintln(stderr, &config.Unusable{Warnings: c.Warnings, Reason: err})
		return 1
	}
	return 0
}

// serve is the daemon's life: one instance after another, each with the
// settings that the last reload brought.
func serve(c *config.Config, args []string, up *parent) error {
	log, closeLog := openLog(c)
	defer closeLog() // after the pid file is removed: a stuck syslogd does not hold the next start
	signals := listenForSignals()
	pid, err := daemon.AwaitPIDFile(signals.stopping, c.PIDFile)
	if err != nil {
		log.Error(err.Error())
		return err
	}
	defer pid.Remove()
	context.AfterFunc(signals.stopping, pid.MarkStopping)
	i := instance{args: args, log: log, signals: signals, pid: pid, parent: up, first: true}
	for ; c != nil && err == nil; i.first = false {
		for _, w := range c.Warnings {
			log.Warn(w)
		}
		i.config = c
		c, err = i.run()
	}
	if err != nil {
		log.Error("cannot go on", "err", err)
	}
	return err
}

// logUnusable logs what is wrong with settings that cannot be used, one line
// each, the reason last.
func logUnusable(log *slog.Logger, what string, err error) {
	var u *config.Unusable
	if errors.As(err, &u) {
		for _, w := range u.Warnings {
			log.Warn(w)
		}
		err = u.Reason
	}
	text, _, _ := strings.Cut(err.Error(), "\n") // without the usage
	log.Error(what, "err", text)
}

// removeLeftovers removes what an earlier process left in the firewall for
// this one, which cannot start. It touches nothing while a daemon serves.
func removeLeftovers(pidFile string, log *slog.Logger) {
	if !daemon.HasLeftovers(pidFile) {
		return
	}
	pid, err := daemon.AwaitPIDFile(context.Background(), pidFile)
	if err != nil {
		return
	}
	defer pid.Remove()
	pid.MarkStopping()
	pid.RemoveChains(log)
}

// enterSandbox gives up the rights that the daemon does not need. The first look at
// the firewall comes before: it may have to load the kernel's modules.
func enterSandbox(c *config.Config, log *slog.Logger) error {
	if !c.Sandbox {
		return nil
	}
	filtered, err := sandbox.Enter()
	if err != nil {
		return fmt.Errorf("%w; UPNP_SANDBOX=no (sandbox=no) does without", err)
	}
	log.Debug("rights are given up", "seccomp", filtered)
	return nil
}

// openLog returns the log that the settings ask for, and what closes it.
func openLog(c *config.Config) (log *slog.Logger, closeLog func()) {
	if c.Foreground {
		return slog.New(syslog.Limit(syslog.NewText(os.Stderr, slog.LevelDebug))), func() {}
	}
	levels := []slog.Level{portmap.LevelNotice, slog.LevelInfo, slog.LevelDebug}
	return systemLog(levels[min(c.Verbose, len(levels)-1)])
}

// closeLogTime is how long the end of the program may wait for syslogd.
const closeLogTime = 500 * time.Millisecond

// systemLog returns a log in the system's, and what closes it.
func systemLog(level slog.Level) (log *slog.Logger, closeLog func()) {
	h := syslog.New("miniupnpd", level)
	return slog.New(syslog.Limit(h)), func() { h.Close(closeLogTime) }
}
