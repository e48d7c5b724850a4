// Command tailscale maps a port with the portmapper of tailscale.com, which is
// for UDP only. It uses the protocols given, of pcp, pmp and upnp.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"slices"
	"time"

	"tailscale.com/net/netmon"
	"tailscale.com/net/portmapper"
	"tailscale.com/util/eventbus"

	"clients/hold"
)

func main() {
	hold.Main(func() (hold.Gateway, error) {
		client, changed, err := start()
		return hold.Gateway{
			Map: func(_ string, internal, _ int) (int, error) {
				client.SetLocalPort(uint16(internal))
				if err := probe(client); err != nil {
					return 0, err
				}
				return wait(client, changed)
			},
			Unmap: func(string, int, int) error { return client.Close() },
		}, err
	}, "UDP")
}

func without(protocol string) func() bool {
	return func() bool { return !slices.Contains(os.Args[1:], protocol) }
}

func start() (*portmapper.Client, <-chan struct{}, error) {
	bus := eventbus.New()
	monitor, err := netmon.New(bus, log.Printf)
	if err != nil {
		return nil, nil, err
	}
	changed := make(chan struct{}, 1)
	client := portmapper.NewClient(portmapper.Config{
		EventBus: bus,
		Logf:     log.Printf,
		NetMon:   monitor,
		DebugKnobs: &portmapper.DebugKnobs{
			VerboseLogs:     true,
			DisableUPnPFunc: without("upnp"),
			DisablePMPFunc:  without("pmp"),
			DisablePCPFunc:  without("pcp"),
		},
		OnChange: func() { changed <- struct{}{} },
	})
	return client, changed, nil
}

// probe prints what the client finds in the network, as tailscale netcheck does.
func probe(client *portmapper.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	found, err := client.Probe(ctx)
	fmt.Printf("probe pcp=%t pmp=%t upnp=%t\n", found.PCP, found.PMP, found.UPnP)
	return err
}

func wait(client *portmapper.Client, changed <-chan struct{}) (int, error) {
	deadline := time.After(10 * time.Second)
	for {
		if address, ok := client.GetCachedMappingOrStartCreatingOne(); ok {
			fmt.Println("external", address.Addr().Unmap())
			return int(address.Port()), nil
		}
		select {
		case <-changed:
		case <-deadline:
			return 0, fmt.Errorf("no mapping within 10 s")
		}
	}
}
