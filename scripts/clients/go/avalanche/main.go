// Command avalanche maps ports with the NAT package of
// github.com/ava-labs/avalanchego, which asks for TCP whatever it is for.
package main

import (
	"errors"
	"time"

	"github.com/ava-labs/avalanchego/nat"

	"clients/hold"
)

func main() {
	hold.Main(func() (hold.Gateway, error) {
		router := nat.GetRouter()
		if !router.SupportsNAT() {
			return hold.Gateway{}, errors.New("no gateway found")
		}
		return hold.Gateway{
			External: func() (string, error) {
				address, err := router.ExternalIP()
				return address.String(), err
			},
			Map: func(_ string, internal, external int) (int, error) {
				return external, router.MapPort(uint16(internal), uint16(external), "avalanche", 10*time.Minute)
			},
			Unmap: func(_ string, internal, external int) error {
				return router.UnmapPort(uint16(internal), uint16(external))
			},
		}, nil
	}, "TCP")
}
