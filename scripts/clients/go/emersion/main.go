// Command emersion maps ports with github.com/emersion/go-upnp-igd.
package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/emersion/go-upnp-igd"

	"clients/hold"
)

func main() {
	hold.Main(func() (hold.Gateway, error) {
		router, err := discover()
		if err != nil {
			return hold.Gateway{}, err
		}
		return hold.Gateway{
			External: func() (string, error) {
				address, err := router.GetExternalIPAddress()
				return address.String(), err
			},
			Map: func(protocol string, internal, external int) (int, error) {
				return router.AddPortMapping(igd.Protocol(protocol), internal, external, "emersion", 10*time.Minute)
			},
			Unmap: func(protocol string, _, external int) error {
				return router.DeletePortMapping(igd.Protocol(protocol), external)
			},
		}, nil
	})
}

func discover() (*igd.IGD, error) {
	devices := make(chan igd.Device, 8)
	if err := igd.Discover(devices, 3*time.Second); err != nil {
		return nil, err
	}
	device, ok := <-devices
	if !ok {
		return nil, errors.New("no gateway found")
	}
	router, ok := device.(*igd.IGD)
	if !ok {
		return nil, fmt.Errorf("%T is no gateway", device)
	}
	return router, nil
}
