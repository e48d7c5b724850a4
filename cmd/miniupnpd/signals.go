package main

import (
	"context"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
)

// signals are those that the daemon obeys. They are caught all the time: one
// that ends the process does so whatever the daemon is busy with.
type signals struct {
	stopping    context.Context // done as soon as the process is told to end
	requests    chan os.Signal  // SIGHUP and SIGUSR1
	noSuccessor atomic.Bool     // the process is told to end without a successor
}

// listenForSignals begins to catch signals.
func listenForSignals() *signals {
	ending, end := context.WithCancel(context.Background())
	requests, ends := make(chan os.Signal, 8), make(chan os.Signal, 8)
	signal.Notify(requests, syscall.SIGHUP, syscall.SIGUSR1)
	signal.Notify(ends, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR2)
	s := &signals{stopping: ending, requests: requests}
	go func() {
		for got := range ends {
			if got != syscall.SIGUSR2 {
				s.noSuccessor.Store(true)
			}
			end()
		}
	}()
	return s
}

// reload acts as SIGHUP does.
func (s *signals) reload() {
	select {
	case s.requests <- syscall.SIGHUP:
	default: // it is busy with others
	}
}

// handsOver reports whether the process is told to end and to leave its rules
// to the one that is started next.
func (s *signals) handsOver() bool { return s.stopping.Err() != nil && !s.noSuccessor.Load() }
