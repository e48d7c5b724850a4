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
			next, over := l.obey(ctx, s, d)
			if !over {
				continue
			}
			cancel()
			if err := <-ended; err != nil {
				return nil, err
			}
			if s == syscall.SIGTERM || s == syscall.SIGINT {
				d.TakeDownChains()
			}
			return next, nil
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
// configuration of the next one. SIGUSR2 ends it as SIGTERM does, but leaves
// chains and rules in place for the successor.
func (l *life) obey(ctx context.Context, s os.Signal, d *daemon.Daemon) (next *config.Config, over bool) {
	switch s {
	case syscall.SIGUSR1:
		d.Announce()
	case syscall.SIGHUP:
		next, err := config.Parse(l.args)
		if err != nil {
			l.log.Error("settings cannot be used, the old ones stay in force", "err", err)
			return nil, false
		}
		if d.Reload(ctx, next) {
			l.config = next
			return nil, false
		}
		return next, true
	default:
		return nil, true
	}
	return nil, false
}
