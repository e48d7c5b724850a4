package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"syscall"

	"igdd/pkg/config"
	"igdd/pkg/daemon"
	"igdd/pkg/portmap"
)

// instance is the service with one configuration.
type instance struct {
	config  *config.Config
	log     *slog.Logger
	signals *signals
	pid     *daemon.PIDFile
	parent  *parent
	rights  *rights
	first   bool // an error of listening ends the program; later it is retried

	forwards []portmap.Forward  // static ones, as the last instance knew them
	unsaved  []*portmap.Mapping // those of the last instance if it could not save them; else nil
	previous *config.Config     // of the last instance, if that served; nil: there is none to go back to
}

// run serves until a signal ends it. It returns the configuration of the next
// instance, if there is one. Rules stay in the firewall only for that instance, or
// for the process that is started next.
func (i *instance) run() (next *config.Config, err error) {
	var d *daemon.Daemon
	switch {
	case i.signals.stopping.Err() != nil: // before the start
	case !enabled(i.config):
		i.log.Error("Why did you run me anyway? Neither NAT-PMP, PCP nor UPnP is enabled")
	default:
		if d, err = i.start(); err == nil {
			next, err = i.serve(d)
			i.forwards, i.unsaved, i.previous = d.Forwards(), d.Unsaved(), i.config
		} else if i.previous != nil {
			logUnusable(i.log, "cannot start with the new settings; going back to the previous ones", err)
			next, err, i.previous = i.previous, nil, nil
		}
	}
	if err != nil || next == nil {
		i.pid.MarkStopping()
	}
	if err != nil || !i.keepsRules(next) {
		i.removeChains(d)
	}
	return next, err
}

// enabled reports whether any protocol is enabled.
func enabled(c *config.Config) bool { return c.NATPMP || c.PCP || c.UPnP }

// start prepares the service.
func (i *instance) start() (*daemon.Daemon, error) {
	if i.first {
		if err := daemon.CheckInterfaces(i.config); err != nil {
			return nil, err
		}
		if err := i.rights.prepare(i.config); err != nil {
			return nil, err
		}
	}
	tables := daemon.DetectIPv6(i.config, i.log)
	d, err := daemon.New(daemon.Options{
		Config: i.config, Version: programVersion(), IPv6Tables: tables, Forwards: i.forwards, Unsaved: i.unsaved, Outdated: i.signals.reload,
		Notify: i.rights.notify(), HelperErr: i.rights.helperErr, Covered: i.rights.covered, Log: i.log,
	})
	if err != nil {
		return nil, err
	}
	if i.first {
		err = i.rights.drop(i.config)
	}
	return d, err
}

// serve runs the daemon until a signal ends it. It returns the configuration of the
// next instance, if there is one.
func (i *instance) serve(d *daemon.Daemon) (*config.Config, error) {
	ctx, cancel := context.WithCancel(i.signals.stopping)
	defer cancel()
	var startErr error
	ended := make(chan error, 1)
	go func() {
		ended <- d.Run(ctx, func(err error) {
			if err != nil && i.first {
				startErr = err
				cancel()
				return
			}
			i.parent.report(nil)
		})
	}()
	for helperEnded := i.rights.helperEnded(); ; {
		select {
		case <-helperEnded:
			helperEnded = nil // logged once
			if err := i.withoutHelper(); err != nil {
				cancel()
				return nil, errors.Join(err, <-ended)
			}
		case s := <-i.signals.requests:
			if next := i.handleSignal(ctx, s, d); next != nil {
				cancel()
				return next, <-ended
			}
		case err := <-ended:
			if startErr != nil {
				return nil, startErr
			}
			return nil, err
		}
	}
}

// withoutHelper decides what to do when the helper has ended. With a supervisor the
// daemon ends, too, by the error returned: both are started again then. Else it goes
// on, so that clients are served and leases end.
func (i *instance) withoutHelper() error {
	err := i.rights.helperErr()
	if i.config.Supervised {
		return err
	}
	i.log.Error("the daemon goes on without reading new settings or running the notification program", "err", err)
	return nil
}

// handleSignal handles a signal. It returns the configuration of the next instance,
// if the new settings need one.
func (i *instance) handleSignal(ctx context.Context, s os.Signal, d *daemon.Daemon) (next *config.Config) {
	switch {
	case ctx.Err() != nil:
		return nil // it is stopping
	case s == syscall.SIGUSR1:
		d.Announce()
		return nil
	}
	next, err := i.rights.parse()
	if err != nil {
		logUnusable(i.log, "invalid settings; keeping the current ones", err)
		return nil
	}
	daemon.DetectIPv6(next, i.log)
	next.PIDFile = i.config.PIDFile // the one that this process has locked
	if d.Reload(ctx, next) {
		i.config = next
		return nil
	}
	err = i.rights.check(next, i.config)
	if err == nil && enabled(next) {
		err = daemon.Check(next, i.config, i.log)
	}
	if err != nil {
		logUnusable(i.log, "cannot use the new settings now; keeping the current ones", err)
		return nil
	}
	return next
}

// keepsRules reports whether the rules stay in the firewall for a successor: the next
// instance, or after SIGUSR2 the next process.
func (i *instance) keepsRules(next *config.Config) bool {
	if next == nil {
		next = i.successor()
	}
	return next != nil && enabled(next) && next.PIDFile == i.config.PIDFile && i.config.SameChains(next)
}

// successor returns the settings that the next process will have if it is started
// now; nil if there is none, or if it cannot start.
func (i *instance) successor() *config.Config {
	if !i.signals.handsOver() {
		return nil
	}
	c, err := i.rights.parse()
	if err != nil || !i.signals.handsOver() {
		return nil
	}
	daemon.DetectIPv6(c, i.log)
	return c
}

// removeChains removes the rules of this instance's daemon, or of a process before
// this one if there is no daemon.
func (i *instance) removeChains(d *daemon.Daemon) {
	if d != nil {
		d.RemoveChains()
		return
	}
	i.pid.RemoveChains(i.log)
}
