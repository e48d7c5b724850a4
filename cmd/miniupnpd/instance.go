package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"igdd/pkg/config"
	"igdd/pkg/daemon"
)

// listenForSignals returns the signals that the daemon obeys.
func listenForSignals() <-chan os.Signal {
	c := make(chan os.Signal, 8)
	signal.Notify(c, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	return c
}

// life is the service with one configuration.
type life struct {
	config  *config.Config
	args    []string
	log     *slog.Logger
	signals <-chan os.Signal
	up      *parent
	first   bool // what prevents listening ends the program; later it is waited out
}

// run serves until a signal ends it. The result is the configuration of the
// next life, if there is one.
func (l *life) run() (*config.Config, error) {
	d, err := daemon.New(daemon.Options{Config: l.config, Version: version, Log: l.log})
	if err != nil {
		return nil, err
	}
	if l.first {
		if err := confine(l.config, l.log); err != nil {
			d.TakeDownChains()
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var unready error
	ended := make(chan error, 1)
	go func() {
		ended <- d.Run(ctx, func(err error) {
			if err != nil && l.first {
				unready = err
				cancel()
				return
			}
			l.up.tell(nil)
		})
	}()
	for {
		select {
		case s := <-l.signals:
			heir, over := l.obey(ctx, s, d)
			if !over {
				continue
			}
			cancel()
			if err := <-ended; err != nil {
				return nil, err
			}
			if heir == nil || !l.config.SameChains(heir) {
				d.TakeDownChains()
			}
			if s == syscall.SIGUSR2 {
				return nil, nil
			}
			return heir, nil
		case err := <-ended:
			if unready != nil {
				d.TakeDownChains()
				return nil, unready
			}
			return nil, err
		}
	}
}

// obey carries out a signal. It reports whether this life is over, and the
// settings of the service that finds its rules in place: after SIGHUP the next
// life, after SIGUSR2 the process that is started in this one's place.
func (l *life) obey(ctx context.Context, s os.Signal, d *daemon.Daemon) (heir *config.Config, over bool) {
	switch s {
	case syscall.SIGUSR1:
		d.Announce()
		return nil, false
	case syscall.SIGHUP, syscall.SIGUSR2:
		heir, err := config.Parse(l.args)
		switch {
		case s == syscall.SIGUSR2:
			return heir, true
		case err != nil:
			l.log.Error("settings cannot be used, the old ones stay in force", "err", err)
			return nil, false
		case d.Reload(ctx, heir):
			l.config = heir
			return nil, false
		}
		return heir, true
	}
	return nil, true
}
