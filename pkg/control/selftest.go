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

// The test maps a port that permission rules usually allow, and for a time that
// ends soon if the mapping cannot be deleted.
const (
	testPort        = 49351
	testLifetime    = time.Minute
	maxPolls        = 60 // of the list of mappings, for the effect of a request
	pollInterval    = 50 * time.Millisecond
	pollsPerRequest = 10 // after which a request counts as lost
)

// step is one step of the self-test and how it went.
type step struct {
	Name   string `json:"step"`
	Result string `json:"result"` // "ok", "failed" or "skipped"
	Detail string `json:"detail,omitempty"`
}

const (
	stepOK      = "ok"
	stepFailed  = "failed"
	stepSkipped = "skipped"
)

// selftest acts as a NAT-PMP client on each LAN and reports the step that fails.
//
// The daemon ignores requests from the router's own addresses, and no mapping may
// lead to them. So the client is a host that does not exist: its datagrams leave
// from an unused address of the LAN, which IP_TRANSPARENT allows, and reach the
// daemon's socket inside the router. The responses go out to the LAN, where no
// host takes them; the effect of a request is read from the daemon's list of
// mappings, with the counters of the rules in the kernel. The test cannot see
// whether the firewall lets packets from the LAN reach the daemon.
func (t *tool) selftest(args []string) (exitStatus, error) {
	var client netip.Addr
	if len(args) > 0 {
		var err error
		if client, err = netip.ParseAddr(args[0]); err != nil || !client.Is4() {
			return 0, fmt.Errorf("%w: invalid IPv4 address %q", errUsage, args[0])
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

// newStep returns a step that failed if err is not nil.
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
		newStep("the firewall's chains, jumps and rules are in place", checkFirewall(s.Firewall)))
	if !slices.Contains(s.Protocols, "NAT-PMP") {
		return append(steps, step{"a NAT-PMP client gets a port", stepSkipped, "NAT-PMP is disabled"})
	}
	tested := false
	for _, lan := range s.LANs {
		if on := lan.network(client); on.IsValid() || !client.IsValid() {
			steps = append(steps, t.runOn(lan, on, client)...)
			tested = true
		}
	}
	if !tested {
		steps = append(steps, newStep("a NAT-PMP client gets a port", fmt.Errorf("%v is not on a LAN that the daemon serves", client)))
	}
	return steps
}

func checkUplink(s Status) error {
	if !s.External.IsValid() {
		return errors.New("it has none: requests are refused")
	}
	return nil
}

func checkFirewall(f Firewall) error {
	if !f.Healthy {
		return errors.New(f.String())
	}
	return nil
}

// network returns the router's IPv4 address on the LAN in the network of the
// client, or its first one if the client is the zero Addr.
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
	name := "a NAT-PMP client on " + lan.Name + " gets a port"
	if !lan.Up || !router.IsValid() {
		return []step{{name, stepFailed, "the interface is " + lan.String()}}
	}
	if !client.IsValid() {
		var err error
		if client, err = t.unusedAddr(router); err != nil {
			return []step{newStep(name, err)}
		}
	}
	p := testClient{tool: t, lan: lan.Name, router: router.Addr(), client: client}
	steps := []step{newStep(name, p.mapPort())}
	if steps[0].Result == stepFailed {
		return steps
	}
	steps[0].Detail = fmt.Sprintf("%v got port %d", client, p.entry.ExternalPort)
	return append(steps,
		newStep("its rules are in the kernel", p.checkCounters()),
		newStep("the mapping can be deleted", p.deleteMapping()))
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

// testClient is a NAT-PMP client that does not exist.
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

// mapPort asks for a port and waits for the mapping.
func (p *testClient) mapPort() error {
	v, err := p.queryVerdict(request{Do: doExplain, Client: p.client, Protocol: "UDP", Internal: testPort})
	switch {
	case err != nil:
		return err
	case !v.Granted:
		return fmt.Errorf("%v would be refused: %s; if other hosts may have ports, name one of them: selftest CLIENT", p.client, v.Reason)
	}
	return p.waitFor(testLifetime, func(there bool) bool { return there }, "the daemon did not receive the request: does it listen on "+p.lan+"?")
}

// checkCounters returns an error unless the kernel counts the mapping's packets.
func (p *testClient) checkCounters() error {
	if p.entry.Packets == nil {
		return errors.New("the kernel has no rule of this mapping; see the log")
	}
	return nil
}

// deleteMapping deletes the mapping and waits until it is gone.
func (p *testClient) deleteMapping() error {
	return p.waitFor(0, func(there bool) bool { return !there }, "the daemon did not delete the mapping; it expires in about a minute")
}

// waitFor sends the request, and again if it is lost, until done says that the
// mapping is there, or gone, as it should be.
func (p *testClient) waitFor(lifetime time.Duration, done func(there bool) bool, complaint string) error {
	for poll := range maxPolls {
		if poll%pollsPerRequest == 0 {
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
