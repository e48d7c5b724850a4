package netfilter

import (
	"context"
	"fmt"
	"time"
)

// How long the firewall has to be left alone before somebody's touch is told,
// and how long that may be put off: a firewall script touches it hundreds of
// times within a second or two.
const (
	quietTime = 100 * time.Millisecond
	maxDelay  = 500 * time.Millisecond
)

// Watch calls touched after somebody else touched the firewall, until ctx
// ends. Our own commands do not count. It costs nothing while nothing happens.
//
// What others do while a batch of ours is in the kernel, for a millisecond or
// two, can pass unheard: Healthy has to be asked now and then all the same.
// Sync, whose batches take longer, has it asked once after it wrote something.
func (f *Firewall) Watch(ctx context.Context, touched func()) error {
	a, err := f.ipv4.notifier()
	if err != nil {
		return fmt.Errorf("netfilter: watch the firewall: %w", err)
	}
	f.mu.Lock()
	f.notifier = a
	f.mu.Unlock()
	listening, end := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		end(f.listen(a))
		close(ended)
	}()
	for a.waitQuiet(listening) {
		touched()
	}
	f.mu.Lock()
	f.notifier = nil
	f.mu.Unlock()
	a.file.Close()
	<-ended
	if ctx.Err() == nil {
		return fmt.Errorf("netfilter: watch the firewall: %w", context.Cause(listening))
	}
	return nil
}

// listen waits for notices until the alarm is closed. It looks at them only
// while no work of ours is under way, which takes away its own.
func (f *Firewall) listen(a *notifier) error {
	for {
		if err := a.wait(); err != nil {
			return err
		}
		f.begin()
		f.end()
	}
}

// begin starts a piece of work on the firewall.
func (f *Firewall) begin() {
	f.mu.Lock()
	f.drainNotices()
}

// end finishes it.
func (f *Firewall) end() {
	f.saveOwnership()
	f.mu.Unlock()
}

// drainNotices tells of notices that came up to now: they are about others.
func (f *Firewall) drainNotices() {
	if f.notifier != nil && f.notifier.drain() {
		f.notifier.notify()
	}
}

// withoutNotices does what causes notices of its own, and forgets them. Listings by
// iptables-save cause none.
func (f *Firewall) withoutNotices(do func()) {
	f.drainNotices()
	do()
	if f.notifier != nil {
		f.notifier.drain()
	}
}

// waitQuiet waits until the alarm has rung and fallen silent, or rung long enough.
// It returns false when ctx ends.
func (a *notifier) waitQuiet(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-a.notified:
	}
	enough := time.After(maxDelay)
	for {
		select {
		case <-ctx.Done():
			return false
		case <-a.notified:
		case <-time.After(quietTime):
			return true
		case <-enough:
			return true
		}
	}
}
