// Command libp2p maps ports with the NAT service of github.com/libp2p/go-libp2p,
// which renews them itself every 20 s.
package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/p2p/net/nat"

	"clients/hold"
)

func main() {
	hold.Main(func() (hold.Gateway, error) {
		ctx, cancel := context.WithTimeout(context.Background(), nat.DiscoveryTimeout)
		defer cancel()
		service, err := nat.DiscoverNAT(ctx)
		return hold.Gateway{
			Map: func(protocol string, internal, _ int) (int, error) {
				return add(service, strings.ToLower(protocol), internal)
			},
			Unmap: func(protocol string, internal, _ int) error {
				return service.RemoveMapping(context.Background(), strings.ToLower(protocol), internal)
			},
		}, err
	})
}

func add(service *nat.NAT, protocol string, internal int) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := service.AddMapping(ctx, protocol, internal); err != nil {
		return 0, err
	}
	address, found := service.GetMapping(protocol, internal)
	if !found {
		return 0, nat.ErrNoMapping
	}
	fmt.Println("external", address.Addr().Unmap())
	return int(address.Port()), nil
}
