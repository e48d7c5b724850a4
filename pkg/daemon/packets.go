package daemon

import (
	"sync"
	"time"

	"igdd/pkg/netfilter"
	"igdd/pkg/portmap"
)

// pauseFactor is how many times longer than it took the last time counters are
// not read again. Whoever asks for them without end thus keeps the firewall from
// others for a tenth of the time.
const pauseFactor = 9

// packetCounts are the counters of the pinholes, which clients may ask for at any
// rate.
type packetCounts struct {
	read func() (map[portmap.Key]netfilter.Count, error)

	mu       sync.Mutex // guards the rest; who waits for it gets what is read meanwhile
	last     map[portmap.Key]netfilter.Count
	err      error
	nextRead time.Time // when they may be read again
}

// packets returns how many packets came through a pinhole.
func (c *packetCounts) packets(m *portmap.Mapping) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if began := time.Now(); !began.Before(c.nextRead) {
		c.last, c.err = c.read()
		ended := time.Now()
		c.nextRead = ended.Add(pauseFactor * ended.Sub(began))
	}
	return c.last[m.Key].Packets, c.err
}
