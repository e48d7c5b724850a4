package upnpd

import (
	"net/netip"
	"slices"
	"time"

	"igdd/pkg/portmap"
	"igdd/pkg/upnp"
)

// longestLease is the longest lease in version 2, also granted for 0
// (WANIPConnection:2, section 2.3.16).
const longestLease = 604800 * time.Second

// addPortMapping maps the requested port, or none.
func addPortMapping(i *invocation) ([]string, error) {
	if i.Port("NewExternalPort") == 0 {
		return nil, upnp.WildCardExternalPort
	}
	req, err := i.mapping()
	if err != nil {
		return nil, err
	}
	req.Exact = true
	a, err := i.decide(req)
	if err != nil {
		return nil, err
	}
	return nil, i.faultFor(a.Refusal)
}

// addAnyPortMapping maps the requested port, or another.
func addAnyPortMapping(i *invocation) ([]string, error) {
	req, err := i.mapping()
	if err != nil {
		return nil, err
	}
	a, err := i.decide(req)
	if err != nil {
		return nil, err
	}
	switch a.Refusal {
	case portmap.Conflict, portmap.HeldDown, portmap.NotProvided, portmap.NotForwarded:
		return nil, upnp.NoPortsLeft
	}
	if err := i.faultFor(a.Refusal); err != nil {
		return nil, err
	}
	return []string{decimal16(a.Mapping.OuterPort())}, nil
}

// mapping makes a request of the arguments that both actions for adding share.
func (i *invocation) mapping() (portmap.Request, error) {
	req := portmap.Request{
		Protocol:    i.protocol(),
		External:    i.Port("NewExternalPort"),
		Lifetime:    i.lease(),
		Description: portmap.StoredDescription(i.Text("NewPortMappingDescription"), ' '),
		Disabled:    !i.Flag("NewEnabled"),
	}
	var err error
	if req.Filters, err = remoteHost(i.Text("NewRemoteHost")); err != nil {
		return req, err
	}
	client, err := i.internalClient()
	if err != nil {
		return req, err
	}
	req.Internal = netip.AddrPortFrom(client, i.Port("NewInternalPort"))
	switch {
	case req.Internal.Port() != 0:
		return req, nil
	case i.Version == upnp.V1:
		return req, upnp.InvalidArgs
	}
	return req, upnp.WildCardInternalPort
}

// internalClient returns the address in NewInternalClient. Some clients leave it
// empty or use the name of their own host, and mean themselves; other names are not
// resolved.
func (i *invocation) internalClient() (netip.Addr, error) {
	text := i.Text("NewInternalClient")
	client, err := netip.ParseAddr(text)
	if err != nil && (text == "" || i.isNamed(text)) {
		client = i.client
	}
	if !client.Is4() {
		return client, upnp.InvalidArgs
	}
	return client, nil
}

// isNamed reports whether the client, and no other host, has a DHCP lease with that
// name.
func (i *invocation) isNamed(name string) bool {
	addrs := i.opts.Leased(name)
	return len(addrs) == 1 && addrs[0] == i.client
}

// protocol returns NewProtocol, which is TCP or UDP.
func (i *invocation) protocol() portmap.Protocol {
	if i.Text("NewProtocol") == "UDP" {
		return portmap.UDP
	}
	return portmap.TCP
}

// lease returns the requested lease; 0, for ever, exists in version 1 only.
func (i *invocation) lease() time.Duration {
	asked := time.Duration(i.Number("NewLeaseDuration")) * time.Second
	if i.Version != upnp.V1 && (asked == 0 || asked > longestLease) {
		return longestLease
	}
	return asked
}

// remoteHost returns the filter for NewRemoteHost. Names are not resolved.
func remoteHost(text string) ([]portmap.Filter, error) {
	if text == "" {
		return nil, nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil || !a.Is4() || !a.IsGlobalUnicast() {
		return nil, upnp.InvalidArgs
	}
	return []portmap.Filter{{Prefix: netip.PrefixFrom(a, a.BitLen())}}, nil
}

// faultFor returns the fault for the table's refusal to map a port. Version 1 has no
// code for what is not allowed. A port that the provider does not forward is a conflict
// in version 2, too: after 729 libtorrent and others try no other port.
func (i *invocation) faultFor(r portmap.Refusal) error {
	v1 := i.Version == upnp.V1
	switch r {
	case portmap.Granted:
		return nil
	case portmap.Conflict, portmap.HeldDown, portmap.NotProvided:
		return upnp.ConflictInMapping
	case portmap.NotAuthorized, portmap.NotOwner, portmap.Blocked:
		return byVersion(v1, upnp.ConflictInMapping, upnp.NotAuthorized)
	case portmap.PortInUse, portmap.Forwarded, portmap.NotForwarded:
		return byVersion(v1, upnp.ConflictInMapping, upnp.ConflictWithOther)
	case portmap.BadTarget:
		return byVersion(v1, upnp.InvalidArgs, upnp.NotAuthorized)
	case portmap.NoPorts, portmap.QuotaExceeded, portmap.ShareExceeded, portmap.TableFull:
		return byVersion(v1, upnp.ActionFailed, upnp.NoPortsLeft)
	}
	return upnp.ActionFailed
}

// isForbidden reports whether a refusal is about what the client may do.
func isForbidden(r portmap.Refusal) bool {
	return r == portmap.NotAuthorized || r == portmap.NotOwner || r == portmap.Blocked
}

func byVersion(v1 bool, one, two upnp.Fault) upnp.Fault {
	if v1 {
		return one
	}
	return two
}

// deletePortMapping deletes one entry.
func deletePortMapping(i *invocation) ([]string, error) {
	filters, err := remoteHost(i.Text("NewRemoteHost"))
	if err != nil {
		return nil, err
	}
	port := i.Port("NewExternalPort")
	if port == 0 {
		return nil, upnp.NoSuchEntry
	}
	a, err := i.decide(portmap.Request{Op: portmap.Close, Protocol: i.protocol(), External: port, Filters: filters})
	if err != nil {
		return nil, err
	}
	switch {
	case a.Refusal == portmap.Granted:
		return nil, nil
	case a.Refusal == portmap.NotFound, isForbidden(a.Refusal) && i.Version == upnp.V1:
		return nil, upnp.NoSuchEntry
	}
	return nil, i.faultFor(a.Refusal)
}

// deletePortMappingRange deletes all entries in a range: the client's own, or with
// NewManage all that the policy allows.
func deletePortMappingRange(i *invocation) ([]string, error) {
	first, last, err := i.ports()
	if err != nil {
		return nil, err
	}
	a, err := i.decide(portmap.Request{
		Op: portmap.Close, Protocol: i.protocol(), External: first, Last: last, Own: !i.Flag("NewManage"),
	})
	switch {
	case err != nil:
		return nil, err
	case a.Refusal == portmap.NotFound, isForbidden(a.Refusal):
		return nil, upnp.MappingNotFound
	}
	return nil, i.faultFor(a.Refusal)
}

// ports returns the requested range of external ports.
func (i *invocation) ports() (first, last uint16, err error) {
	first, last = i.Port("NewStartPort"), i.Port("NewEndPort")
	switch {
	case first > last:
		return 0, 0, upnp.InconsistentParameters
	case last == 0:
		return 0, 0, upnp.MappingNotFound
	}
	return max(first, 1), last, nil
}

// getGenericPortMappingEntry returns an entry by its index.
func getGenericPortMappingEntry(i *invocation) ([]string, error) {
	m, ok := i.opts.Table.At(int(i.Number("NewPortMappingIndex")))
	if !ok {
		return nil, upnp.NoSuchIndex
	}
	e := entry(m, time.Now())
	return append(e.Key(), e.Value()...), nil
}

// getSpecificPortMappingEntry returns an entry by remote host, port and protocol.
func getSpecificPortMappingEntry(i *invocation) ([]string, error) {
	filters, err := remoteHost(i.Text("NewRemoteHost"))
	if err != nil {
		return nil, err
	}
	m, ok := i.opts.Table.LookupOuter(i.protocol(), i.Port("NewExternalPort"))
	if !ok || !m.Inbound() || !slices.Equal(remoteHosts(m), filters) {
		return nil, upnp.NoSuchEntry
	}
	return entry(m, time.Now()).Value(), nil
}

// getListOfPortMappings lists the entries in a range: the client's own, or with
// NewManage all, which getGenericPortMappingEntry returns as well.
func getListOfPortMappings(i *invocation) ([]string, error) {
	first, last, err := i.ports()
	if err != nil {
		return nil, err
	}
	list := &listing{protocol: i.protocol(), first: first, last: last, most: maxListed}
	if n := i.Number("NewNumberOfPorts"); n != 0 {
		list.most = int(min(n, maxListed))
	}
	if !i.Flag("NewManage") {
		list.client = i.client
	}
	list.pieces = i.Listing(list.entries)
	i.list = list
	return nil, nil
}

// remoteHosts returns the remote hosts of an entry: those of UPnP's own claim, even
// while it is disabled, otherwise all that may use the mapping.
func remoteHosts(m *portmap.Mapping) []portmap.Filter {
	if c, ok := m.Claim(portmap.UPnP); ok {
		return c.Filters
	}
	return m.Filters()
}

// entry returns a mapping in the form of WANIPConnection, with the lease that is left
// at that time. An entry has one remote host, the first of several.
func entry(m *portmap.Mapping, at time.Time) upnp.PortMapping {
	e := upnp.PortMapping{
		ExternalPort:  m.OuterPort(),
		Protocol:      m.Protocol.String(),
		InternalPort:  m.Internal.Port(),
		Client:        m.Internal.Addr().String(),
		Enabled:       m.Enabled(),
		Description:   m.Description(),
		LeaseDuration: uint32(m.Remaining(at) / time.Second),
	}
	if f := remoteHosts(m); len(f) > 0 {
		e.RemoteHost = f[0].Prefix.Addr().String()
	}
	return e
}
