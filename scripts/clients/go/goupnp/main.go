// Command goupnp maps ports with github.com/huin/goupnp: "1" by WANIPConnection:1
// as internetgateway1 has it, "2" by WANIPConnection:2, "any" by the latter's
// AddAnyPortMapping. "pinhole" opens them in the firewall for IPv6, and "pinhole
// ADDRESS" does so at the router's IPv6 address.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/huin/goupnp/dcps/internetgateway1"
	"github.com/huin/goupnp/dcps/internetgateway2"

	"clients/hold"
)

// lease is how long the mappings stand, in seconds.
const lease = 600

// connection is what both versions of the service have.
type connection interface {
	LocalAddr() net.IP
	GetExternalIPAddress() (string, error)
	AddPortMapping(remote string, external uint16, protocol string, internal uint16, client string, enabled bool, description string, lease uint32) error
	DeletePortMapping(remote string, external uint16, protocol string) error
}

func main() {
	hold.Main(func() (hold.Gateway, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		switch variant := os.Args[1]; variant {
		case "1":
			clients, _, err := internetgateway1.NewWANIPConnection1ClientsCtx(ctx)
			return first(clients, err)
		case "2":
			clients, _, err := internetgateway2.NewWANIPConnection2ClientsCtx(ctx)
			return first(clients, err)
		case "any":
			clients, _, err := internetgateway2.NewWANIPConnection2ClientsCtx(ctx)
			gateway, err := first(clients, err)
			if err == nil {
				gateway.Map = mapAny(clients[0])
			}
			return gateway, err
		case "pinhole":
			return pinholes(ctx, strings.Join(os.Args[2:], ""))
		default:
			return hold.Gateway{}, fmt.Errorf("unknown variant %q", variant)
		}
	})
}

func first[C connection](clients []C, err error) (hold.Gateway, error) {
	if err != nil {
		return hold.Gateway{}, err
	}
	if len(clients) == 0 {
		return hold.Gateway{}, errors.New("no gateway found")
	}
	client := clients[0]
	return hold.Gateway{
		External: client.GetExternalIPAddress,
		Map: func(protocol string, internal, external int) (int, error) {
			return external, client.AddPortMapping("", uint16(external), protocol, uint16(internal), client.LocalAddr().String(), true, "goupnp", lease)
		},
		Unmap: func(protocol string, _, external int) error {
			return client.DeletePortMapping("", uint16(external), protocol)
		},
	}, nil
}

func mapAny(client *internetgateway2.WANIPConnection2) func(protocol string, internal, external int) (int, error) {
	return func(protocol string, internal, external int) (int, error) {
		port, err := client.AddAnyPortMapping("", uint16(external), protocol, uint16(internal), client.LocalAddr().String(), true, "goupnp any", lease)
		return int(port), err
	}
}
