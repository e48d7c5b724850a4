package daemon

import (
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"igdd/pkg/netfilter"
	"igdd/pkg/portmap"
)

// TestPacketsAreReadSeldom asks for counters without end: they are read once a second,
// on slow routers for a tenth of the time, and what is told is never older than that
// and a reading.
func TestPacketsAreReadSeldom(t *testing.T) {
	for _, tt := range []struct{ takes, period time.Duration }{
		{0, time.Second},
		{40 * time.Millisecond, 1040 * time.Millisecond},
		{500 * time.Millisecond, 5 * time.Second},
	} {
		t.Run(tt.takes.String(), func(t *testing.T) { demandReadSeldom(t, tt.takes, tt.period) })
	}
}

// demandReadSeldom demands that counters whose reading takes so long are read once a
// period.
func demandReadSeldom(t *testing.T, takes, period time.Duration) {
	const asks = time.Minute
	m := &portmap.Mapping{Key: portmap.Key{Protocol: portmap.TCP, Pinhole: netip.MustParseAddrPort("[2001:db8::10]:4000")}}
	failed := errors.New("the firewall is busy")
	synctest.Test(t, func(t *testing.T) {
		began, reads := time.Now(), 0
		c := packetCounts{read: func() (map[portmap.Key]netfilter.Count, error) {
			reads++
			now := time.Since(began)
			time.Sleep(takes)
			if now > asks/2 && now < asks*3/4 {
				return nil, failed
			}
			return map[portmap.Key]netfilter.Count{m.Key: {Packets: uint64(now)}}, nil
		}}
		for time.Since(began) < asks {
			n, err := c.packets(m)
			age := time.Since(began) - time.Duration(n)
			if err != nil && !errors.Is(err, failed) || err == nil && age > period {
				t.Errorf("counters are %v old, %v", age, err)
			}
			time.Sleep(time.Millisecond)
		}
		if most := int(asks/period) + 1; reads > most || reads < most-2 {
			t.Errorf("read %d times, want %d", reads, most)
		}
	})
}
