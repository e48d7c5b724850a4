// Command fd-go-nat maps ports with github.com/fd/go-nat, which prefers NAT-PMP
// and lets the leases run out there.
package main

import (
	"strings"
	"time"

	"github.com/fd/go-nat"

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
			Map: func(protocol string, internal, _ int) (int, error) {
				return gateway.AddPortMapping(strings.ToLower(protocol), internal, "fd/go-nat", lease)
			},
		}, err
	})
}
