// Command geth maps ports with the NAT package of
// github.com/ethereum/go-ethereum; its argument is what --nat takes: "any",
// "upnp", "pmp" or "pmp:ADDRESS".
package main

import (
	"os"
	"time"

	"github.com/ethereum/go-ethereum/p2p/nat"

	"clients/hold"
)

func main() {
	hold.Main(func() (hold.Gateway, error) {
		gateway, err := nat.Parse(os.Args[1])
		return hold.Gateway{
			External: func() (string, error) {
				address, err := gateway.ExternalIP()
				return address.String(), err
			},
			Map: func(protocol string, internal, external int) (int, error) {
				port, err := gateway.AddMapping(protocol, external, internal, "ethereum", 10*time.Minute)
				return int(port), err
			},
			Unmap: func(protocol string, internal, external int) error {
				return gateway.DeleteMapping(protocol, external, internal)
			},
		}, err
	})
}
