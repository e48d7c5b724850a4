package ssdpd

import (
	"strings"
	"time"

	"igdd/pkg/fair"
	"igdd/pkg/lan"
	"igdd/pkg/ssdp"
)

// Limits of responses, so that the gateway is no amplifier for forged searches and one
// host takes nothing from others. The response to a search for one target is about five
// times as long as the search. A host may get as many as would be asked for by a program
// that searches without pause, and by one that forges 2,000 searches a second in its name;
// all get twice that, of which one host leaves half to others. A response takes some 25
// microseconds on a fast processor: a slow router has no time for more. The response to a
// search for everything is fifty times as long.
const (
	singlesPerHost = 2500 // responses with one message per second
	singlesInAll   = 5000
	setsPerHost    = 1 // responses with all messages per second
	setsInAll      = 32
	maxHosts       = 512 // tracked at a time
)

// rateLimiter limits the responses to each host and to all.
type rateLimiter struct {
	singles, sets fair.Rates[lan.Host]
}

func newRateLimiter() *rateLimiter {
	rates := func(perHost, all int) fair.Rates[lan.Host] {
		return fair.Rates[lan.Host]{
			PerHost: fair.Rate{PerSecond: perHost, Burst: perHost}, All: fair.Rate{PerSecond: all, Burst: all}, MaxHosts: maxHosts,
		}
	}
	return &rateLimiter{singles: rates(singlesPerHost, singlesInAll), sets: rates(setsPerHost, setsInAll)}
}

// limit returns those of the items that may be sent to a host now, and counts them. A
// host that may have no further set gets the gateway alone, which is what clients look
// for in it.
func (l *rateLimiter) limit(host lan.Host, items []ssdp.Item, now time.Time) []ssdp.Item {
	if len(items) > 1 {
		if l.sets.Spend(host, 1, now) {
			return items
		}
		items = gateway(items)
	}
	if len(items) == 0 || !l.singles.Spend(host, 1, now) {
		return nil
	}
	return items
}

// gateway returns the first of the items that is a device by its type: the root device.
func gateway(items []ssdp.Item) []ssdp.Item {
	for i := range items {
		if strings.Contains(items[i].Type, ":device:") {
			return items[i : i+1]
		}
	}
	return nil
}
