package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"igdd/pkg/portmap"
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
	Schema int    `json:"schema"`
	Name   string `json:"step"`
	Result string `json:"result"` // "ok", "failed" or "skipped"
	Detail string `json:"detail,omitempty"`
}

const (
	stepOK      = "ok"
	stepFailed  = "failed"
	stepSkipped = "skipped"
)

// selftest acts as a NAT-PMP client on each LAN, for both protocols, and reports the step
// that fails.
//
// The daemon ignores requests from the router's own addresses, and no mapping may
// lead to them. So the client is a host that does not exist: its datagrams leave
// from an unused address of the LAN, which IP_TRANSPARENT allows, and reach the
// daemon's socket inside the router. The responses go out to the LAN, to a hardware
// address that no host has; the effect of a request is read from the daemon's list of
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
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	steps := untilInterrupted(ctx, t.runSteps(ctx, client))
	status := exitUnless(!slices.ContainsFunc(steps, step.hasFailed), exitNo)
	if t.json {
		return status, t.encode(steps)
	}
	return status, printSteps(t.stdout, steps)
}

// hasFailed reports whether the step failed.
func (s step) hasFailed() bool { return s.Result == stepFailed }

// untilInterrupted returns the steps with one more that failed, if ctx has ended before
// all were tried.
func untilInterrupted(ctx context.Context, steps []step) []step {
	if ctx.Err() == nil || slices.ContainsFunc(steps, step.hasFailed) {
		return steps
	}
	return append(steps, newStep("all steps are tried", errors.New("interrupted")))
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
		return step{schemaVersion, name, stepFailed, err.Error()}
	}
	return step{Schema: schemaVersion, Name: name, Result: stepOK}
}

// runSteps goes through all steps. The client may be the zero Addr.
func (t *tool) runSteps(ctx context.Context, client netip.Addr) []step {
	s, err := t.queryStatus()
	steps := []step{newStep("the daemon answers", err)}
	if err != nil {
		return steps
	}
	steps = append(steps,
		newStep("the uplink has an address", checkUplink(s)),
		newStep("the firewall's chains, jumps and rules are in place", checkFirewall(s.Firewall)))
	if !slices.Contains(s.Protocols, "NAT-PMP") {
		return append(steps, step{schemaVersion, "a NAT-PMP client gets a port", stepSkipped, "NAT-PMP is disabled"})
	}
	tested := false
	for _, lan := range s.LANs {
		if on := lan.network(client); on.IsValid() || !client.IsValid() {
			steps = append(steps, t.runOn(ctx, lan, on, client)...)
			tested = true
		}
		if ctx.Err() != nil {
			break
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
func (t *tool) runOn(ctx context.Context, lan Link, router netip.Prefix, client netip.Addr) []step {
	name := "a NAT-PMP client on " + lan.Name + " gets a port"
	if !lan.Up || !router.IsValid() {
		return []step{{schemaVersion, name, stepFailed, "the interface is " + lan.String()}}
	}
	p, err := t.newTestClient(lan.Name, router, client)
	if err != nil {
		return []step{newStep(name, err)}
	}
	leave, err := p.enter()
	if err != nil {
		return []step{newStep(name, err)}
	}
	defer leave()
	var steps []step
	for _, p.protocol = range [...]portmap.Protocol{portmap.TCP, portmap.UDP} {
		if ctx.Err() == nil {
			steps = append(steps, p.steps(ctx)...)
		}
	}
	return steps
}

// steps goes through the steps of one protocol.
func (p *testClient) steps(ctx context.Context) []step {
	steps := []step{newStep(fmt.Sprintf("a NAT-PMP client on %s gets a %v port", p.lan, p.protocol), p.mapPort(ctx))}
	if steps[0].Result == stepFailed {
		p.send(0) // in case a request arrives late
		return steps
	}
	steps[0].Detail = fmt.Sprintf("%v got port %d", p.client, p.entry.ExternalPort)
	steps = append(steps, newStep("its rules are in the kernel", p.checkCounters()), p.checkPath())
	if p.entry.Forwarding != "" {
		steps = append(steps, p.checkUpstream(ctx))
	}
	return append(steps, newStep("the mapping can be deleted", p.deleteMapping(ctx)))
}
