// Command tendermint maps ports with the UPnP code of
// github.com/tendermint/tendermint, which came from Taipei-Torrent as btcd's did.
package main

import (
	"strings"

	"github.com/tendermint/tendermint/p2p/upnp"

	"clients/hold"
)

// lease is how long the mappings stand, in seconds.
const lease = 600

func main() {
	hold.Main(func() (hold.Gateway, error) {
		gateway, err := upnp.Discover()
		return hold.Gateway{
			External: func() (string, error) {
				address, err := gateway.GetExternalAddress()
				return address.String(), err
			},
			Map: func(protocol string, internal, external int) (int, error) {
				return gateway.AddPortMapping(strings.ToLower(protocol), external, internal, "tendermint", lease)
			},
			Unmap: func(protocol string, internal, external int) error {
				return gateway.DeletePortMapping(strings.ToLower(protocol), external, internal)
			},
		}, err
	})
}
