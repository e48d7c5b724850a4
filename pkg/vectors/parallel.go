package vectors

import (
	"sync"
	"testing"
)

// PlayInParallel plays vectors as subtests, one at a time on each gateway. Unlike
// with t.Parallel, vectors that wait do not keep others from the processor.
func PlayInParallel[G, V any](t *testing.T, gateways []G, all []V, id func(V) string, play func(*testing.T, G, V)) {
	t.Helper()
	queue := make(chan V, len(all))
	for _, v := range all {
		queue <- v
	}
	close(queue)
	var work sync.WaitGroup
	defer work.Wait()
	for _, g := range gateways {
		work.Go(func() {
			for v := range queue {
				t.Run(id(v), func(t *testing.T) { play(t, g, v) })
			}
		})
	}
}
