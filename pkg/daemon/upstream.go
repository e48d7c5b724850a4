package daemon

import (
	"net/netip"

	"igdd/pkg/config"
	"igdd/pkg/netif"
)

// gatewayReader returns the function that finds the router in front of an uplink; nil:
// the settings ask none.
func gatewayReader(c *config.Config) func(netif.Link) netip.Addr {
	if c.Upstream == config.UpstreamNo {
		return nil
	}
	return netif.Gateway
}
