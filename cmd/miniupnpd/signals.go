package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// signals are the signals that the process handles. They are caught all the time, so
// that one to stop takes effect whatever the daemon is doing.
type signals struct {
	stopping context.Context // done when the process has been told to stop
	closing  context.Context // done when it was told to stop without a successor
	requests chan os.Signal  // SIGHUP and SIGUSR1
}

// listenForSignals starts to catch signals.
func listenForSignals() *signals {
	closing, closePorts := context.WithCancel(context.Background())
	stopping, stop := context.WithCancel(closing)
	requests, stops := make(chan os.Signal, 8), make(chan os.Signal, 8)
	signal.Notify(requests, syscall.SIGHUP, syscall.SIGUSR1)
	signal.Notify(stops, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR2)
	s := &signals{stopping: stopping, closing: closing, requests: requests}
	go func() {
		for got := range stops {
			if got == syscall.SIGUSR2 {
				stop()
			} else {
				closePorts()
			}
		}
	}()
	return s
}

// reload has the same effect as SIGHUP.
func (s *signals) reload() {
	select {
	case s.requests <- syscall.SIGHUP:
	default: // enough signals wait already
	}
}

// handsOver reports whether the process has been told to stop and to leave its rules
// to the one that is started next.
func (s *signals) handsOver() bool { return s.stopping.Err() != nil && s.closing.Err() == nil }
