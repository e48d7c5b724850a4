package daemon

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"igdd/pkg/netif"
)

// routeSettleTime is for how long routes and uplinks must not have changed before the
// route to the Internet counts, since every change of the announced address resets the
// epoch of PCP: a route that flaps faster changes nothing.
const routeSettleTime = 2 * time.Second

// uplinkChooser chooses the uplink whose address is announced, and follows the route
// to the Internet for that.
type uplinkChooser struct {
	patterns []string                    // of the uplinks, the preferred first
	route    func() int                  // netif.InternetLink
	next     func(netif.Link) netip.Addr // netif.Gateway; nil: nobody asks for the gateway
	settle   *time.Timer                 // expires when the route is to be read
	log      *slog.Logger

	mu         sync.Mutex // guards what follows
	candidates []netif.Link
	chosen     netif.Link // the zero Link: there is no candidate
	routed     int        // index of the candidate that the route to the Internet leaves by, 0: none
	gateway    netip.Addr // of the chosen uplink; the zero Addr: none
}

// newUplinkChooser returns a chooser that has chosen. Without next it knows no gateway.
func newUplinkChooser(patterns []string, next func(netif.Link) netip.Addr, links map[string]netif.Link, log *slog.Logger) *uplinkChooser {
	c := &uplinkChooser{patterns: patterns, route: netif.InternetLink, next: next, settle: time.NewTimer(routeSettleTime), log: log}
	c.readRoute()
	c.update(links)
	return c
}

// update chooses among the uplinks of these links.
func (c *uplinkChooser) update(links map[string]netif.Link) {
	candidates := usableUplinks(c.patterns, links)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.EqualFunc(candidates, c.candidates, netif.Link.Equal) {
		c.candidates = candidates
		c.settle.Reset(routeSettleTime)
	}
	if indexOfLink(candidates, c.routed) < 0 {
		c.routed = 0 // until the route is read again
	}
	before := c.chosen
	if c.chosen = chooseUplink(candidates, c.routed, before.Index); !c.chosen.Equal(before) {
		c.gateway = c.gatewayOf(c.chosen) // until the route is read again
	}
}

// gatewayOf returns the gateway of an uplink, the zero Addr if there is none.
func (c *uplinkChooser) gatewayOf(uplink netif.Link) netip.Addr {
	if c.next == nil || uplink.Index == 0 {
		return netip.Addr{}
	}
	return c.next(uplink)
}

// usableUplinks returns the uplinks that are up and have an IPv4 address, the preferred
// first.
func usableUplinks(patterns []string, links map[string]netif.Link) []netif.Link {
	var list []netif.Link
	for _, pattern := range patterns {
		for _, link := range matchingLinks(pattern, links) {
			if _, ok := link.IPv4(); ok && link.Up {
				list = append(list, link)
			}
		}
	}
	return list
}

// indexOfLink returns the position of the link with this index, -1 if it is not there.
func indexOfLink(list []netif.Link, index int) int {
	return slices.IndexFunc(list, func(l netif.Link) bool { return l.Index == index })
}

// chooseUplink returns the uplink to announce: the one that the route to the Internet
// leaves by, else the one chosen so far, else the preferred one.
func chooseUplink(candidates []netif.Link, routed, chosen int) netif.Link {
	for _, index := range []int{routed, chosen} {
		if i := indexOfLink(candidates, index); i >= 0 {
			return candidates[i]
		}
	}
	if len(candidates) == 0 {
		return netif.Link{}
	}
	return candidates[0]
}

// readRoute reads the route to the Internet and reports whether it leaves by another
// link than the chosen one, or the chosen one has another gateway.
func (c *uplinkChooser) readRoute() bool {
	routed, gateway := c.route(), c.gatewayOf(c.link())
	c.log.Debug("read the route to the Internet", "link", routed)
	c.mu.Lock()
	defer c.mu.Unlock()
	moved := routed != 0 && routed != c.chosen.Index || gateway != c.gateway
	c.routed, c.gateway = routed, gateway
	return moved
}

// await waits until the choice may be another one, and reports false if ctx ended
// before. It returns when one of the channels links and wake says so, or when the route
// to the Internet has moved. It reads that when routes and candidates have changed and
// then stayed the same for routeSettleTime.
func (c *uplinkChooser) await(ctx context.Context, links, wake, routes <-chan struct{}) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case <-links:
			return true
		case <-wake:
			return true
		case <-routes:
			c.settle.Reset(routeSettleTime)
		case <-c.settle.C:
			if len(routes) == 0 && c.readRoute() {
				return true
			}
		}
	}
}

// link returns the chosen uplink; the zero Link means none.
func (c *uplinkChooser) link() netif.Link {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.chosen
}

// router returns the chosen uplink and its gateway; the zero Addr means none.
func (c *uplinkChooser) router() (uplink netif.Link, gateway netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.chosen, c.gateway
}

// addr returns the IPv4 address of the chosen uplink; the zero Addr means none.
func (c *uplinkChooser) addr() netip.Addr {
	a, _ := c.link().IPv4()
	return a.Addr()
}
