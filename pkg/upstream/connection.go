package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"igdd/pkg/upnp"
)

// connection is the service of an Internet Gateway Device that maps ports.
type connection struct {
	gateway     Gateway
	serviceType string
	control     endpoint
	calls       *bucket
}

// errNoExternal is that a router in front has no uplink of its own now.
var errNoExternal = &routerError{cause: denied, reason: "the router in front has no external address"}

// call calls an action, as soon as the bucket allows it, and returns its results in the
// order of the service's table.
func (c connection) call(ctx context.Context, action string, arguments ...string) ([]string, error) {
	if err := c.calls.wait(ctx); err != nil {
		return nil, err
	}
	body := upnp.AppendCall(nil, c.serviceType, action, arguments...)
	r, err := c.gateway.post(ctx, c.control, upnp.SOAPAction(c.serviceType, action), body)
	if err != nil {
		return nil, err
	}
	results, err := upnp.ParseReply(r.body, action)
	if _, fault := errors.AsType[*upnp.RemoteFault](err); r.status != 200 && !fault {
		return nil, r.unexpected()
	}
	return results, err
}

// isConnected reports whether the router says that the service's uplink is connected.
func (c connection) isConnected(ctx context.Context) bool {
	results, err := c.call(ctx, "GetStatusInfo")
	return err == nil && results[0] == "Connected"
}

// externalAddress asks for the external address.
func (c connection) externalAddress(ctx context.Context) (netip.Addr, error) {
	results, err := c.call(ctx, "GetExternalIPAddress")
	if err != nil {
		return netip.Addr{}, err
	}
	a, err := netip.ParseAddr(results[0])
	if err != nil || !a.Is4() || a.IsUnspecified() {
		return netip.Addr{}, errNoExternal
	}
	return a, nil
}

// lookup returns the entry with m's key. The error is upnp.NoSuchEntry if there is none.
func (c connection) lookup(ctx context.Context, m upnp.PortMapping) (upnp.PortMapping, error) {
	results, err := c.call(ctx, "GetSpecificPortMappingEntry", m.Key()...)
	if err != nil {
		return upnp.PortMapping{}, err
	}
	entry, ok := upnp.ParseMapping(results)
	if !ok {
		return upnp.PortMapping{}, fmt.Errorf("the entry for port %d has a port or a lease that is no number", m.ExternalPort)
	}
	return entry, nil
}

// add adds an entry, or renews it.
func (c connection) add(ctx context.Context, m upnp.PortMapping) error {
	_, err := c.call(ctx, "AddPortMapping", slices.Concat(m.Key(), m.Value())...)
	return err
}

// addAny adds an entry with that external port or another one, which it returns
// (WANIPConnection:2, section 2.5.21).
func (c connection) addAny(ctx context.Context, m upnp.PortMapping) (port uint16, err error) {
	results, err := c.call(ctx, "AddAnyPortMapping", slices.Concat(m.Key(), m.Value())...)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(results[0], 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%.20q is no port", results[0])
	}
	return uint16(n), nil
}

// remove removes the entry with m's key, if there is one.
func (c connection) remove(ctx context.Context, m upnp.PortMapping) error {
	_, err := c.call(ctx, "DeletePortMapping", m.Key()...)
	if errors.Is(err, upnp.NoSuchEntry) {
		return nil
	}
	return err
}
