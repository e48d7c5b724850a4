package control

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"igdd/pkg/portmap"
)

// explain says what a client that asks for a port would be answered.
func (s *Server) explain(ctx context.Context, q request, say func(reply) error) error {
	protocol := protocols[q.Protocol]
	if protocol == 0 || !q.Client.IsValid() || q.Internal == 0 {
		return fmt.Errorf("explain needs a client, a protocol and the client's port")
	}
	req := portmap.Request{
		Origin:   portmap.NATPMP,
		Client:   q.Client,
		Protocol: protocol,
		Internal: netip.AddrPortFrom(q.Client, q.Internal),
		External: q.First,
		Lifetime: explainLifetime,
	}
	if q.Client.Is6() {
		req.Origin = portmap.PCP // NAT-PMP has no IPv6 form
	}
	e, err := s.Table.Explain(ctx, req)
	if err != nil {
		return err
	}
	v := s.verdict(e)
	if v.Granted && q.First != 0 && v.Port != q.First {
		// Another port than was asked for: say what is wrong with that one.
		req.Exact = true
		if e, err = s.Table.Explain(ctx, req); err != nil {
			return err
		}
		exact := s.verdict(e)
		v.Reason = fmt.Sprintf("port %d instead of %d: %s", v.Port, q.First, exact.Reason)
		v.Rule, v.Holder = exact.Rule, exact.Holder
	}
	if v.Granted && q.Client.Is4() {
		v.Firewall = s.Conditional(protocol, v.Port)
	}
	return say(reply{Verdict: &v})
}

// verdict words an explanation.
func (s *Server) verdict(e portmap.Explanation) Verdict {
	v := Verdict{Granted: e.Refusal == portmap.Granted, Reason: e.Refusal.String()}
	if e.Rule >= 0 {
		v.Rule = s.Rule(e.Rule)
	}
	if e.Block != nil {
		v.Reason = "the operator's veto until " + e.Block.Until.Format("15:04:05")
	}
	m := e.Mapping
	if m == nil {
		return v
	}
	if v.Granted {
		v.Port = externalPort(m)
	}
	if !v.Granted || slices.ContainsFunc(s.Table.List(), func(o *portmap.Mapping) bool { return o.Key == m.Key }) {
		v.Holder = describe(m)
	}
	return v
}

// describe names a mapping in a sentence.
func describe(m *portmap.Mapping) string {
	var origins []string
	for _, c := range m.Claims {
		origins = append(origins, c.Origin.String())
	}
	if len(origins) == 0 {
		origins = []string{"the firewall's own"}
	}
	return fmt.Sprintf("%v -> %v (%s)", m.Key, m.Internal, strings.Join(origins, ", "))
}
