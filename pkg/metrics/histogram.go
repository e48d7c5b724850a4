package metrics

import (
	"slices"
	"strconv"
	"sync/atomic"
	"time"
)

// Histogram counts durations by their length. Its methods may be called concurrently.
type Histogram struct {
	vector
	bounds []time.Duration // upper bounds of the buckets, ascending; one more has the rest
	counts [][]atomic.Uint64
	sums   []atomic.Int64 // in nanoseconds, by series
}

// Histogram adds a histogram, empty for all values of its labels. The name ends in
// _seconds.
func (r *Registry) Histogram(name, help string, bounds []time.Duration, labels ...Label) *Histogram {
	h := &Histogram{vector: newVector(name, help, "histogram", labels), bounds: bounds}
	h.counts, h.sums = make([][]atomic.Uint64, len(h.series)), make([]atomic.Int64, len(h.series))
	for i := range h.counts {
		h.counts[i] = make([]atomic.Uint64, len(bounds)+1)
	}
	r.add(h)
	return h
}

// Observe counts a duration with these values, one for each label. What the labels do
// not have is not counted.
func (h *Histogram) Observe(d time.Duration, values ...string) {
	if i, ok := h.index(values); ok {
		bucket, _ := slices.BinarySearch(h.bounds, d)
		h.counts[i][bucket].Add(1)
		h.sums[i].Add(int64(d))
	}
}

func (h *Histogram) appendTo(text []byte) []byte {
	text = h.appendHead(text)
	for i, labels := range h.series {
		total := uint64(0)
		for j := range h.counts[i] {
			total += h.counts[i][j].Load()
			text = appendSample(text, h.name+"_bucket", joinLabels(labels, "le", h.bound(j)), float64(total))
		}
		text = appendSample(text, h.name+"_sum", labels, time.Duration(h.sums[i].Load()).Seconds())
		text = appendSample(text, h.name+"_count", labels, float64(total))
	}
	return text
}

// bound returns the upper bound of a bucket in seconds.
func (h *Histogram) bound(bucket int) string {
	if bucket == len(h.bounds) {
		return "+Inf"
	}
	return strconv.FormatFloat(h.bounds[bucket].Seconds(), 'f', -1, 64)
}
