// Command nebulous maps ports with gitlab.com/NebulousLabs/go-upnp, which asks for
// the port itself outside and gives back both protocols of a port.
package main

import (
	"context"
	"time"

	"gitlab.com/NebulousLabs/go-upnp"

	"clients/hold"
)

func main() {
	hold.Main(func() (hold.Gateway, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		gateway, err := upnp.DiscoverCtx(ctx)
		return hold.Gateway{
			External: func() (string, error) { return gateway.ExternalIP() },
			Map: func(protocol string, internal, _ int) (int, error) {
				if protocol == "TCP" {
					return internal, gateway.ForwardTCP(uint16(internal), "go-upnp")
				}
				return internal, gateway.ForwardUDP(uint16(internal), "go-upnp")
			},
			Unmap: func(_ string, internal, _ int) error {
				return gateway.Clear(uint16(internal))
			},
		}, err
	})
}
