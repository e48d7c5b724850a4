// Command go-nat maps ports with github.com/libp2p/go-nat through the gateways
// that it finds by itself, or only through one of the type given, such as
// "NAT-PMP" or "UPNP (IG1-IP1)".
package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/libp2p/go-nat"

	"clients/hold"
)

func main() {
	hold.Main(func() (hold.Gateway, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		gateway, err := discover(ctx)
		if err != nil {
			return hold.Gateway{}, err
		}
		return hold.Gateway{
			External: func() (string, error) {
				address, err := gateway.GetExternalAddress()
				return address.String(), err
			},
			Map: func(protocol string, internal, _ int) (int, error) {
				return gateway.AddPortMapping(context.Background(), strings.ToLower(protocol), internal, "go-nat", time.Minute)
			},
			Unmap: func(protocol string, internal, _ int) error {
				return gateway.DeletePortMapping(context.Background(), strings.ToLower(protocol), internal)
			},
		}, nil
	})
}

func discover(ctx context.Context) (nat.NAT, error) {
	if len(os.Args) == 1 {
		return nat.DiscoverGateway(ctx)
	}
	for gateway := range nat.DiscoverNATs(ctx) {
		if gateway.Type() == os.Args[1] {
			return gateway, nil
		}
	}
	return nil, errors.New("no gateway of this type found")
}
