package netfilter

import "context"

// lock is a mutex that can be waited for until a context ends. It has room for
// one element.
type lock chan struct{}

// Lock waits for the lock and takes it.
func (l lock) Lock() { l <- struct{}{} }

// Unlock gives the lock back.
func (l lock) Unlock() { <-l }

// LockContext waits for the lock until ctx ends, with the context's error then.
func (l lock) LockContext(ctx context.Context) error {
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
