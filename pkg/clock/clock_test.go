package clock

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlab"
)

// step moves the wall clock by a nanosecond, forward or back: a step to the kernel,
// but too small for other programs to notice.
func step(t *testing.T, forward bool) {
	t.Helper()
	move := &unix.Timex{Modes: unix.ADJ_SETOFFSET | unix.ADJ_NANO}
	move.Time.Usec = 1
	if !forward {
		move.Time.Sec, move.Time.Usec = -1, 999_999_999
	}
	if _, err := unix.Adjtimex(move); err != nil {
		t.Fatalf("cannot set the clock: %v", err)
	}
}

func TestRunReportsEveryStep(t *testing.T) {
	netlab.NeedRoot(t, "adjtimex")
	w, err := Watch()
	if err != nil {
		t.Fatal(err)
	}
	step(t, true) // before Run: reported as well
	ctx, cancel := context.WithCancel(t.Context())
	steps, done := make(chan struct{}, 1), make(chan error, 1)
	report := func() {
		select {
		case steps <- struct{}{}:
		default: // another program sets the clock as well
		}
	}
	go func() { done <- w.Run(ctx, report) }()
	for _, forward := range []bool{false, true, false} { // in total back to where it was
		select {
		case <-steps:
		case <-time.After(10 * time.Second):
			t.Fatal("a step of the clock was not reported")
		}
		step(t, forward)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if _, err := w.timer.Stat(); err == nil {
		t.Error("the timer is still open")
	}
}
