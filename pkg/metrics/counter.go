package metrics

import "sync/atomic"

// Counter counts events. Its methods may be called concurrently.
type Counter struct {
	vector
	counts []atomic.Uint64 // by series
}

// Counter adds a counter, at 0 for all values of its labels.
func (r *Registry) Counter(name, help string, labels ...Label) *Counter {
	c := &Counter{vector: newVector(name, help, "counter", labels)}
	c.counts = make([]atomic.Uint64, len(c.series))
	r.add(c)
	return c
}

// Inc counts an event with these values, one for each label. What the labels do not
// have is not counted.
func (c *Counter) Inc(values ...string) {
	if i, ok := c.index(values); ok {
		c.counts[i].Add(1)
	}
}

func (c *Counter) appendTo(text []byte) []byte {
	text = c.appendHead(text)
	for i, labels := range c.series {
		text = appendSample(text, c.name, labels, float64(c.counts[i].Load()))
	}
	return text
}
