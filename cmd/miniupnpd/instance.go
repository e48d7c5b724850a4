package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"syscall"
	"time"

	"igdd/pkg/config"
	"igdd/pkg/daemon"
	"igdd/pkg/event"
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
	events  *event.Feed     // of all instances
	metrics *daemon.Metrics // of all instances
	first   bool            // an error of listening ends the program; later it is retried

	forwards []portmap.Forward    // static ones, as the last instance knew them
	dormant  map[portmap.Key]bool // its mappings, and whether they were dormant
	unsaved  *daemon.Inheritance  // of the last instance if it could not save everything; else nil
	previous *config.Config       // of the last instance, if that served; nil: there is none to go back to

	successor *config.Config // of the process that is started next; nil: there is none, or it cannot start
}

// run serves until a signal ends it. It returns the configuration of the next
// instance, if there is one. Rules stay in the firewall, and forwardings upstream, only for
// that instance, or for the process that is started next.
func (i *instance) run() (next *config.Config, err error) {
	var d *daemon.Daemon
	switch {
	case i.signals.stopping.Err() != nil: // before the start
		i.successor = i.readSuccessor()
	case !enabled(i.config):
		i.log.Error("Why did you run me anyway? Neither NAT-PMP, PCP nor UPnP is enabled")
	default:
		if d, err = i.start(); err == nil {
			next, err = i.serve(d)
			i.forwards, i.unsaved, i.dormant, i.previous = d.Forwards(), d.Unsaved(), d.Dormant(), i.config
		} else if i.previous != nil {
			logUnusable(i.log, "cannot start with the new settings; going back to the previous ones", err)
			next, err, i.previous = i.previous, nil, nil
		}
	}
	if err != nil || next == nil {
		i.pid.MarkStopping()
	}
	if err != nil || !i.keepsRules(next) {
		failed := i.removeChains(d)
		if next == nil {
			err = cmp.Or(err, failed)
		}
	}
	if d != nil && (err != nil || !i.keepsForwardings(next)) {
		d.GiveBack()
	}
	return next, err
}

// enabled reports whether any protocol is enabled.
func enabled(c *config.Config) bool { return c.NATPMP || c.PCP || c.UPnP }

// start prepares the service.
func (i *instance) start() (*daemon.Daemon, error) {
	if i.first {
		if err := cmp.Or(daemon.CheckOpenFiles(i.log), daemon.CheckInterfaces(i.config)); err != nil {
			return nil, err
		}
		if err := i.rights.prepare(i.config); err != nil {
			return nil, err
		}
	}
	tables := daemon.DetectIPv6(i.config, i.log)
	d, err := daemon.New(daemon.Options{
		Config: i.config, Version: programVersion(), IPv6Tables: tables, Forwards: i.forwards, Unsaved: i.unsaved, Dormant: i.dormant,
		Outdated: i.signals.reload, Events: i.events,
		Notify: i.rights.notify(), HelperErr: i.rights.helperErr, Covered: i.rights.covered, Metrics: i.metrics, Log: i.log,
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
// next instance, if there is one. The daemon serves while settings are read.
func (i *instance) serve(d *daemon.Daemon) (*config.Config, error) {
	ctx, cancel := context.WithCancel(i.signals.closing)
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
	for helperEnded, stopping := i.rights.helperEnded(), i.signals.stopping.Done(); ; {
		select {
		case <-stopping:
			stopping = nil
			i.successor = i.readSuccessor()
			cancel()
		case <-helperEnded:
			helperEnded = nil // logged once
			if err := i.withoutHelper(); err != nil {
				cancel()
				return nil, errors.Join(err, <-ended)
			}
		case s := <-i.signals.requests:
			if next := i.handleSignal(s, d); next != nil {
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
// if the new settings need one. A signal to stop takes effect at once.
func (i *instance) handleSignal(s os.Signal, d *daemon.Daemon) (next *config.Config) {
	ctx := i.signals.stopping
	switch {
	case ctx.Err() != nil:
		return nil
	case s == syscall.SIGUSR1:
		d.Announce()
		return nil
	}
	next, err := i.read(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		logUnusable(i.log, notRead(err)+"; keeping the current ones", err)
		return nil
	}
	next.PIDFile = i.config.PIDFile // the one that this process has locked
	if d.Reload(ctx, next) {
		i.config = next
		return nil
	}
	err = i.check(ctx, next)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		logUnusable(i.log, "cannot use the new settings now; keeping the current ones", err)
		return nil
	}
	return next
}

// notRead says what is wrong if reading the settings failed.
func notRead(err error) string {
	if _, is := errors.AsType[*config.Unusable](err); is {
		return "invalid settings"
	}
	return "cannot read the settings"
}

// read returns the present settings, or an error at the latest when ctx ends.
func (i *instance) read(ctx context.Context) (*config.Config, error) {
	return within(ctx, func() (*config.Config, error) {
		c, err := i.rights.parse(ctx)
		if err == nil {
			daemon.DetectIPv6(c, i.log)
		}
		return c, err
	})
}

// check returns why an instance with the settings next cannot take this one's place,
// or an error at the latest when ctx ends.
func (i *instance) check(ctx context.Context, next *config.Config) error {
	if err := i.rights.check(next, i.config); err != nil || !enabled(next) {
		return err
	}
	current := i.config
	_, err := within(ctx, func() (struct{}, error) { return struct{}{}, daemon.Check(next, current, i.log) })
	return err
}

// keepsRules reports whether the rules stay in the firewall for a successor.
func (i *instance) keepsRules(next *config.Config) bool {
	c := i.following(next)
	return c != nil && c.PIDFile == i.config.PIDFile && i.config.SameChains(c)
}

// keepsForwardings reports whether a successor takes over what the router in front
// forwards.
func (i *instance) keepsForwardings(next *config.Config) bool {
	c := i.following(next)
	return c != nil && i.config.SameUpstream(c)
}

// following returns the settings of the successor that serves: the next instance, or after
// SIGUSR2 the next process; nil: there is none.
func (i *instance) following(next *config.Config) *config.Config {
	if next == nil && i.signals.handsOver() {
		next = i.successor
	}
	if next == nil || !enabled(next) {
		return nil
	}
	return next
}

// readLimit is how long the next process's settings may take to be read. The init
// script waits 5 s for the end of the process.
const readLimit = 2 * time.Second

// readSuccessor returns the settings that the next process will have if it is started
// now; nil if there is none, if it cannot start, or if they cannot be read in time.
func (i *instance) readSuccessor() *config.Config {
	if !i.signals.handsOver() {
		return nil
	}
	tooLong := fmt.Errorf("it took longer than %v: a command in the file blocks, or the helper process does not reply", readLimit)
	ctx, cancel := context.WithTimeoutCause(i.signals.closing, readLimit, tooLong)
	defer cancel()
	c, err := i.read(ctx)
	if err != nil && i.signals.handsOver() {
		logUnusable(i.log, notRead(err)+"; the ports are closed until the next start", err)
	}
	return c
}

// removeChains removes the rules of this instance's daemon, or of a process before
// this one if there is no daemon.
func (i *instance) removeChains(d *daemon.Daemon) error {
	if d == nil {
		return i.pid.RemoveChains(i.config, i.log)
	}
	return d.RemoveChains()
}
