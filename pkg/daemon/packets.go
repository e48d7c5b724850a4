package daemon

import (
	"sync"
	"time"

	"igdd/pkg/netfilter"
	"igdd/pkg/portmap"
)

// pauseFactor is the pause between two reads of the counters, as a multiple of the
// time that the last one took: requests for them keep the firewall busy for at most
// a tenth of the time.
const pauseFactor = 9

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
		c.nextRead = end.Add(pauseFactor * end.Sub(start))
	}
	return c.last[m.Key].Packets, c.err
}
