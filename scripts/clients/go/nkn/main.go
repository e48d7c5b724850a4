// Command nkn maps ports with github.com/nknorg/go-nat, which prefers NAT-PMP.
package main

import (
	"strings"
	"time"

	"github.com/nknorg/go-nat"

	"clients/hold"
)

// lease is short, so that its end can be waited for.
const lease = 15 * time.Second

func main() {
	hold.Main(func() (hold.Gateway, error) {
		gateway, err := nat.DiscoverGateway()
		return hold.Gateway{
			External: func() (string, error) {
				address, err := gateway.GetExternalAddress()
				return address.String(), err
			},
			Map: func(protocol string, internal, external int) (int, error) {
				granted, _, err := gateway.AddPortMapping(strings.ToLower(protocol), external, internal, "nkn", lease)
				return granted, err
			},
		}, err
	})
}
