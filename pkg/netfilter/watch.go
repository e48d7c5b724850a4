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
	calm    = 100 * time.Millisecond
	restive = 500 * time.Millisecond
)

// Watch calls touched after somebody else touched the firewall, until ctx
// ends. Our own commands do not count. It costs nothing while nothing happens.
//
// What others do while a batch of ours is in the kernel, for a millisecond or
// two, can pass unheard: Healthy has to be asked now and then all the same.
// Sync, whose batches take longer, has it asked once after it wrote something.
func (f *Firewall) Watch(ctx context.Context, touched func()) error {
	a, err := f.ipv4.alarm()
	if err != nil {
		return fmt.Errorf("netfilter: watch the firewall: %w", err)
	}
	f.mu.Lock()
	f.alarm = a
	f.mu.Unlock()
	listening, end := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		end(f.listen(a))
		close(ended)
	}()
	for a.rings(listening) {
		touched()
	}
	f.mu.Lock()
	f.alarm = nil
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
func (f *Firewall) listen(a *alarm) error {
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
	f.heed()
}

// end finishes it.
func (f *Firewall) end() {
	f.record()
	f.mu.Unlock()
}

// heed tells of notices that came up to now: they are about others.
func (f *Firewall) heed() {
	if f.alarm != nil && f.alarm.drain() {
		f.alarm.ring()
	}
}

// quietly does what causes notices of its own, and forgets them. Listings by
// iptables-save cause none.
func (f *Firewall) quietly(do func()) {
	f.heed()
	do()
	if f.alarm != nil {
		f.alarm.drain()
	}
}

// rings waits until the alarm has rung and fallen silent, or rung long enough.
// It returns false when ctx ends.
func (a *alarm) rings(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-a.rung:
	}
	enough := time.After(restive)
	for {
		select {
		case <-ctx.Done():
			return false
		case <-a.rung:
		case <-time.After(calm):
			return true
		case <-enough:
			return true
		}
	}
}
