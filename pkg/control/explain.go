package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"igdd/pkg/hosts"
	"igdd/pkg/portmap"
)

// Question is what the operator asks explain: what a client would be answered that asks
// by a protocol for an external port, 0 for any.
type Question struct {
	Origin             portmap.Origin
	Client             netip.Addr
	Protocol           portmap.Protocol
	External, Internal uint16
}

// GetsOtherPort reports whether the client would get another port than the one that it
// asks for.
func (q Question) GetsOtherPort(d *portmap.Explanation) bool {
	return d.Refusal == portmap.Granted && q.External != 0 && q.External != toldPort(d.Mapping)
}

// Explanation is what the client would be answered, and why.
type Explanation struct {
	// Unheard is why it would get no answer; "": it would get one.
	Unheard string
	// Fault is the error that it would be told, in the words of its protocol; "": none.
	Fault string
	// Decision is what the table would decide; nil: it would not be asked.
	Decision *portmap.Explanation
	// Exact is, if it would get another port than the one that it asks for, what the
	// table would decide if it accepted no other; else nil.
	Exact *portmap.Explanation
	// Outgoing is by which port what the client sends would leave, as text; "": by
	// whichever the firewall chooses.
	Outgoing string
}

// origins are the protocols that clients ask by, in the order of the answers.
var origins = [...]portmap.Origin{portmap.NATPMP, portmap.PCP, portmap.UPnP}

// explain sends what a client that asks for a port would be answered, by the protocol
// that the request names or by all.
func (s *Server) explain(ctx context.Context, r request, send func(reply) error) error {
	q := Question{Client: r.Client, Protocol: protocols[r.Protocol], External: r.First, Internal: r.Internal}
	if q.Protocol == 0 || q.Internal == 0 {
		return errors.New("explain needs a client, a protocol and the client's port")
	}
	if r.Host != "" || r.MAC != "" {
		var err error
		if q.Client, err = s.addressOf(r); err != nil {
			return err
		}
	}
	for _, o := range origins {
		if r.As != "" && r.As != o.String() {
			continue
		}
		q.Origin = o
		e, err := s.opts.Explain(ctx, q)
		if err != nil {
			return err
		}
		v := s.verdict(q, e)
		if err := send(reply{Verdict: &v}); err != nil {
			return err
		}
	}
	return nil
}

// addressOf returns the address of the host that a request names, the IPv4 address if
// it has one.
func (s *Server) addressOf(r request) (netip.Addr, error) {
	known, err := s.opts.Hosts()
	name, found := hosts.ShortName(r.Host), netip.Addr{}
	for a, h := range known {
		isNamed := r.MAC != "" && h.Hardware.String() == r.MAC || name != "" && hosts.ShortName(h.Name) == name
		if isNamed && (!found.IsValid() || a.Is4() && (!found.Is4() || h.Present())) {
			found = a
		}
	}
	if err == nil && !found.IsValid() {
		err = fmt.Errorf("no host %s is known; name its address", r.Host+r.MAC)
	}
	return found, err
}

// verdict returns an explanation as the tool gets it.
func (s *Server) verdict(q Question, e Explanation) verdict {
	v := verdict{Schema: schemaVersion, Origin: q.Origin.String(), Client: q.Client, Unheard: e.Unheard, Fault: e.Fault}
	d := e.Decision
	switch {
	case e.Unheard != "":
		v.Reason = e.Unheard
		s.addDormant(&v, q)
		return v
	case d == nil:
		v.Reason = "the protocol does not allow such a request"
		return v
	}
	v.Granted = d.Refusal == portmap.Granted && e.Fault == ""
	if v.Granted {
		v.Port, v.Upstream, v.Outgoing = toldPort(d.Mapping), upstreamText(d.Mapping), e.Outgoing
	}
	s.addReason(&v, d)
	if e.Exact != nil {
		s.addReason(&v, e.Exact)
		if m := e.Exact.Mapping; m != nil && m.Key == d.Mapping.Key {
			v.Reason = "the client's port has a mapping already"
		}
		v.Reason = fmt.Sprintf("port %d instead of %d: %s", v.Port, q.External, v.Reason)
	}
	if q.Client.Is4() {
		v.Firewall = s.portRules(q, &v, d)
	}
	return v
}

// toldPort returns the external port of a mapping that its clients are told.
func toldPort(m *portmap.Mapping) uint16 { return cmp.Or(m.OuterPort(), m.ExternalPort()) }

// upstreamText returns what the router in front does for a mapping, which may be a new
// one; "": none is asked.
func upstreamText(m *portmap.Mapping) string {
	switch f := m.Forwarding; f.State {
	case portmap.NotAsked:
		return ""
	case portmap.Asking:
		return "the router in front is asked for the port, too"
	default:
		return f.String()
	}
}

// addDormant adds the dormant mapping of a client that is not heard, as when its network
// is not there.
func (s *Server) addDormant(v *verdict, q Question) {
	to := netip.AddrPortFrom(q.Client, q.Internal)
	for _, m := range s.opts.Table.List() {
		if m.Dormant && m.Internal == to && m.Protocol == q.Protocol {
			v.Holder = m.String()
			v.Reason += "; its mapping is dormant: " + m.Reason.String()
		}
	}
}

// addReason adds what decides: the rule, the block, the mapping that is in the way or
// would be renewed.
func (s *Server) addReason(v *verdict, e *portmap.Explanation) {
	v.Reason, v.Rule, v.Block, v.BlockUntil, v.Holder = s.reason(e), "", 0, nil, ""
	if e.Block != nil {
		b := blockEntry(portmap.BlockRecord{Block: e.Block}, time.Now())
		v.Block, v.BlockUntil = b.ID, b.Until
	} else if e.Rule != nil {
		v.Rule = s.opts.RuleText(*e.Rule)
	}
	isHeld := func(m *portmap.Mapping) bool { return e.Mapping != nil && m.Key == e.Mapping.Key }
	if e.Mapping != nil && (e.Refusal != portmap.Granted || slices.ContainsFunc(s.opts.Table.List(), isHeld)) {
		v.Holder = e.Mapping.String()
	} else if e.Forward != nil {
		v.Holder = e.Forward.String()
	}
}

// reason returns why the table decides so, as text.
func (s *Server) reason(e *portmap.Explanation) string {
	switch {
	case e.Refusal == portmap.Granted && e.Mapping.Dormant:
		return "the mapping is dormant: " + e.Mapping.Reason.String()
	case e.HostUnknown:
		return portmap.UnknownHost.String()
	case e.Ambiguous:
		return e.Refusal.String() + ": more than one interface has the host's network, so no rule for an interface allows it"
	case e.Refusal == portmap.QuotaExceeded, e.Refusal == portmap.TableFull:
		return e.Refusal.String() + s.opts.Limits()
	case e.Refusal == portmap.NoPorts, e.Refusal == portmap.NotProvided, e.Refusal == portmap.ShareExceeded:
		return e.Refusal.String() + s.opts.Ports()
	}
	return e.Refusal.String()
}

// portRules returns the firewall's rules that take connections to the port that would
// be granted, and to the one that is asked for.
func (s *Server) portRules(q Question, v *verdict, d *portmap.Explanation) (rules []string) {
	asked, granted := q.External, uint16(0)
	if v.Granted {
		granted = d.Mapping.ExternalPort()
	}
	switch {
	case asked == 0 && granted == 0:
		asked = q.Internal // the first that is tried
	case asked == v.Port:
		asked = granted // the port that the client is told can be one of the router in front
	}
	for _, port := range slices.Compact([]uint16{granted, asked}) {
		if port != 0 {
			rules = append(rules, s.opts.PortRules(q.Protocol, port)...)
		}
	}
	return rules
}
