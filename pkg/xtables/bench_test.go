package xtables_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"

	"igdd/pkg/xtables"
)

// BenchmarkDelete deletes one rule of each table while others are present: as own work,
// which knows its handle, and by iptables.
func BenchmarkDelete(b *testing.B) {
	for _, present := range []int{0, 1000, 5000, 10000} {
		r := newRouter(b, "nft")
		w := r.watch(b)
		var rest []xtables.Edit
		for i := range present {
			rest = append(rest, add(strconv.Itoa(10000+i)))
		}
		must(b, r.Do(func() error { return w.commitWork(rest...) }))
		for name, remove := range map[string]func(...xtables.Edit) error{"handle": w.commitWork, "iptables": w.commitByIPTables} {
			b.Run(fmt.Sprint(present, "/", name), func(b *testing.B) {
				must(b, r.Do(func() error {
					for b.Loop() {
						b.StopTimer()
						if err := w.commitWork(add("1")); err != nil {
							return err
						}
						b.StartTimer()
						if err := remove(removal("1")); err != nil {
							return err
						}
					}
					return nil
				}))
			})
		}
	}
}

// commitByIPTables is commitWork without handles.
func (w watched) commitByIPTables(edits ...xtables.Edit) error {
	_, err := w.Programs.Commit(context.Background(), bothTables(edits))
	return err
}
