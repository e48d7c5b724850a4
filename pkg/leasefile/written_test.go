package leasefile

import (
	"errors"
	"slices"
	"testing"

	"igdd/pkg/journal/journaltest"
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
