package netfilter

import "context"

// lock is a mutex with a LockContext. Make it with a capacity of one.
type lock chan struct{}

// Lock acquires the lock.
func (l lock) Lock() { l <- struct{}{} }

// Unlock releases the lock.
func (l lock) Unlock() { <-l }

// LockContext acquires the lock, or returns the error of ctx if that ends first.
func (l lock) LockContext(ctx context.Context) error {
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
