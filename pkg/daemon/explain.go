package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"igdd/pkg/control"
	"igdd/pkg/lan"
	"igdd/pkg/natpmp"
	"igdd/pkg/pcp"
	"igdd/pkg/portmap"
	"igdd/pkg/upnp"
	"igdd/pkg/upnpd"
)

// explainLifetime is the lifetime that explain assumes: clients usually ask for it.
const explainLifetime = 2 * time.Hour

// How long explain waits until it is known that a host may have a port, and how often it
// looks. The kernel asks for a host three times, once a second.
const (
	hiddenWithin = 4 * time.Second
	hiddenEvery  = 250 * time.Millisecond
)

// asking is a question of the operator's, about a client on a LAN.
type asking struct {
	*Daemon
	control.Question
	host   lan.Host
	device string // the LAN interface

	request portmap.Request // what the server has asked the table
	found   control.Explanation
	err     error
}

// explain finds out what a client would be answered by one of the protocols: by its
// server, which asks the table what it would decide.
func (d *Daemon) explain(ctx context.Context, q control.Question) (control.Explanation, error) {
	a := &asking{Daemon: d, Question: q}
	if why := a.unheard(ctx); why != "" {
		return control.Explanation{Unheard: why}, nil
	}
	switch q.Origin {
	case portmap.NATPMP:
		a.askNATPMP(ctx)
	case portmap.PCP:
		a.askPCP(ctx)
	default:
		a.askUPnP(ctx)
	}
	a.explainOtherPort(ctx)
	a.explainUpstream()
	a.explainOutgoing()
	return a.found, a.err
}

// unheard returns why the client would get no answer; "": it would.
func (a *asking) unheard(ctx context.Context) string {
	c := a.config
	switch {
	case a.Origin == portmap.NATPMP && a.Client.Is6():
		return "NAT-PMP has no IPv6"
	case a.Origin == portmap.NATPMP && !c.NATPMP, a.Origin == portmap.PCP && !c.PCP, a.Origin == portmap.UPnP && !c.UPnP:
		return "it is disabled"
	case a.Origin == portmap.UPnP && a.Client.Is6() && !c.IPv6, a.Origin == portmap.PCP && a.Client.Is6() && !c.IPv6:
		return "IPv6 is disabled"
	}
	links, _ := a.watch.Now()
	for _, l := range c.LANs {
		for _, link := range linksOf(l, uplinks(c), links) {
			if !lan.IsClient(link.Addrs, a.routedBy(link.Index), netip.AddrPortFrom(a.Client, pcp.ServerPort)) {
				continue
			}
			host, _ := a.lanHosts.Lookup(link.Index, a.Client)
			a.host, a.device = host, link.Name
			if a.isHidden(ctx, link.Index) {
				return "the gateway is hidden from hosts that may have no port (UPNP_HIDDEN)"
			}
			return ""
		}
	}
	return "the address is not one of a host on a LAN that the daemon serves"
}

// isHidden reports whether the gateway is hidden from the client, as far as that is
// known after a while: the kernel is asked for a host that is not known.
func (a *asking) isHidden(ctx context.Context, index int) bool {
	if a.lanHosts.IsHidden == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, hiddenWithin)
	defer cancel()
	for a.lanHosts.IsHidden(index, a.Client) {
		select {
		case <-ctx.Done():
			return true
		case <-time.After(hiddenEvery):
		}
	}
	return false
}

// decide is the table's decision, without its effects.
func (a *asking) decide(ctx context.Context, r portmap.Request) (portmap.Answer, error) {
	e, err := a.resolver.Explain(ctx, r)
	a.request, a.found.Decision, a.err = r, &e, err
	return e.Answer, err
}

// explainOtherPort finds out why the client would get another port than the one that it
// asks for.
func (a *asking) explainOtherPort(ctx context.Context) {
	d := a.found.Decision
	if a.err != nil || d == nil || !a.GetsOtherPort(d) {
		return
	}
	exact := a.request
	exact.Exact = true
	e, err := a.resolver.Explain(ctx, exact)
	a.found.Exact, a.err = &e, err
}

// explainUpstream finds out why a port that is to be asked for upstream is not: no router
// in front answers.
func (a *asking) explainUpstream() {
	d := a.found.Decision
	if a.upstream == nil || d == nil || d.Refusal != portmap.Granted || d.Mapping.Forwarding.State != portmap.Asking {
		return
	}
	if s := a.upstream.Status(); s.Method == 0 && s.Err != nil {
		m := *d.Mapping
		m.Forwarding = portmap.Forwarding{State: portmap.Unreachable, Reason: s.Err.Error()}
		d.Mapping = &m
	}
}

// explainOutgoing finds out by which port what the client sends would leave.
func (a *asking) explainOutgoing() {
	d := a.found.Decision
	if d == nil || d.Refusal != portmap.Granted || !d.Mapping.Enabled() {
		return
	}
	switch o, wanted := a.firewall.Outgoing(d.Mapping); {
	case !wanted:
	case o.Doubt != "":
		a.found.Outgoing = "perhaps by another port: " + o.Doubt
	case !o.Mapped:
		a.found.Outgoing = "by a port that the firewall chooses: no rule of its own translates the source and leaves the port open"
	default:
		a.found.Outgoing = fmt.Sprintf("from port %d by port %d", d.Mapping.Internal.Port(), d.Mapping.External)
	}
}

// askNATPMP asks for a port by NAT-PMP.
func (a *asking) askNATPMP(ctx context.Context) {
	op := natpmp.MapUDP
	if a.Protocol == portmap.TCP {
		op = natpmp.MapTCP
	}
	request := natpmp.Request{Opcode: op, InternalPort: a.Internal, SuggestedPort: a.External, Lifetime: explainLifetime}
	packet := a.pcp.Explain(a.Client, a.host, request.Append(nil), func(r portmap.Request) portmap.Answer {
		answer, _ := a.decide(ctx, r)
		return answer
	})
	if response, err := natpmp.ParseResponse(packet); err == nil && response.Result != natpmp.Success {
		a.found.Fault = "result " + strconv.Itoa(int(response.Result))
	}
}

// askPCP asks for a port by MAP. A client that has the mapping knows its nonce.
func (a *asking) askPCP(ctx context.Context) {
	to := netip.AddrPortFrom(a.Client, a.Internal)
	request := pcp.Request{Opcode: pcp.Map, Lifetime: explainLifetime, Client: a.Client, Mapping: pcp.Mapping{
		Nonce: pcp.Nonce(a.nonceOf(to)), Protocol: uint8(a.Protocol), InternalPort: a.Internal,
		External: netip.AddrPortFrom(netip.IPv4Unspecified(), a.External),
	}}
	if a.Client.Is6() {
		request.External = netip.AddrPortFrom(netip.IPv6Unspecified(), a.External)
	}
	packet := a.pcp.Explain(a.Client, a.host, request.Append(nil), func(r portmap.Request) portmap.Answer {
		answer, _ := a.decide(ctx, r)
		return answer
	})
	if response, err := pcp.ParseResponse(packet); err == nil && response.Result != pcp.Success {
		a.found.Fault = fmt.Sprintf("result %d %v", uint8(response.Result), response.Result)
	}
}

// nonceOf returns the nonce of the PCP mapping to a target; zero: there is none.
func (a *asking) nonceOf(to netip.AddrPort) portmap.Nonce {
	for _, m := range a.table.List() {
		if c, ok := m.Claim(portmap.PCP); ok && m.Protocol == a.Protocol && m.Internal == to {
			return c.Nonce
		}
	}
	return portmap.Nonce{}
}

// askUPnP asks for a port by AddPortMapping, for any port by AddAnyPortMapping, and
// for a pinhole by AddPinhole.
func (a *asking) askUPnP(ctx context.Context) {
	call := upnpd.Invocation{Client: a.Client, Host: a.host, Device: a.device}
	lease, internal := strconv.Itoa(int(explainLifetime/time.Second)), strconv.Itoa(int(a.Internal))
	if a.Client.Is6() {
		call.Service, call.Action = "WANIPv6FirewallControl", "AddPinhole"
		call.Arguments = []upnpd.Argument{
			{"RemoteHost", ""}, {"RemotePort", "0"}, {"InternalClient", a.Client.String()}, {"InternalPort", internal},
			{"Protocol", strconv.Itoa(int(a.Protocol))}, {"LeaseTime", lease},
		}
	} else {
		call.Service, call.Action = "WANIPConnection", "AddPortMapping"
		if a.External == 0 {
			call.Action = "AddAnyPortMapping"
		}
		call.Arguments = []upnpd.Argument{
			{"NewRemoteHost", ""}, {"NewExternalPort", strconv.Itoa(int(a.External))}, {"NewProtocol", a.Protocol.String()},
			{"NewInternalPort", internal}, {"NewInternalClient", a.Client.String()}, {"NewEnabled", "1"},
			{"NewPortMappingDescription", ""}, {"NewLeaseDuration", lease},
		}
	}
	_, err := a.http.Explain(call, a.decide)
	if fault, ok := err.(upnp.Fault); ok {
		a.found.Fault = "error " + fault.Error()
	} else if err != nil {
		a.err = err
	}
}
