package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"igdd/pkg/config"
	"igdd/pkg/daemon"
	"igdd/pkg/leasefile"
	"igdd/pkg/safepath"
	"igdd/pkg/sandbox"
	"igdd/pkg/xtables"
)

// rights are root's privileges: the process drops those that it does not need, and
// its helper keeps them.
type rights struct {
	source   source
	log      *slog.Logger
	helper   *privileged // nil: the process keeps its privileges
	confined bool        // it sees only the files of the settings at the start
	folder   leaseFolder // of the settings at the start
}

// prepare does what needs root's privileges, if the settings demand the sandbox: it
// gives the leases a folder of their own, and starts the helper.
func (r *rights) prepare(c *config.Config) (err error) {
	if !c.Sandbox {
		return nil
	}
	if err := leasefile.MoveToFolder(c.LeaseFile); err != nil {
		r.log.Warn("the leases have no folder of their own; the daemon can create other files beside them", "err", err)
	}
	if r.helper, err = startHelper(c.NotifyCmd, r.source); err != nil {
		return err
	}
	r.noteFolder(c.LeaseFile)
	return nil
}

// drop drops the privileges that the daemon does not need. The firewall must have been
// read before: that may load kernel modules.
func (r *rights) drop(c *config.Config) error {
	if !c.Sandbox {
		return nil
	}
	isPlanted := func(path string) bool { _, err := safepath.Resolve(path); return err != nil }
	files := slices.DeleteFunc(daemon.OwnFiles(c), isPlanted) // a link must not open another folder
	report, err := sandbox.Enter(sandbox.Options{
		Programs: xtables.Installed(), Files: files, Readable: readable(c), LowPorts: daemon.NeedsLowPort(c),
	})
	if err != nil {
		return fmt.Errorf("%w; set UPNP_SANDBOX=no (sandbox=no) to run without the sandbox", err)
	}
	r.confined = report.Namespace == nil || report.Landlock == nil
	if report.Namespace != nil {
		r.log.Warn("the daemon sees files that it does not need", "err", report.Namespace)
	}
	if report.Bounding != nil {
		r.log.Warn("some capabilities cannot be given up for good", "err", report.Bounding)
	}
	if len(report.Lacking) > 0 {
		r.log.Warn("the daemon lacks capabilities, without which rules and sockets may fail: give them to its container", "lacking", report.Lacking)
	}
	r.log.Debug("dropped privileges", "seccomp", report.Filtered, "landlock", report.Landlock == nil)
	return nil
}

// readable returns the files of other programs that the daemon uses.
func readable(c *config.Config) []string {
	list := []string{"/dev/log", "/var/run/syslog", "/var/run/log"}
	if c.DHCPLeases != "" {
		list = append(list, c.DHCPLeases)
	}
	return list
}

// helperEnded returns what is closed when the helper has ended; nil: there is none.
func (r *rights) helperEnded() <-chan struct{} {
	if r.helper == nil {
		return nil
	}
	return r.helper.ended
}

// helperErr returns an error if there was a helper and it has ended, or does not reply.
func (r *rights) helperErr() error {
	if r.helper == nil {
		return nil
	}
	return r.helper.err()
}

// parse returns the present settings.
func (r *rights) parse(ctx context.Context) (*config.Config, error) {
	if r.helper == nil {
		return r.source.parse()
	}
	return r.helper.parse(ctx)
}

// notify returns the function that runs the notification program; nil: the usual one.
func (r *rights) notify() func(context.Context, string, []string) error {
	if r.helper == nil {
		return nil
	}
	return r.helper.notify
}

// check returns an error if new settings have files that the process cannot reach.
func (r *rights) check(next, current *config.Config) error {
	if !r.confined || slices.Equal(filesOf(next), filesOf(current)) {
		return nil
	}
	return errors.New("restart the daemon to use other files: it can reach only those of the settings at its start")
}

func filesOf(c *config.Config) []string { return append(daemon.OwnFiles(c), readable(c)...) }
