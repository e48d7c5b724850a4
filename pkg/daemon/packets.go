package daemon

import (
	"sync"
	"time"

	"igdd/pkg/netfilter"
	"igdd/pkg/portmap"
)

// The pause between two reads of the counters, which list all pinholes.
const (
	// pauseFactor is its length as a multiple of the time that the last read took:
	// requests for counters take at most a tenth of the time.
	pauseFactor = 9
	minPause    = time.Second
)

// packetCounts caches the packet counters of pinholes, which clients may request at
// any rate.
type packetCounts struct {
	read func() (map[portmap.Key]netfilter.Count, error)

	mu       sync.Mutex // guards the rest; held during a read, so that waiting requests share it
	last     map[portmap.Key]netfilter.Count
	err      error
	nextRead time.Time // the earliest time of the next read
}

// packets returns the number of packets that came through a pinhole.
func (c *packetCounts) packets(m *portmap.Mapping) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if start := time.Now(); !start.Before(c.nextRead) {
		c.last, c.err = c.read()
		end := time.Now()
		c.nextRead = end.Add(max(minPause, pauseFactor*end.Sub(start)))
	}
	return c.last[m.Key].Packets, c.err
}
