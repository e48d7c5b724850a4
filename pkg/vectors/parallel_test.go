package vectors_test

import (
	"slices"
	"strconv"
	"sync"
	"testing"

	"igdd/pkg/vectors"
)

// TestPlayInParallel has every vector wait until another one is played.
func TestPlayInParallel(t *testing.T) {
	var (
		meet   = make(chan int)
		mu     sync.Mutex // guards played
		played []int
	)
	vectors.PlayInParallel(t, []string{"first", "second"}, []int{0, 1, 2, 3}, strconv.Itoa, func(_ *testing.T, _ string, v int) {
		select {
		case meet <- v:
		case <-meet:
		}
		mu.Lock()
		played = append(played, v)
		mu.Unlock()
	})
	if slices.Sort(played); !slices.Equal(played, []int{0, 1, 2, 3}) {
		t.Errorf("played %v", played)
	}
}
