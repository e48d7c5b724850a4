// Command go-nat-pmp maps ports with github.com/jackpal/go-nat-pmp at the default
// gateway, as programs do that ask again well before a lease of a minute ends.
package main

import (
	"net"
	"strings"

	"github.com/jackpal/gateway"
	natpmp "github.com/jackpal/go-nat-pmp"

	"clients/hold"
)

func main() {
	hold.Main(func() (hold.Gateway, error) {
		address, err := gateway.DiscoverGateway()
		if err != nil {
			return hold.Gateway{}, err
		}
		client := natpmp.NewClient(address)
		ask := func(protocol string, internal, external, lease int) (int, error) {
			result, err := client.AddPortMapping(strings.ToLower(protocol), internal, external, lease)
			if err != nil {
				return 0, err
			}
			return int(result.MappedExternalPort), nil
		}
		return hold.Gateway{
			External: func() (string, error) {
				result, err := client.GetExternalAddress()
				if err != nil {
					return "", err
				}
				return net.IP(result.ExternalIPAddress[:]).String(), nil
			},
			Map: func(protocol string, internal, external int) (int, error) {
				return ask(protocol, internal, external, 60)
			},
			Unmap: func(protocol string, internal, _ int) error {
				_, err := ask(protocol, internal, 0, 0)
				return err
			},
		}, nil
	})
}
