package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/hosts"
	"igdd/pkg/natpmp"
)

// The test's mapping is of a port that permission rules usually allow, and ends
// soon if nobody deletes it.
const (
	testPort        = 49351
	testLifetime    = time.Minute
	maxPolls        = 60 // for what came of a request
	pollInterval    = 50 * time.Millisecond
	pollsPerRequest = 10 // looks after which a request counts as lost
)

// step is one step of the self-test and how it went.
type step struct {
	Name   string `json:"step"`
	Result string `json:"result"` // "ok", "failed" or "left out"
	Detail string `json:"detail,omitempty"`
}

const (
	stepOK      = "ok"
	stepFailed  = "failed"
	stepSkipped = "left out"
)

// selftest plays a NAT-PMP client on each LAN and says which step fails.
//
// The daemon hears nobody who has the router's own address, nor may a mapping
// lead there. So the client is one that does not exist: its datagrams leave
// from a free address of the LAN, which IP_TRANSPARENT allows, and reach the
// daemon's socket inside the router. The answers go out to the LAN, where
// nobody takes them; what came of the request is seen in the daemon's own
// list, with the counters of the rules in the kernel. What the test cannot see
// is whether the firewall lets the LAN's own packets reach the daemon.
func (t *tool) selftest(args []string) (exitStatus, error) {
	var client netip.Addr
	if len(args) > 0 {
		var err error
		if client, err = netip.ParseAddr(args[0]); err != nil || !client.Is4() {
			return 0, fmt.Errorf("%w: %q is no IPv4 address", errUsage, args[0])
		}
		args = args[1:]
	}
	if err := noArgs(args); err != nil {
		return 0, err
	}
	steps := t.runSteps(client)
	failed := slices.ContainsFunc(steps, func(s step) bool { return s.Result == stepFailed })
	status := exitUnless(!failed, exitNo)
	if t.json {
		return status, t.encode(steps)
	}
	return status, printSteps(t.stdout, steps)
}

func printSteps(out io.Writer, steps []step) error {
	for _, s := range steps {
		line := fmt.Sprintf("%-8s  %s", s.Result, s.Name)
		if s.Detail != "" {
			line += ": " + s.Detail
		}
		if _, err := fmt.Fprintln(out, line); err != nil {
			return err
		}
	}
	return nil
}

// newStep returns the step as err says it went.
func newStep(name string, err error) step {
	if err != nil {
		return step{name, stepFailed, err.Error()}
	}
	return step{Name: name, Result: stepOK}
}

// runSteps goes through all steps. The client may be the zero Addr.
func (t *tool) runSteps(client netip.Addr) []step {
	s, err := t.queryStatus()
	steps := []step{newStep("the daemon answers", err)}
	if err != nil {
		return steps
	}
	steps = append(steps,
		newStep("the uplink has an address", checkUplink(s)),
		newStep("the firewall's chains and jumps stand", checkFirewall(s.Firewall)))
	if !slices.Contains(s.Protocols, "NAT-PMP") {
		return append(steps, step{"a NAT-PMP client gets a port", stepSkipped, "NAT-PMP is switched off"})
	}
	played := false
	for _, lan := range s.LANs {
		if on := lan.network(client); on.IsValid() || !client.IsValid() {
			steps = append(steps, t.runOn(lan, on, client)...)
			played = true
		}
	}
	if !played {
		steps = append(steps, newStep("a NAT-PMP client gets a port", fmt.Errorf("%v is on no LAN that is served", client)))
	}
	return steps
}

func checkUplink(s Status) error {
	if !s.External.IsValid() {
		return errors.New("it has none, so requests are refused")
	}
	return nil
}

func checkFirewall(f Firewall) error {
	if !f.Healthy {
		return errors.New(f.String())
	}
	return nil
}

// network returns the router's IPv4 address on the LAN, with the network that
// the client is in; the first one for a client that is not chosen yet.
func (l Link) network(client netip.Addr) netip.Prefix {
	for _, p := range l.Addresses {
		if p.Addr().Is4() && (p.Contains(client) || !client.IsValid()) {
			return p
		}
	}
	return netip.Prefix{}
}

// runOn goes through the steps on one LAN.
func (t *tool) runOn(lan Link, router netip.Prefix, client netip.Addr) []step {
	heard := "a NAT-PMP client on " + lan.Name + " gets a port"
	if !lan.Up || !router.IsValid() {
		return []step{{heard, stepFailed, "the interface is " + lan.String()}}
	}
	if !client.IsValid() {
		var err error
		if client, err = t.unusedAddr(router); err != nil {
			return []step{newStep(heard, err)}
		}
	}
	p := testClient{tool: t, lan: lan.Name, router: router.Addr(), client: client}
	steps := []step{newStep(heard, p.mapPort())}
	if steps[0].Result == stepFailed {
		return steps
	}
	steps[0].Detail = fmt.Sprintf("%v got port %d", client, p.entry.ExternalPort)
	return append(steps,
		newStep("its rules are in the kernel", p.checkCounters()),
		newStep("it gives the port back", p.deleteMapping()))
}

// unusedAddr returns an address of the network that no host seems to have.
func (t *tool) unusedAddr(router netip.Prefix) (netip.Addr, error) {
	known, err := hosts.Read("")
	if err != nil {
		return netip.Addr{}, err
	}
	taken := map[netip.Addr]bool{router.Addr(): true}
	err = t.call(request{Do: doList}, func(a reply) error {
		if a.Entry != nil {
			taken[a.Entry.Client] = true
		}
		return nil
	})
	if err != nil {
		return netip.Addr{}, err
	}
	first := router.Masked().Addr()
	for a := lastHost(router); a.Compare(first) > 0; a = a.Prev() {
		if !taken[a] && !known[a].Answers {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("no address of %v is free to play with", router.Masked())
}

// lastHost returns the address before the network's broadcast address.
func lastHost(network netip.Prefix) netip.Addr {
	raw := network.Masked().Addr().As4()
	for bit := network.Bits(); bit < 32; bit++ {
		raw[bit/8] |= 1 << (7 - bit%8)
	}
	return netip.AddrFrom4(raw).Prev()
}

// testClient is the client that does not exist.
type testClient struct {
	*tool
	lan            string
	router, client netip.Addr
	entry          Entry
}

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
	request := natpmp.Request{Opcode: natpmp.MapUDP, InternalPort: testPort, Lifetime: lifetime}
	to := netip.AddrPortFrom(p.router, natpmp.ServerPort)
	_, err = c.WriteTo(request.Append(nil), net.UDPAddrFromAddrPort(to))
	return err
}

// mapPort asks for a port until the mapping is there.
func (p *testClient) mapPort() error {
	v, err := p.queryVerdict(request{Do: doExplain, Client: p.client, Protocol: "UDP", Internal: testPort})
	switch {
	case err != nil:
		return err
	case !v.Granted:
		return fmt.Errorf("%v would be refused: %s; if others may have ports, name one of them: selftest CLIENT", p.client, v.Reason)
	}
	return p.waitFor(testLifetime, func(there bool) bool { return there }, "the daemon does not hear it: does it listen on "+p.lan+"?")
}

// checkCounters demands that the kernel counts the mapping's packets.
func (p *testClient) checkCounters() error {
	if p.entry.Packets == nil {
		return errors.New("the kernel has no rule of this mapping; look at the log")
	}
	return nil
}

// deleteMapping gives the port back until the mapping is gone.
func (p *testClient) deleteMapping() error {
	return p.waitFor(0, func(there bool) bool { return !there }, "the daemon keeps the mapping; it ends by itself in a minute or so")
}

// waitFor sends the request, and again if it is lost, until the mapping is as it
// should be.
func (p *testClient) waitFor(lifetime time.Duration, done func(there bool) bool, complaint string) error {
	for look := range maxPolls {
		if look%pollsPerRequest == 0 {
			if err := p.send(lifetime); err != nil {
				return err
			}
		}
		there, err := p.lookUp()
		if err != nil || done(there) {
			return err
		}
		time.Sleep(pollInterval)
	}
	return errors.New(complaint)
}

// lookUp looks for the mapping in the daemon's list.
func (p *testClient) lookUp() (there bool, err error) {
	err = p.call(request{Do: doList}, func(a reply) error {
		if e := a.Entry; e != nil && e.Client == p.client && e.ClientPort == testPort && e.Protocol == "UDP" {
			p.entry, there = *e, true
		}
		return nil
	})
	return there, err
}
