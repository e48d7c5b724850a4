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

// TestPacketsAreReadSeldom asks for counters without end: they are read for a tenth
// of the time, and what is told is never older than ten readings.
func TestPacketsAreReadSeldom(t *testing.T) {
	const takes, asks = 40 * time.Millisecond, 10 * time.Second
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
			if err != nil && !errors.Is(err, failed) || err == nil && age > (1+pauseFactor)*takes {
				t.Errorf("counters are %v old, %v", age, err)
			}
			time.Sleep(time.Millisecond)
		}
		if most := int(asks/takes)/(1+pauseFactor) + 1; reads > most || reads < most/2 {
			t.Errorf("read %d times, want %d", reads, most)
		}
	})
}
