package upnpd

import (
	"net/netip"
	"slices"
	"time"

	"igdd/pkg/portmap"
	"igdd/pkg/upnp"
)

// longestLease is what version 2 grants, and what it makes of 0
// (WANIPConnection:2, section 2.3.16).
const longestLease = 604800 * time.Second

// maxListing bounds what GetListOfPortMappings answers, in octets: a thousand
// entries. Who has more reads them by index.
const maxListing = 512 << 10

// addPortMapping opens the port that was asked for, or none.
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

// addAnyPortMapping opens the port that was asked for, or another.
func addAnyPortMapping(i *invocation) ([]string, error) {
	req, err := i.mapping()
	if err != nil {
		return nil, err
	}
	a, err := i.decide(req)
	if err != nil {
		return nil, err
	}
	if a.Refusal == portmap.Conflict {
		return nil, upnp.NoPortsLeft
	}
	if err := i.faultFor(a.Refusal); err != nil {
		return nil, err
	}
	return []string{decimal16(a.Mapping.External)}, nil
}

// mapping reads the arguments that both ways of adding have.
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

// internalClient returns the address that NewInternalClient says. Some clients
// leave it empty or write the name of their own host, and mean themselves; other
// names are not looked up.
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

// isNamed reports whether the asking host, and no other, has a DHCP lease by
// that name.
func (i *invocation) isNamed(name string) bool {
	addrs := i.opts.Leased(name)
	return len(addrs) == 1 && addrs[0] == i.client
}

// protocol returns NewProtocol, which is one of two.
func (i *invocation) protocol() portmap.Protocol {
	if i.Text("NewProtocol") == "UDP" {
		return portmap.UDP
	}
	return portmap.TCP
}

// lease returns how long a mapping shall last; 0, for ever, is version 1's.
func (i *invocation) lease() time.Duration {
	asked := time.Duration(i.Number("NewLeaseDuration")) * time.Second
	if i.Version != upnp.V1 && (asked == 0 || asked > longestLease) {
		return longestLease
	}
	return asked
}

// remoteHost returns the filter for NewRemoteHost. Names are not looked up.
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

// faultFor translates the desk's refusal to open a port. Version 1 has no code
// for what is not allowed.
func (i *invocation) faultFor(r portmap.Refusal) error {
	v1 := i.Version == upnp.V1
	switch r {
	case portmap.Granted:
		return nil
	case portmap.Conflict:
		return upnp.ConflictInMapping
	case portmap.NotAuthorized:
		return either(v1, upnp.ConflictInMapping, upnp.NotAuthorized)
	case portmap.PortInUse:
		return either(v1, upnp.ConflictInMapping, upnp.ConflictWithOther)
	case portmap.BadTarget:
		return either(v1, upnp.InvalidArgs, upnp.NotAuthorized)
	case portmap.NoPorts, portmap.QuotaExceeded, portmap.TableFull:
		return either(v1, upnp.ActionFailed, upnp.NoPortsLeft)
	}
	return upnp.ActionFailed
}

func either(v1 bool, one, two upnp.Fault) upnp.Fault {
	if v1 {
		return one
	}
	return two
}

// deletePortMapping gives up one entry.
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
	case a.Refusal == portmap.NotFound, a.Refusal == portmap.NotAuthorized && i.Version == upnp.V1:
		return nil, upnp.NoSuchEntry
	}
	return nil, i.faultFor(a.Refusal)
}

// deletePortMappingRange gives up all entries in a range: the client's own, or
// with NewManage whatever the policy lets it.
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
	case a.Refusal == portmap.NotFound, a.Refusal == portmap.NotAuthorized:
		return nil, upnp.MappingNotFound
	}
	return nil, i.faultFor(a.Refusal)
}

// ports returns the range of external ports that was asked for.
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
	e := entry(m)
	return append(e.Key(), e.Value()...), nil
}

// getSpecificPortMappingEntry returns an entry by remote host, port and protocol.
func getSpecificPortMappingEntry(i *invocation) ([]string, error) {
	filters, err := remoteHost(i.Text("NewRemoteHost"))
	if err != nil {
		return nil, err
	}
	m, ok := i.opts.Table.Lookup(portmap.Key{Protocol: i.protocol(), External: i.Port("NewExternalPort")})
	if !ok || !m.Inbound() || !slices.Equal(peers(m), filters) {
		return nil, upnp.NoSuchEntry
	}
	return entry(m).Value(), nil
}

// getListOfPortMappings returns the entries in a range: the client's own, or
// with NewManage all, which getGenericPortMappingEntry shows anyway.
func getListOfPortMappings(i *invocation) ([]string, error) {
	first, last, err := i.ports()
	if err != nil {
		return nil, err
	}
	var list upnp.Listing
	left := i.Number("NewNumberOfPorts") // 0 counts down from 2^32
	protocol, all := i.protocol(), i.Flag("NewManage")
	for _, m := range i.opts.Table.List() {
		if m.External < first || m.External > last || m.Protocol != protocol || !m.Inbound() || !all && m.Internal.Addr() != i.client {
			continue
		}
		list.Add(entry(m))
		if left--; left == 0 || list.Len() >= maxListing {
			break
		}
	}
	if list.Len() == 0 {
		return nil, upnp.MappingNotFound
	}
	return []string{list.String()}, nil
}

// peers returns the remote hosts of an entry: those of UPnP's own claim, even
// while that is disabled, else all that may use it.
func peers(m *portmap.Mapping) []portmap.Filter {
	if c, ok := m.Claim(portmap.UPnP); ok {
		return c.Filters
	}
	return m.Filters()
}

// entry returns a mapping as WANIPConnection shows it. An entry has one remote
// host; the first stands for more.
func entry(m *portmap.Mapping) upnp.PortMapping {
	e := upnp.PortMapping{
		ExternalPort:  m.External,
		Protocol:      m.Protocol.String(),
		InternalPort:  m.Internal.Port(),
		Client:        m.Internal.Addr().String(),
		Enabled:       m.Enabled(),
		Description:   m.Description(),
		LeaseDuration: uint32(m.Remaining(time.Now()) / time.Second),
	}
	if f := peers(m); len(f) > 0 {
		e.RemoteHost = f[0].Prefix.Addr().String()
	}
	return e
}
