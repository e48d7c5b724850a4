package clock

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlab"
)

// step moves the wall clock by a nanosecond, forward or back: to the kernel a
// step like any other, to everybody else nothing.
func step(t *testing.T, forward bool) {
	t.Helper()
	move := &unix.Timex{Modes: unix.ADJ_SETOFFSET | unix.ADJ_NANO}
	move.Time.Usec = 1
	if !forward {
		move.Time.Sec, move.Time.Usec = -1, 999_999_999
	}
	if _, err := unix.Adjtimex(move); err != nil {
		t.Fatalf("the test needs the right to set the clock: %v", err)
	}
}

func TestRunTellsEveryStep(t *testing.T) {
	netlab.NeedRoot(t, "adjtimex")
	w, err := Watch()
	if err != nil {
		t.Fatal(err)
	}
	step(t, true) // before Run: told as well
	ctx, cancel := context.WithCancel(t.Context())
	told, done := make(chan struct{}, 1), make(chan error, 1)
	tell := func() {
		select {
		case told <- struct{}{}:
		default: // somebody else sets the clock as well
		}
	}
	go func() { done <- w.Run(ctx, tell) }()
	for _, forward := range []bool{false, true, false} { // back where it was
		select {
		case <-told:
		case <-time.After(10 * time.Second):
			t.Fatal("a step of the clock was not told")
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
