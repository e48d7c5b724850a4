package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/portmap"
	"igdd/pkg/upnp"
)

const (
	// maxTries is how many external ports are tried where any will do.
	maxTries = 4
	// maxFull is how many mappings in a row get none before no other is tried for a while.
	maxFull = 3
	// minTried is the lowest external port that is tried unasked: the ones below belong to
	// services that a router may have itself.
	minTried = 1024
)

// igd is a router in front that is an Internet Gateway Device. Such routers have
// one small server for everything: it is sent one call after the other.
type igd struct {
	connection
	turn chan struct{} // holds a value while someone calls actions or uses what follows

	any      bool // it has AddAnyPortMapping, as far as known
	endless  bool // it forwards for ever, or not at all
	anyPeer  bool // it forwards for every remote peer, or not at all
	samePort bool // it forwards to the same port, or not at all

	external netip.Addr // the zero Addr: not asked yet
	held     map[local]upnp.PortMapping
	full     int       // mappings in a row for which all ports were taken
	rest     time.Time // until then no port is tried
}

// local is the port of this router that a forwarding leads to.
type local struct {
	protocol portmap.Protocol
	port     uint16
}

// newIGD returns the router with that service.
func newIGD(c connection) *igd {
	return &igd{
		connection: c, turn: make(chan struct{}, 1), held: make(map[local]upnp.PortMapping),
		any: upnp.HasAnyPort(c.serviceType),
	}
}

// inTurn calls f when nobody else calls actions, and words its error.
func (r *igd) inTurn(ctx context.Context, f func() error) error {
	select {
	case r.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-r.turn }()
	return explain(ctx, f())
}

// open asks for a port, or renews it.
func (r *igd) open(ctx context.Context, a ask) (g grant, err error) {
	err = r.inTurn(ctx, func() error {
		m, err := r.forward(ctx, a)
		g = grant{
			external: netip.AddrPortFrom(r.external, m.ExternalPort),
			lifetime: time.Duration(m.LeaseDuration) * time.Second,
		}
		return err
	})
	return g, err
}

// forward has the router hold an entry for a, and returns it. The external address comes
// first: without it the entry would be of no use, and would stay.
func (r *igd) forward(ctx context.Context, a ask) (m upnp.PortMapping, err error) {
	if !r.external.IsValid() {
		if r.external, err = r.externalAddress(ctx); err != nil {
			return m, err
		}
	}
	key := local{a.protocol, a.port}
	held, ok := r.held[key]
	if ok {
		if m, ok, err = r.renew(ctx, a, held); ok || err != nil {
			return m, err
		}
		delete(r.held, key)
	}
	if m, err = r.acquire(ctx, a); err == nil {
		r.held[key] = m
	}
	return m, err
}

// entry returns the entry of the router's table that a asks for.
func (r *igd) entry(a ask, external uint16) upnp.PortMapping {
	m := upnp.PortMapping{
		RemoteHost: a.remoteHost(), ExternalPort: external, Protocol: a.protocol.String(),
		InternalPort: a.port, Client: r.gateway.Local.String(), Enabled: true,
		Description:   a.label(),
		LeaseDuration: uint32(a.lifetime / time.Second),
	}
	if r.anyPeer {
		m.RemoteHost = ""
	}
	if r.endless {
		m.LeaseDuration = 0
	}
	return m
}

// remoteHost returns the one address that may use the forwarding; "" if there are more.
// The protocol knows no other filter: this router holds to all of them itself.
func (a ask) remoteHost() string {
	if len(a.filters) == 1 && a.filters[0].Prefix.IsSingleIP() {
		return a.filters[0].Prefix.Addr().String()
	}
	return ""
}

// wanted returns the external port that is asked for first.
func (a ask) wanted() uint16 { return cmp.Or(a.suggested, a.port) }

// renew renews the entry that is held. ok is false if another one is needed: the old one
// is given back then, or is another host's.
func (r *igd) renew(ctx context.Context, a ask, held upnp.PortMapping) (m upnp.PortMapping, ok bool, err error) {
	m = r.entry(a, held.ExternalPort)
	if m.RemoteHost != held.RemoteHost || a.exact && a.wanted() != held.ExternalPort {
		return m, false, r.giveBack(ctx, held, true)
	}
	m.LeaseDuration = held.LeaseDuration
	if err = r.add(ctx, &m); !isTaken(err) {
		return m, err == nil, err
	}
	o, entry, err := r.owner(ctx, m)
	if o == ours && entry.LeaseDuration == 0 {
		return entry, true, err // some routers change no entry, not even for the host that has it
	}
	if err == nil {
		err = r.giveBack(ctx, held, true)
	}
	return m, false, err
}

// acquire adds an entry with the external port that is wanted or, where any will do, with
// another one. A router that refuses all ports for one mapping after the other has none, or
// gives none: then it is not asked again at once for each of many.
func (r *igd) acquire(ctx context.Context, a ask) (upnp.PortMapping, error) {
	if left := time.Until(r.rest); left > 0 {
		e := &routerError{cause: denied, reason: "the router in front has refused every port that it was asked for", retry: left}
		if a.exact {
			e.cause = taken
		}
		return upnp.PortMapping{}, e
	}
	m, err := r.tryPorts(ctx, a)
	switch {
	case err == nil:
		r.full = 0
	case isTaken(err) && !a.exact:
		if r.full++; r.full >= maxFull {
			r.rest = time.Now().Add(min(firstRetry<<min(r.full-maxFull, 6), lastRetry))
		}
	}
	return m, err
}

// tryPorts adds an entry with the first external port that is free. If all are taken, the
// error names the one that is wanted.
func (r *igd) tryPorts(ctx context.Context, a ask) (m upnp.PortMapping, err error) {
	port := a.wanted()
	m, err = r.try(ctx, a, port)
	if !isTaken(err) || a.exact {
		return m, err
	}
	for range maxTries - 1 {
		if r.samePort && port == a.port {
			break
		}
		if port = uint16(minTried + rand.N(1<<16-minTried)); r.samePort {
			port = a.port
		}
		another, failed := r.try(ctx, a, port)
		if !isTaken(failed) {
			return another, failed
		}
	}
	return m, err
}

// try adds an entry with an external port. Many routers would overwrite another one, so
// its owner is looked up before.
func (r *igd) try(ctx context.Context, a ask, port uint16) (upnp.PortMapping, error) {
	m := r.entry(a, port)
	o, _, err := r.owner(ctx, m)
	switch {
	case err != nil:
		return m, err
	case o == others:
		return m, elsewhere(port)
	case r.any && !a.exact && o != ours:
		if err = r.addAny(ctx, &m); errors.Is(err, upnp.InvalidAction) {
			r.any = false
			return r.try(ctx, a, port)
		}
	default:
		err = r.add(ctx, &m)
	}
	if err != nil {
		return m, err
	}
	return r.verify(ctx, m)
}

// elsewhere returns the error of a port that the router forwards already.
func elsewhere(port uint16) *routerError {
	return &routerError{cause: taken, reason: fmt.Sprintf("the router in front forwards port %d elsewhere", port)}
}

// verify returns an entry that was added as it is in the router's table: some routers say
// yes and do nothing, others make the lease shorter, or endless.
func (r *igd) verify(ctx context.Context, m upnp.PortMapping) (upnp.PortMapping, error) {
	o, entry, err := r.owner(ctx, m)
	switch {
	case err != nil || o == unknown:
		return m, err
	case o != ours:
		return m, &routerError{cause: denied, reason: fmt.Sprintf("the router in front says that it forwards port %d, but does not", m.ExternalPort)}
	case m.LeaseDuration == 0 || entry.LeaseDuration < m.LeaseDuration:
		m.LeaseDuration = entry.LeaseDuration
	}
	return m, nil
}

// add adds or renews an entry, as the router allows it.
func (r *igd) add(ctx context.Context, m *upnp.PortMapping) error {
	err := r.connection.add(ctx, *m)
	for r.adapt(m, err) {
		err = r.connection.add(ctx, *m)
	}
	return err
}

// addAny adds an entry with any external port, as the router allows it. Routers give a
// port that the same host has already: then that entry is put back.
func (r *igd) addAny(ctx context.Context, m *upnp.PortMapping) error {
	port, err := r.connection.addAny(ctx, *m)
	for r.adapt(m, err) {
		port, err = r.connection.addAny(ctx, *m)
	}
	if err != nil {
		return err
	}
	m.ExternalPort = port
	for _, other := range r.held {
		if other.ExternalPort == port && other.Protocol == m.Protocol {
			return cmp.Or(r.add(ctx, &other), error(elsewhere(port)))
		}
	}
	return nil
}

// adapt changes an entry that the router refused with err into one that it may take, and
// reports whether there is one. It remembers what the router does not take.
func (r *igd) adapt(m *upnp.PortMapping, err error) bool {
	switch {
	case errors.Is(err, upnp.OnlyPermanentLeases) && m.LeaseDuration != 0:
		r.endless, m.LeaseDuration = true, 0
	case errors.Is(err, upnp.RemoteHostOnlyWildcard) && m.RemoteHost != "":
		r.anyPeer, m.RemoteHost = true, ""
	default:
		r.samePort = r.samePort || errors.Is(err, upnp.SamePortValuesRequired)
		return false
	}
	return true
}

// owner is whose an entry of the router's table is.
type owner uint8

const (
	unknown owner = iota // many routers do not tell
	nobody
	ours
	others
)

// owner looks up the entry with m's key. An entry for another port of this router is the
// administrator's, not ours.
func (r *igd) owner(ctx context.Context, m upnp.PortMapping) (owner, upnp.PortMapping, error) {
	entry, err := r.lookup(ctx, m)
	if errors.Is(err, upnp.NoSuchEntry) {
		return nobody, entry, nil
	}
	if _, fault := errors.AsType[*upnp.RemoteFault](err); fault {
		return unknown, entry, nil
	}
	if err != nil {
		return unknown, entry, err
	}
	if client, err := netip.ParseAddr(entry.Client); err != nil || client != r.gateway.Local || entry.InternalPort != m.InternalPort {
		return others, entry, nil
	}
	m.LeaseDuration = entry.LeaseDuration
	return ours, m, nil
}

// close gives a port back.
func (r *igd) close(ctx context.Context, a ask) error {
	return r.inTurn(ctx, func() error {
		key := local{a.protocol, a.port}
		m, known := r.held[key]
		if !known {
			m = r.entry(a, a.wanted())
		}
		err := r.giveBack(ctx, m, known)
		if err == nil {
			delete(r.held, key)
		}
		return err
	})
}

func (r *igd) hurry() { r.calls.lifted.Store(true) }

// giveBack removes an entry that is ours. Where the router does not tell, it is if it is
// known to have been.
func (r *igd) giveBack(ctx context.Context, m upnp.PortMapping, known bool) error {
	if o, _, err := r.owner(ctx, m); err != nil || o != ours && (o != unknown || !known) {
		return err
	}
	return r.remove(ctx, m)
}

// check tells whether the router is still the same. It has no epoch: a router that has
// restarted no longer has an entry that is picked at random.
func (r *igd) check(ctx context.Context) (s state, err error) {
	err = r.inTurn(ctx, func() error {
		if r.external, err = r.externalAddress(ctx); err != nil {
			return err
		}
		s.external = r.external
		s.lost, err = r.hasLost(ctx)
		return err
	})
	return s, err
}

// hasLost reports whether an entry that is held is no longer in the router's table. All
// are added as new ones then.
func (r *igd) hasLost(ctx context.Context) (bool, error) {
	for _, m := range r.held {
		o, _, err := r.owner(ctx, m)
		lost := o == nobody || o == others
		if lost {
			clear(r.held)
		}
		return lost, err
	}
	return false, nil
}

// isTaken reports whether an error says that the router may do so with another external
// port.
func isTaken(err error) bool {
	if e, ok := errors.AsType[*routerError](err); ok {
		return e.cause == taken
	}
	return errors.Is(err, upnp.ConflictInMapping) || errors.Is(err, upnp.ConflictWithOther) || errors.Is(err, upnp.SamePortValuesRequired)
}

// explain words the error of a call for the operator.
func explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if _, worded := errors.AsType[*routerError](err); worded {
		return err
	}
	if fault, ok := errors.AsType[*upnp.RemoteFault](err); ok {
		return refusal(fault)
	}
	if errors.Is(err, unix.EPERM) {
		return errFirewall
	}
	_, network := errors.AsType[net.Error](err)
	if network || errors.Is(err, io.ErrUnexpectedEOF) {
		return &routerError{cause: silent, reason: fmt.Sprintf("the router in front does not answer UPnP calls: %v", withoutPorts(err))}
	}
	return &routerError{cause: foreign, reason: fmt.Sprintf("the router in front does not speak UPnP as it should: %v", err)}
}

// refusal words a fault.
func refusal(f *upnp.RemoteFault) *routerError {
	e := &routerError{cause: denied, reason: fmt.Sprintf("the router in front refuses: %v", f), result: f}
	switch {
	case isTaken(f):
		e.cause = taken
	case errors.Is(f, upnp.NotAuthorized):
		e.reason += " (UPnP may be switched off in its settings)"
	}
	return e
}
