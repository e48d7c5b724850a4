// Package upstream asks the router in front for the ports that this router has opened, by
// PCP, NAT-PMP or UPnP IGD.
package upstream

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"igdd/pkg/portmap"
)

// Method is a protocol by which the router in front is asked.
type Method uint8

// The protocols, the preferred first.
const (
	PCP    Method = iota + 1 // RFC 6887, as a proxy does (RFC 7648)
	NATPMP                   // RFC 6886
	IGD                      // WANIPConnection or WANPPPConnection
)

// String returns the protocol's usual spelling.
func (m Method) String() string {
	switch m {
	case PCP:
		return "PCP"
	case NATPMP:
		return "NAT-PMP"
	case IGD:
		return "UPnP IGD"
	}
	return "none"
}

// Gateway is the router in front; the zero Gateway: none is to be asked.
type Gateway struct {
	Address netip.Addr // its address on the uplink; the zero Addr: the uplink has none
	Local   netip.Addr // the uplink's own address, which requests come from
	Device  string     // name of the uplink
}

// Options configure a Client.
type Options struct {
	// Methods are those that may be used, the preferred first.
	Methods []Method
	// Secret makes the nonces of mappings that no PCP client asked for. It is the same
	// after a restart.
	Secret []byte
	// Report takes over what became of forwardings: portmap.Table.Report.
	Report func(context.Context, []portmap.Report) error
	// Seen is called with the external address of the router in front whenever it
	// changes; the zero Addr: it is not known.
	Seen func(netip.Addr)
	// IsOwn reports whether an address is this router's own, and IsServed whether it is in
	// a network whose hosts are its clients: a router in front that has such an address on
	// the uplink asks this one itself.
	IsOwn, IsServed func(netip.Addr) bool
	Log             *slog.Logger
}

// Client keeps the external ports of mappings forwarded by the router in front. It is a
// portmap.Upstream.
type Client struct {
	options Options
	connect connector
	hear    func(context.Context, Gateway, chan<- struct{}) error
	wake    chan struct{} // something waits for Run
	renewed atomic.Bool   // a client has renewed since the last check
	ended   *engine       // that Run has left; nil: it has not ended

	mu      sync.Mutex
	changes []portmap.Change // wait for Run
	gateway Gateway
	status  Status
}

// Status is what the operator is told.
type Status struct {
	Gateway  netip.Addr // the zero Addr: there is none
	Method   Method     // that it answers; 0: none yet
	External netip.Addr // its external address; the zero Addr: not known
	Err      error      // why it forwards nothing; nil: it does
}

// New returns a Client that asks no router yet.
func New(o Options) *Client {
	return &Client{options: o, connect: connect, hear: hear, wake: make(chan struct{}, 1)}
}

// SetGateway sets the router in front, and asks it for everything if it is another one, or
// the uplink's address is another. It never blocks.
func (c *Client) SetGateway(g Gateway) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gateway = g
	signal(c.wake)
}

// Update takes over changes that are in force. It never blocks.
func (c *Client) Update(changes []portmap.Change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, change := range changes {
		if matters(change) {
			c.changes = append(c.changes, change)
			signal(c.wake)
		} else if isRenewal(change) && c.renewed.CompareAndSwap(false, true) {
			signal(c.wake)
		}
	}
}

// isRenewal reports whether a change that does not matter is a client's renewal: an occasion
// to check the router in front.
func isRenewal(c portmap.Change) bool {
	return c.Cause == portmap.Requested && c.After.WantsForwarding()
}

// matters reports whether a change alters what the router in front is asked for, or
// whether the table waits for a report.
func matters(c portmap.Change) bool {
	before, after := c.Before, c.After
	switch {
	case !before.WantsForwarding() || !after.WantsForwarding():
		return before.WantsForwarding() || after.WantsForwarding()
	case before.Key != after.Key, before.Serial != after.Serial:
		return true
	}
	return after.Forwarding.State == portmap.Asking && before.Forwarding.State != portmap.Asking ||
		before.Forwarding.Exact != after.Forwarding.Exact || !slices.Equal(before.Filters(), after.Filters())
}

// take removes and returns the changes that wait, and the router that is to be asked.
func (c *Client) take() ([]portmap.Change, Gateway) {
	c.mu.Lock()
	defer c.mu.Unlock()
	changes := c.changes
	c.changes = nil
	return changes, c.gateway
}

// Status returns the state of the router in front.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}

func (c *Client) setStatus(s Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status = s
}

// Run asks the router in front until ctx ends. Then forwardings stay until their leases
// end, so that the next run can take them over; only those without an end, and what is no
// longer wanted, are given back.
func (c *Client) Run(ctx context.Context) error {
	e := newEngine(ctx, c)
	e.running.Go(func() { e.reporter.run(ctx) })
	e.run()
	e.takeChanges(time.Now())
	e.giveBack(func(w *want) bool { return w.lease.permanent || w.givesBack() })
	e.running.Wait()
	c.ended = e
	return nil
}

// GiveBack gives all forwardings back, within two seconds, after Run: no other Client takes
// them over.
func (c *Client) GiveBack() {
	if c.ended != nil {
		c.ended.giveBack(func(w *want) bool { return w.lease.asked })
	}
}
