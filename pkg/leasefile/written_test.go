package leasefile

import (
	"errors"
	"slices"
	"testing"

	"igdd/pkg/journal/journaltest"
	"igdd/pkg/portmap"
)

func TestWritten(t *testing.T) {
	var results []error
	s := New(Options{Path: leasePath(t), Written: func(err error) { results = append(results, err) }})
	d := &journaltest.Disk{}
	s.useDisk(d)
	load(t, s)
	list := many(2)
	save(t, s, additions(list[0])...)
	checkpoint(t, s)
	checkpoint(t, s) // has nothing to write
	save(t, s, additions(list[1])...)
	d.Fail(func(o journaltest.Op) error {
		if o.What == "create" {
			return journaltest.ErrFull
		}
		return nil
	})
	if s.Checkpoint() == nil {
		t.Error("the files were written to a full disk")
	}
	full := func(err error) bool { return errors.Is(err, journaltest.ErrFull) }
	if len(results) != 2 || results[0] != nil || !slices.ContainsFunc(results[1:], full) {
		t.Errorf("the results of writing are %v, want none and that the disk is full", results)
	}
}

// TestWrittenCountsFailedSaves demands that each change that cannot be saved is reported
// at once: a mapping, a block and a BOOTID.
func TestWrittenCountsFailedSaves(t *testing.T) {
	var results []error
	s := New(Options{Path: leasePath(t), Written: func(err error) { results = append(results, err) }})
	d := &journaltest.Disk{}
	s.useDisk(d)
	load(t, s)
	list := many(2)
	save(t, s, additions(list[0])...)
	checkpoint(t, s)
	results = nil
	d.Fail(func(o journaltest.Op) error {
		if o.What == "create" || o.What == "write" {
			return journaltest.ErrFull
		}
		return nil
	})
	for i, save := range []func() error{
		func() error { return s.Save(additions(list[1])) },
		func() error {
			block := portmap.Block{ID: 1, Selector: portmap.Selector{External: portmap.PortRange{First: 1, Last: 1}}}
			s.SetBlock(portmap.BlockRecord{Block: &block})
			return s.Save(nil)
		},
		func() error { return s.SetBootID(7) },
	} {
		if save() == nil || len(results) != i+1 || !errors.Is(results[i], journaltest.ErrFull) {
			t.Fatalf("after failed save %d: %v", i+1, results)
		}
	}
}

// TestWrittenCountsNoAnswer demands the same of saves that the disk does not answer.
func TestWrittenCountsNoAnswer(t *testing.T) {
	s, failed := newTimed(leasePath(t)), make(chan error, 100)
	s.store.written = func(err error) {
		if err != nil {
			failed <- err
		}
	}
	s.run(t)
	save(t, s, additions(load(t, s)...)...)
	s.block()
	demandNoAnswer(t, "Save", s.Save(additions(many(1)...)))
	demandNoAnswer(t, "Save reported", <-failed)
	demandNoAnswer(t, "Checkpoint", s.Checkpoint())
	demandNoAnswer(t, "Checkpoint reported", <-failed)
}
