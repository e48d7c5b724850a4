package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/event"
	"igdd/pkg/hosts"
	"igdd/pkg/natpmp"
	"igdd/pkg/portmap"
)

// How long an address is asked for that no host should have, three times by the
// kernel, once a second; and how many hosts may turn out to have theirs.
const (
	askFor   = 2500 * time.Millisecond
	maxAsked = 32
)

// unusedAddr returns an address of the network that no host has: none that answers on
// the interface with this index when the kernel asks for it.
func (t *tool) unusedAddr(router netip.Prefix, index int) (netip.Addr, error) {
	taken := map[netip.Addr]bool{router.Addr(): true}
	err := t.call(request{Do: doList}, func(a reply) error {
		if a.Entry != nil {
			taken[a.Entry.Client] = true
		}
		return nil
	})
	if err != nil {
		return netip.Addr{}, err
	}
	first := router.Masked().Addr()
	for a, asked := lastHost(router), 0; a.Compare(first) > 0 && asked < maxAsked; a = a.Prev() {
		if taken[a] {
			continue
		}
		if !hosts.Ask(index, a, askFor) {
			return a, nil
		}
		asked++
	}
	return netip.Addr{}, fmt.Errorf("no unused address in %v to test with", router.Masked())
}

// lastHost returns the address before the network's broadcast address.
func lastHost(network netip.Prefix) netip.Addr {
	raw := network.Masked().Addr().As4()
	for bit := network.Bits(); bit < 32; bit++ {
		raw[bit/8] |= 1 << (7 - bit%8)
	}
	return netip.AddrFrom4(raw).Prev()
}

// outside is where the connection from the Internet comes from that the test traces: an
// ordinary public address. Firewalls often stop the networks that are reserved for
// examples (RFC 5737), with all others that are not in use. Nothing is sent to it.
var outside = netip.AddrPortFrom(netip.AddrFrom4([4]byte{64, 0, 0, 1}), 0)

// testHardware is the hardware address of a client that does not exist: a locally
// administered one.
var testHardware = net.HardwareAddr{0x02, 'i', 'g', 'd', 'd', 0}

// testClient is a NAT-PMP client that does not exist.
type testClient struct {
	*tool
	lan            string
	index          int
	router, client netip.Addr
	isInvented     bool // no host has the address
	protocol       portmap.Protocol
	entry          Entry
}

// newTestClient returns a client on a LAN: with the given address, or without one with
// an address that no host has.
func (t *tool) newTestClient(lan string, router netip.Prefix, client netip.Addr) (*testClient, error) {
	link, err := net.InterfaceByName(lan)
	if err != nil {
		return nil, err
	}
	isInvented := !client.IsValid()
	if isInvented {
		if client, err = t.unusedAddr(router, link.Index); err != nil {
			return nil, err
		}
	}
	return &testClient{tool: t, lan: lan, index: link.Index, router: router.Addr(), client: client, isInvented: isInvented}, nil
}

// enter makes the kernel, and so the daemon, believe that the client answers, unless it
// is a host that does. The kernel forgets that by itself when it has asked for it in
// vain; leave makes it forget at once.
func (p *testClient) enter() (leave func(), err error) {
	if !p.isInvented && hosts.Ask(p.index, p.client, askFor) {
		return func() {}, nil
	}
	if err := hosts.Enter(p.index, p.client, testHardware); err != nil {
		return nil, err
	}
	return func() { hosts.Remove(p.index, p.client) }, nil
}

// opcodes are those of NAT-PMP that map a port.
var opcodes = map[portmap.Protocol]natpmp.Opcode{portmap.TCP: natpmp.MapTCP, portmap.UDP: natpmp.MapUDP}

// send sends a NAT-PMP request to the daemon.
func (p *testClient) send(lifetime time.Duration) error {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		controlErr := raw.Control(func(fd uintptr) {
			err = errors.Join(
				unix.BindToDevice(int(fd), p.lan),
				unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TRANSPARENT, 1))
		})
		return errors.Join(controlErr, err)
	}}
	c, err := config.ListenPacket(context.Background(), "udp4", netip.AddrPortFrom(p.client, 0).String())
	if err != nil {
		return err
	}
	defer c.Close()
	request := natpmp.Request{Opcode: opcodes[p.protocol], InternalPort: testPort, Lifetime: lifetime}
	to := netip.AddrPortFrom(p.router, natpmp.ServerPort)
	_, err = c.WriteTo(request.Append(nil), net.UDPAddrFromAddrPort(to))
	return err
}

// mapPort asks for a port and waits for the mapping.
func (p *testClient) mapPort(ctx context.Context) error {
	if err := p.checkGranted(); err != nil {
		return err
	}
	err := p.ask(ctx, testLifetime, func(there bool) bool { return there })
	if errors.Is(err, errNoEffect) {
		err = errors.New("the daemon did not receive the request: does it listen on " + p.lan + "?")
	}
	return err
}

// checkGranted returns an error if a request for a port would be refused: with the
// firewall's rules that take the port, if there are any.
func (p *testClient) checkGranted() error {
	list, err := p.queryVerdicts(request{Do: doExplain, Client: p.client, Protocol: p.protocol.String(), Internal: testPort, As: portmap.NATPMP.String()})
	if err != nil || list[0].Granted {
		return err
	}
	v := list[0]
	if len(v.Firewall) > 0 {
		return fmt.Errorf("%v would be refused: %s: %s takes connections first", p.client, v.Reason, v.Firewall[0])
	}
	return fmt.Errorf("%v would be refused: %s; if other hosts may have ports, name one of them: selftest CLIENT", p.client, v.Reason)
}

// checkPath follows a connection from the Internet to the port, and returns the step. A
// rule that may stop it does not fail the step.
func (p *testClient) checkPath() step {
	const name = "a connection from the Internet arrives"
	paths, err := p.queryPaths(request{Do: doTrace, Source: outside, Protocol: p.protocol.String(), First: p.entry.ExternalPort})
	if err != nil {
		return newStep(name, err)
	}
	switch way := paths[0]; { // by the uplink whose address is announced
	case way.Fate == fateStopped:
		return step{schemaVersion, name, stepFailed, way.verdict()}
	case way.Destination.IsValid() && way.Destination != netip.AddrPortFrom(p.client, testPort):
		return step{schemaVersion, name, stepFailed, fmt.Sprintf("it arrives at %v instead", way.Destination)}
	case way.Fate == fateUnknown:
		return step{schemaVersion, name, stepOK, way.verdict()}
	}
	return newStep(name, nil)
}

// checkUpstream waits for the router in front, and returns the step.
func (p *testClient) checkUpstream(ctx context.Context) step {
	var err error
	for poll := 0; err == nil && p.entry.Forwarding == portmap.Asking.Slug() && poll < maxPolls && ctx.Err() == nil; poll++ {
		pause(ctx, pollInterval)
		_, err = p.lookUp()
	}
	if err == nil && p.entry.Forwarding != portmap.Reachable.Slug() {
		err = errors.New(p.entry.forwarding())
	}
	s := newStep("the router in front forwards the port", err)
	if err == nil {
		s.Detail = p.entry.forwarding()
	}
	return s
}

// checkCounters returns an error unless the kernel counts the mapping's packets.
func (p *testClient) checkCounters() error {
	if p.entry.Packets == nil {
		return errors.New("the kernel has no rule of this mapping; see the log")
	}
	return nil
}

// deleteMapping deletes the mapping and waits until it is gone.
func (p *testClient) deleteMapping(ctx context.Context) error {
	err := p.ask(ctx, 0, func(there bool) bool { return !there })
	if errors.Is(err, errNoEffect) {
		err = errors.New("the daemon did not delete the mapping; it expires in about a minute")
	}
	return err
}

// errNoEffect is the error of a request that has neither changed a mapping nor been
// refused.
var errNoEffect = errors.New("the request had no effect")

// ask sends the request until done says that the mapping is there, or gone, as it should
// be. If nothing happens the firewall may be busy: status waits for that, and then the
// request is sent again.
func (p *testClient) ask(ctx context.Context, lifetime time.Duration, done func(there bool) bool) error {
	before, err := p.lastEvent()
	if err != nil {
		return err
	}
	err = p.waitFor(ctx, lifetime, before, done)
	if !errors.Is(err, errNoEffect) {
		return err
	}
	if _, err := p.queryStatus(); err != nil {
		return err
	}
	err = p.waitFor(ctx, lifetime, before, done)
	if s, failed := p.queryStatus(); errors.Is(err, errNoEffect) && failed == nil && s.Firewall.Trouble != "" {
		err = errors.New("no answer, perhaps because of the firewall: " + s.Firewall.Trouble)
	}
	return err
}

// waitFor sends the request, and again if it is lost, until done says that the
// mapping is there, or gone, as it should be, or the daemon has refused the request
// after the event before.
func (p *testClient) waitFor(ctx context.Context, lifetime time.Duration, before uint64, done func(there bool) bool) error {
	for poll := range maxPolls {
		if poll%pollsPerRequest == 0 {
			if err := errors.Join(p.refusal(before), p.send(lifetime)); err != nil {
				return err
			}
		}
		there, err := p.lookUp()
		if err != nil || done(there) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.New("interrupted")
		case <-time.After(pollInterval):
		}
	}
	return errNoEffect
}

// queryEvents asks the daemon for its last n events.
func (p *testClient) queryEvents(n int) ([]event.Event, error) {
	return query(p.tool, request{Do: doHistory, Count: n}, func(a reply) *event.Event { return a.Event })
}

// lastEvent returns the serial of the last event, 0 if there is none.
func (p *testClient) lastEvent() (serial uint64, err error) {
	list, err := p.queryEvents(1)
	for _, e := range list {
		serial = e.Serial
	}
	return serial, err
}

// refusal returns an error that says why the daemon has refused a request of the client,
// after the event before, and what is wrong with the firewall; nil: it has not.
func (p *testClient) refusal(before uint64) error {
	list, err := p.queryEvents(event.HistoryLength)
	isOurs := func(e event.Event) bool {
		return e.Serial > before && e.Kind == event.Refused && e.Client == p.client && e.InternalPort == testPort && e.Protocol == p.protocol.String()
	}
	at := slices.IndexFunc(list, isOurs)
	if err != nil || at < 0 {
		return err
	}
	why := list[at].Reason
	if s, err := p.queryStatus(); err == nil && s.Firewall.Trouble != "" {
		why += ": " + s.Firewall.Trouble
	}
	return errors.New("the daemon refused the request: " + why)
}

// lookUp looks for the mapping in the daemon's list.
func (p *testClient) lookUp() (there bool, err error) {
	err = p.call(request{Do: doList}, func(a reply) error {
		if e := a.Entry; e != nil && e.Client == p.client && e.ClientPort == testPort && e.Protocol == p.protocol.String() {
			p.entry, there = *e, true
		}
		return nil
	})
	return there, err
}
