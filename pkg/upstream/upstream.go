// Package upstream asks the router in front for the ports that this router has opened, by
// PCP, NAT-PMP or UPnP IGD.
package upstream

import (
	"context"
	"log/slog"
	"net/netip"

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

// Gateway is the router in front.
type Gateway struct {
	Address netip.Addr // its address on the uplink; the zero Addr: there is none
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
	// IsOwn reports whether an address is the router's own, or that of a client: a
	// router in front that has such an address asks this one itself.
	IsOwn func(netip.Addr) bool
	Log   *slog.Logger
}

// Client keeps the external ports of mappings forwarded by the router in front. It is a
// portmap.Upstream.
type Client struct{}

// Status is what the operator is told.
type Status struct {
	Gateway  netip.Addr // the zero Addr: none is asked
	Method   Method     // that it answers; 0: none yet
	External netip.Addr // its external address; the zero Addr: not known
	Err      error      // why it forwards nothing; nil: it does
}

// New returns a Client that asks no router yet.
func New(o Options) *Client { return &Client{} }

// SetGateway sets the router in front, and asks it for everything. It never blocks.
func (c *Client) SetGateway(g Gateway) {}

// Update takes over changes that are in force. It never blocks.
func (c *Client) Update(changes []portmap.Change) {}

// Status returns the state of the router in front.
func (c *Client) Status() Status { return Status{} }

// Run asks the router in front until ctx ends.
func (c *Client) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
