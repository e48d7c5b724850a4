package netfilter

import (
	"context"
	"fmt"
	"time"
)

// How long the firewall must be unused before a change is reported, and how
// long the report may be delayed: a firewall script runs iptables hundreds of
// times within a second or two.
const (
	quietTime = 100 * time.Millisecond
	maxDelay  = 500 * time.Millisecond
)

// Watch calls touched after another program has used the firewall, until ctx
// ends. The daemon's own commands do not count. It uses no time while nothing
// happens.
//
// What other programs do while a transaction is committed, for a millisecond or
// two, is not noticed: Healthy has to be called now and then all the same.
// Sync, whose transactions take longer, has touched called after it changed
// something.
func (f *Firewall) Watch(ctx context.Context, touched func()) error {
	n, err := f.ipv4.notifier()
	if err != nil {
		return fmt.Errorf("netfilter: watch the firewall: %w", err)
	}
	f.mu.Lock()
	f.notifier = n
	f.mu.Unlock()
	listening, end := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		end(f.listen(n))
		close(ended)
	}()
	for n.waitQuiet(listening) {
		touched()
	}
	f.mu.Lock()
	f.notifier = nil
	f.mu.Unlock()
	n.file.Close()
	<-ended
	if ctx.Err() == nil {
		return fmt.Errorf("netfilter: watch the firewall: %w", context.Cause(listening))
	}
	return nil
}

// listen waits for notices until the notifier is closed. It reads them only
// between the daemon's own operations, which discard their own notices.
func (f *Firewall) listen(n *notifier) error {
	for {
		if err := n.waitReadable(); err != nil {
			return err
		}
		f.begin()
		f.end()
	}
}

// begin starts an operation on the firewall.
func (f *Firewall) begin() {
	f.mu.Lock()
	f.drainNotices()
}

// end finishes an operation.
func (f *Firewall) end() {
	f.saveOwnership()
	f.mu.Unlock()
}

// drainNotices reads the notices up to now, which are about other programs, and
// wakes waitQuiet.
func (f *Firewall) drainNotices() {
	if f.notifier != nil && f.notifier.drain() {
		f.notifier.notify()
	}
}

// withoutNotices calls do and discards the notices that it causes. Listings by
// iptables-save cause none.
func (f *Firewall) withoutNotices(do func()) {
	f.drainNotices()
	do()
	if f.notifier != nil {
		f.notifier.drain()
	}
}

// waitQuiet waits for a notice, and then until there is none for quietTime, or
// for maxDelay in all. It returns false when ctx ends.
func (n *notifier) waitQuiet(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-n.notified:
	}
	latest := time.After(maxDelay)
	for {
		select {
		case <-ctx.Done():
			return false
		case <-n.notified:
		case <-time.After(quietTime):
			return true
		case <-latest:
			return true
		}
	}
}
