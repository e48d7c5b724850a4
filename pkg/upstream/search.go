package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sort"
	"syscall"
	"time"

	"igdd/pkg/ssdp"
	"igdd/pkg/upnp"
)

const (
	// searches is how often the searches are sent, and searchInterval the time between.
	searches       = 3
	searchInterval = time.Second
	// settle is how long more replies are awaited after the first: a router with two
	// descriptions replies with both.
	settle = 300 * time.Millisecond
	// maxDescriptions is how many descriptions are fetched, maxConnections how many
	// services are asked whether they are connected.
	maxDescriptions = 4
	maxConnections  = 8
)

// searchTargets are what is searched for, the preferred first. Some routers reply to one
// of them only.
var searchTargets = [...]string{
	"urn:schemas-upnp-org:device:InternetGatewayDevice:2",
	"urn:schemas-upnp-org:service:WANIPConnection:2",
	"urn:schemas-upnp-org:device:InternetGatewayDevice:1",
	"urn:schemas-upnp-org:service:WANIPConnection:1",
	"urn:schemas-upnp-org:service:WANPPPConnection:1",
	"ssdp:all",
}

// discoverIGD searches the gateway for a service that maps ports. The error is a
// *routerError, or that of ctx.
func discoverIGD(ctx context.Context, gateway Gateway) (*igd, error) {
	return discoverAt(ctx, gateway, ssdp.Port)
}

// discoverAt is discoverIGD for a gateway that is searched at that UDP port.
func discoverAt(ctx context.Context, gateway Gateway, port uint16) (*igd, error) {
	locations, err := gateway.search(ctx, port)
	if err != nil {
		return nil, explain(ctx, err)
	}
	var failed error
	for _, location := range locations[:min(len(locations), maxDescriptions)] {
		c, err := gateway.describe(ctx, location)
		if err == nil {
			return newIGD(c), nil
		}
		failed = cmp.Or(failed, err)
	}
	return nil, explain(ctx, failed)
}

// search returns the locations of the gateway's descriptions, those of what is preferred
// first. The socket is connected: replies come from the address and the port that were
// asked, so that a firewall which lets nothing else in lets them in.
func (g Gateway) search(ctx context.Context, port uint16) ([]endpoint, error) {
	at := netip.AddrPortFrom(g.Address, port)
	local := net.UDPAddrFromAddrPort(netip.AddrPortFrom(g.Local, 0))
	conn, err := g.dialer(local).DialContext(ctx, "udp4", at.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	found := locations{router: g.Address}
	for n := 0; n < searches && err == nil && found.isEmpty(); n++ {
		if err = sendSearches(conn, at, n == searches-1); err == nil {
			err = found.collect(conn, time.Now().Add(searchInterval))
		}
	}
	return found.sorted(), cmp.Or(err, found.err())
}

// sendSearches sends a search for each target; that for everything as the last resort
// only, since many replies follow.
func sendSearches(conn net.Conn, at netip.AddrPort, last bool) error {
	for _, text := range searchTargets {
		target, _ := ssdp.ParseTarget(text)
		if target.Kind == ssdp.All && !last {
			continue
		}
		if _, err := conn.Write(ssdp.AppendSearch(nil, at, target)); err != nil {
			return unsearched(err)
		}
	}
	return nil
}

// unsearched words the error of a socket for searches.
func unsearched(err error) error {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return &routerError{cause: foreign, reason: "the router in front does not offer UPnP (it may be switched off in its settings)"}
	}
	return err
}

// locations are those of the descriptions that a router replied with.
type locations struct {
	router  netip.Addr
	list    []location
	refused error // why a location is not one of them
}

// location is that of a description, with the rank of what it was found by.
type location struct {
	endpoint
	rank int
}

// collect adds the replies that arrive until then. After the first it waits only as long
// as it takes for others that were sent with it.
func (l *locations) collect(conn net.Conn, until time.Time) error {
	var b [ssdp.MaxLen + 1]byte
	conn.SetReadDeadline(until)
	for first := true; len(l.list) < maxDescriptions; {
		n, err := conn.Read(b[:])
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return unsearched(err)
		}
		if l.add(b[:n]) && first {
			conn.SetReadDeadline(time.Now().Add(settle))
			first = false
		}
	}
	return nil
}

// add adds the location in a datagram, and reports whether the datagram is a reply.
func (l *locations) add(datagram []byte) bool {
	r, ok := ssdp.ParseReply(datagram)
	if !ok {
		return false
	}
	e, err := parseEndpoint(r.Location, l.router)
	if err != nil {
		l.refused = &routerError{cause: foreign, reason: fmt.Sprintf("the router in front has a description that is not fetched: %v", err)}
		return true
	}
	rank := slices.Index(searchTargets[:], r.Target.String())
	if rank < 0 {
		rank = len(searchTargets)
	}
	i := slices.IndexFunc(l.list, func(known location) bool { return known.endpoint == e })
	if i < 0 {
		l.list = append(l.list, location{e, rank})
	} else {
		l.list[i].rank = min(l.list[i].rank, rank)
	}
	return true
}

// isEmpty reports whether no location was replied with, not even one that is refused.
func (l *locations) isEmpty() bool { return len(l.list) == 0 && l.refused == nil }

// err returns why there is no location; nil: there is one.
func (l *locations) err() error {
	switch {
	case len(l.list) > 0:
		return nil
	case l.refused != nil:
		return l.refused
	}
	return &routerError{cause: silent, reason: "the router in front does not answer the search for UPnP (it may be switched off in its settings)"}
}

// sorted returns the locations, the preferred first.
func (l *locations) sorted() []endpoint {
	sort.SliceStable(l.list, func(i, j int) bool { return l.list[i].rank < l.list[j].rank })
	var list []endpoint
	for _, known := range l.list {
		list = append(list, known.endpoint)
	}
	return list
}

// describe returns the service that maps ports, of the description at a location.
func (g Gateway) describe(ctx context.Context, at endpoint) (connection, error) {
	document, err := g.get(ctx, at)
	if err != nil {
		return connection{}, err
	}
	services, base, err := upnp.Connections(document)
	if err != nil {
		return connection{}, err
	}
	if e, err := parseEndpoint(base, g.Address); err == nil {
		at = e
	}
	list, err := g.connections(at, services)
	if len(list) == 0 {
		return connection{}, cmp.Or(err, error(&routerError{cause: foreign, reason: "the router in front has no UPnP service that forwards ports"}))
	}
	return connected(ctx, list), nil
}

// connections returns services whose control URL is at the gateway, the preferred first:
// those of version 2, and WANIPConnection before WANPPPConnection. The error is that of
// a URL elsewhere.
func (g Gateway) connections(base endpoint, services []upnp.Reference) (list []connection, err error) {
	for _, s := range services {
		control, elsewhere := base.resolve(s.ControlURL)
		if elsewhere != nil {
			err = elsewhere
			continue
		}
		list = append(list, connection{g, s.Type, control, new(bucket)})
	}
	rank := func(c connection) int { return slices.Index(searchTargets[:], c.serviceType) }
	sort.SliceStable(list, func(i, j int) bool { return rank(list[i]) < rank(list[j]) })
	return list[:min(len(list), maxConnections)], err
}

// connected returns the first service whose uplink is connected: routers describe
// connections that nobody uses. Where none says so, it is the first.
func connected(ctx context.Context, list []connection) connection {
	if len(list) > 1 {
		for _, c := range list {
			if c.isConnected(ctx) {
				return c
			}
		}
	}
	return list[0]
}
