package main

import (
	"context"
	"errors"
	"net"

	"github.com/huin/goupnp/dcps/internetgateway2"

	"clients/hold"
)

// pinholes finds the firewall control service by multicast over IPv4, which is
// all that goupnp does. With the router's IPv6 address it then talks to the
// service there.
func pinholes(ctx context.Context, router string) (hold.Gateway, error) {
	clients, _, err := internetgateway2.NewWANIPv6FirewallControl1ClientsCtx(ctx)
	if err == nil && len(clients) > 0 && router != "" {
		location := *clients[0].Location
		location.Host = net.JoinHostPort(router, location.Port())
		clients, err = internetgateway2.NewWANIPv6FirewallControl1ClientsByURLCtx(ctx, &location)
	}
	if err != nil {
		return hold.Gateway{}, err
	}
	if len(clients) == 0 {
		return hold.Gateway{}, errors.New("no gateway found")
	}
	return pinhole(clients[0])
}

func pinhole(client *internetgateway2.WANIPv6FirewallControl1) (hold.Gateway, error) {
	address, err := ownAddress()
	ids := map[string]uint16{}
	return hold.Gateway{
		Map: func(protocol string, internal, _ int) (port int, err error) {
			if id, found := ids[protocol]; found {
				return internal, client.UpdatePinhole(id, lease)
			}
			number := map[string]uint16{"TCP": 6, "UDP": 17}[protocol]
			ids[protocol], err = client.AddPinhole("", 0, address, uint16(internal), number, lease)
			return internal, err
		},
		Unmap: func(protocol string, _, _ int) error {
			return client.DeletePinhole(ids[protocol])
		},
	}, err
}

// ownAddress is the one that this host uses on the IPv6 Internet. Nothing is
// sent.
func ownAddress() (string, error) {
	socket, err := net.Dial("udp6", "[2001:db8:1::1]:9")
	if err != nil {
		return "", err
	}
	defer socket.Close()
	return socket.LocalAddr().(*net.UDPAddr).IP.String(), nil
}
