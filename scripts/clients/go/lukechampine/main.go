// Command lukechampine maps ports with lukechampine.com/upnp, which searches for
// root devices, and asks for the port itself outside.
package main

import (
	"context"
	"time"

	"lukechampine.com/upnp"

	"clients/hold"
)

func main() {
	hold.Main(func() (hold.Gateway, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		gateway, err := upnp.Discover(ctx)
		return hold.Gateway{
			External: gateway.ExternalIP,
			Map: func(protocol string, internal, _ int) (int, error) {
				return internal, gateway.Forward(uint16(internal), protocol, "lukechampine")
			},
			Unmap: func(protocol string, internal, _ int) error {
				return gateway.Clear(uint16(internal), protocol)
			},
		}, err
	})
}
