package leasefile

import (
	"errors"
	"testing"
)

// TestLeftStoreReplacesNothing has a store that was left write late: the files stay as a
// successor has written them.
func TestLeftStoreReplacesNothing(t *testing.T) {
	path, list := leasePath(t), many(3)
	s := NewTimed(Options{Path: path})
	if _, err := s.Load(); err != nil {
		t.Fatal(err)
	}
	save(t, s.store, additions(list[:1]...)...)
	checkpoint(t, s.store)
	s.leave()
	next := opened(t, path) // with a state file of its own, as the other one is locked
	save(t, next, additions(list[1:]...)...)
	checkpoint(t, next)
	if err := s.store.Save(closing(additions(list[0])...)); err == nil {
		t.Error("a store that was left has saved")
	}
	if err := s.store.Checkpoint(); !errors.Is(err, errNoAnswer) {
		t.Errorf("a store that was left has written: %v", err)
	}
	wantSame(t, load(t, New(Options{Path: path})), list)
}
