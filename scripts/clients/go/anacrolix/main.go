// Command anacrolix maps ports with github.com/anacrolix/upnp, as
// github.com/anacrolix/torrent does.
package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/anacrolix/log"
	"github.com/anacrolix/upnp"

	"clients/hold"
)

func main() {
	hold.Main(func() (hold.Gateway, error) {
		devices := upnp.Discover(0, 2*time.Second, log.Default)
		if len(devices) == 0 {
			return hold.Gateway{}, errors.New("no gateway found")
		}
		service, ok := devices[0].(*upnp.IGDService)
		if !ok {
			return hold.Gateway{}, fmt.Errorf("%T is no gateway", devices[0])
		}
		return hold.Gateway{
			External: func() (string, error) {
				address, err := service.GetExternalIPAddress()
				return address.String(), err
			},
			Map: func(protocol string, internal, external int) (int, error) {
				return service.AddPortMapping(upnp.Protocol(protocol), internal, external, "anacrolix/torrent", 0)
			},
			Unmap: func(protocol string, _, external int) error {
				return service.DeletePortMapping(upnp.Protocol(protocol), external)
			},
		}, nil
	})
}
