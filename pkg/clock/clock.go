// Package clock notices when the wall clock is set: at boot, by the first response of
// a time server, or by the administrator.
package clock

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// Watcher waits for the kernel's notice that the wall clock was set. It does not wake
// up otherwise.
type Watcher struct{ timer *os.File }

// Watch starts to watch the clock. Run reports every step from then on.
func Watch() (*Watcher, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("clock: create a timer: %w", err)
	}
	// A step of the clock cancels the timer (timerfd_create(2)). It expires once, in
	// 2038, which does no harm.
	late := &unix.ItimerSpec{Value: unix.Timespec{Sec: math.MaxInt32}}
	if err := unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, late, nil); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("clock: set the timer: %w", err)
	}
	return &Watcher{os.NewFile(uintptr(fd), "timerfd")}, nil
}

// Run calls stepped after each step of the wall clock until ctx ends, then closes the
// watcher. Steps in quick succession may be reported once.
func (w *Watcher) Run(ctx context.Context, stepped func()) error {
	stop := context.AfterFunc(ctx, func() { w.timer.Close() })
	defer stop()
	expirations := make([]byte, 8)
	for {
		_, err := w.timer.Read(expirations)
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
