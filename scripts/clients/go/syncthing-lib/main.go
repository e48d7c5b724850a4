// Command syncthing-lib maps ports with the packages of github.com/syncthing/syncthing
// for UPnP ("upnp") and NAT-PMP ("pmp"), or opens them for IPv6 ("pinhole"). The
// latter two let their leases run out.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/syncthing/syncthing/lib/nat"
	"github.com/syncthing/syncthing/lib/pmp"
	"github.com/syncthing/syncthing/lib/upnp"

	"clients/hold"
)

// lease is short, so that its end can be waited for.
const lease = 15 * time.Second

func main() {
	hold.Main(func() (hold.Gateway, error) {
		switch variant := os.Args[1]; variant {
		case "upnp":
			return first(upnp.Discover, nat.IPv4Only, gateway)
		case "pmp":
			return first(pmp.Discover, nat.IPv4Only, gateway)
		case "pinhole":
			return first(upnp.Discover, nat.IPv6Only, pinhole)
		default:
			return hold.Gateway{}, fmt.Errorf("unknown variant %q", variant)
		}
	})
}

// first takes the first gateway found for version of IP.
func first(discover nat.DiscoverFunc, version nat.IPVersion, take func(nat.Device) hold.Gateway) (hold.Gateway, error) {
	for _, device := range discover(context.Background(), lease, 3*time.Second) {
		if device.SupportsIPVersion(version) {
			fmt.Println(device.ID())
			return take(device), nil
		}
	}
	return hold.Gateway{}, errors.New("no gateway found")
}

func gateway(device nat.Device) hold.Gateway {
	ctx := context.Background()
	g := hold.Gateway{
		External: func() (string, error) {
			address, err := device.GetExternalIPv4Address(ctx)
			return address.String(), err
		},
		Map: func(protocol string, internal, external int) (int, error) {
			return device.AddPortMapping(ctx, nat.Protocol(protocol), internal, external, "syncthing", lease)
		},
	}
	if service, ok := device.(*upnp.IGDService); ok {
		g.Unmap = func(protocol string, _, external int) error {
			return service.DeletePortMapping(ctx, nat.Protocol(protocol), external)
		}
	}
	return g
}

// pinhole asks for each global address of the interface, from that address.
func pinhole(device nat.Device) hold.Gateway {
	return hold.Gateway{
		Map: func(protocol string, internal, _ int) (int, error) {
			opened, err := device.AddPinhole(context.Background(), nat.Protocol(protocol), nat.Address{IP: net.IPv6unspecified, Port: internal}, lease)
			fmt.Println("addresses", opened)
			return internal, err
		},
	}
}
