// Package clock tells when somebody set the wall clock: at boot, when the
// first time server answers, or by hand.
package clock

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// Watcher waits for the kernel's word that the wall clock jumped. It costs
// nothing while the clock just runs: no process wakes up for it.
type Watcher struct{ timer *os.File }

// Watch starts to listen. Run tells; steps from now on are not missed.
func Watch() (*Watcher, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("clock: make a timer: %w", err)
	}
	// What counts is that a step cancels the timer (timerfd_create(2)). That it
	// rings, once, in 2038 does no harm.
	late := &unix.ItimerSpec{Value: unix.Timespec{Sec: math.MaxInt32}}
	if err := unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, late, nil); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("clock: ask for notice of steps: %w", err)
	}
	return &Watcher{os.NewFile(uintptr(fd), "timerfd")}, nil
}

// Run calls stepped after each step of the wall clock until ctx ends, then
// closes the watcher. Steps that come together may be told once.
func (w *Watcher) Run(ctx context.Context, stepped func()) error {
	stop := context.AfterFunc(ctx, func() { w.timer.Close() })
	defer stop()
	rings := make([]byte, 8)
	for {
		_, err := w.timer.Read(rings)
		switch {
		case errors.Is(err, unix.ECANCELED):
			stepped()
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("clock: wait for a step: %w", err)
		}
	}
}
