package control

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"igdd/pkg/portmap"
)

// explain sends what a client that asks for a port would be answered.
func (s *Server) explain(ctx context.Context, r request, send func(reply) error) error {
	protocol := protocols[r.Protocol]
	if protocol == 0 || !r.Client.IsValid() || r.Internal == 0 {
		return errors.New("explain needs a client, a protocol and the client's port")
	}
	req := portmap.Request{
		Origin:   portmap.NATPMP,
		Client:   r.Client,
		Protocol: protocol,
		Internal: netip.AddrPortFrom(r.Client, r.Internal),
		External: r.First,
		Lifetime: explainLifetime,
	}
	if r.Client.Is6() {
		req.Origin = portmap.PCP // NAT-PMP has no IPv6 form
	}
	e, err := s.opts.Table.Explain(ctx, req)
	if err != nil {
		return err
	}
	v := s.verdict(e)
	if v.Granted && r.First != 0 && v.Port != r.First {
		// Another port than the one asked for: say why not that one.
		req.Exact = true
		if e, err = s.opts.Table.Explain(ctx, req); err != nil {
			return err
		}
		exact := s.verdict(e)
		v.Reason = fmt.Sprintf("port %d instead of %d: %s", v.Port, r.First, exact.Reason)
		v.Rule, v.Holder = exact.Rule, exact.Holder
	}
	if r.Client.Is4() {
		v.Firewall = s.portRules(protocol, v.Port, r.First)
	}
	return send(reply{Verdict: &v})
}

// portRules returns the firewall's rules that take connections to the port that
// was granted, and to the one that was asked for; 0: none.
func (s *Server) portRules(p portmap.Protocol, granted, asked uint16) (rules []string) {
	for _, port := range slices.Compact([]uint16{granted, asked}) {
		if port != 0 {
			rules = append(rules, s.opts.PortRules(p, port)...)
		}
	}
	return rules
}

// verdict returns an explanation as the tool gets it.
func (s *Server) verdict(e portmap.Explanation) verdict {
	v := verdict{Schema: schemaVersion, Granted: e.Refusal == portmap.Granted, Reason: e.Refusal.String()}
	if e.Rule != nil {
		v.Rule = s.opts.RuleText(*e.Rule)
	}
	if e.Block != nil {
		v.Reason = "blocked by the operator " + untilText(blockEntry(portmap.BlockRecord{Block: e.Block}, time.Now()))
	}
	if e.Mapping != nil {
		s.addMapping(&v, e.Mapping)
	}
	return v
}

// addMapping adds to a verdict the mapping that was granted, or the one that
// prevents it.
func (s *Server) addMapping(v *verdict, m *portmap.Mapping) {
	if v.Granted {
		v.Port = m.ExternalPort()
	}
	if v.Granted && m.Dormant {
		v.Reason = "the mapping is dormant: " + m.Reason.String()
	}
	if !v.Granted || slices.ContainsFunc(s.opts.Table.List(), func(o *portmap.Mapping) bool { return o.Key == m.Key }) {
		v.Holder = m.String()
	}
}
