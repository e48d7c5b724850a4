package event

import (
	"sync"
	"testing"
)

// add adds n events to a feed.
func add(f *Feed, n int) {
	for range n {
		f.Add(Event{Kind: Opened})
	}
}

// checkRow demands that the serials of a list follow each other up to the last of f.
func checkRow(t *testing.T, f *Feed, list []Event, n int) {
	t.Helper()
	if len(list) != n {
		t.Fatalf("%d events, want %d", len(list), n)
	}
	for i, e := range list {
		if want := f.Last() - uint64(n-1-i); e.Serial != want || e.Time.IsZero() || e.Kind != Opened {
			t.Errorf("event %d is %+v, want serial %d", i, e, want)
		}
	}
}

func TestHistory(t *testing.T) {
	f := NewFeed()
	checkRow(t, f, f.History(10), 0)
	add(f, 3)
	checkRow(t, f, f.History(10), 3)
	checkRow(t, f, f.History(2), 2)
	checkRow(t, f, f.History(-1), 0)
	add(f, 3*kept)
	checkRow(t, f, f.History(2*kept), HistoryLength)
}

func TestReadersLearnWhatTheyMiss(t *testing.T) {
	f := NewFeed()
	start := f.Last()
	add(f, 5)
	list, lost, _ := f.After(start, 100)
	checkRow(t, f, list, 5)
	if list, lost2, _ := f.After(start, 2); len(list) != 2 || list[0].Serial != start+1 || lost != 0 || lost2 != 0 {
		t.Errorf("the first two are %+v, %d lost", list, lost2)
	}
	if list, lost, _ := f.After(f.Last(), 100); len(list) != 0 || lost != 0 {
		t.Errorf("after the last: %d, %d lost", len(list), lost)
	}
	last := f.Last()
	add(f, kept+7)
	list, lost, _ = f.After(last, 2*kept)
	checkRow(t, f, list, kept)
	if lost != 7 {
		t.Errorf("%d are lost, want 7", lost)
	}
	for _, other := range []uint64{0, start - 1, f.Last() + 1, 1 << 63} { // of another process
		if list, lost, _ := f.After(other, 2*kept); len(list) != kept || lost != 5+7 {
			t.Errorf("after %d: %d events, %d lost", other, len(list), lost)
		}
	}
	if _, lost, _ := f.After(start, 1); lost != 5+7 {
		t.Errorf("%d are lost from the first on, want 12", lost)
	}
}

// TestReadersAreWoken has many readers read what one writer adds, as fast as they can:
// none waits in vain, and what each has and has lost is all there was.
func TestReadersAreWoken(t *testing.T) {
	const total = 20 * kept
	f := NewFeed()
	start := f.Last()
	var readers sync.WaitGroup
	for range 8 {
		readers.Go(func() {
			at, seen := start, uint64(0)
			for seen < total {
				list, lost, added := f.After(at, 64)
				seen += lost + uint64(len(list))
				if len(list) == 0 {
					<-added
					continue
				}
				at = list[len(list)-1].Serial
			}
			if seen != total || at != start+total {
				t.Errorf("%d events seen, the last is %d", seen, at-start)
			}
		})
	}
	add(f, total)
	readers.Wait()
}
