package control

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
)

// trace prints the path of a connection, from outside by each uplink.
func (t *tool) trace(args []string) (exitStatus, error) {
	r, err := parseTrace(args)
	if err != nil {
		return 0, err
	}
	paths, err := t.queryPaths(r)
	switch {
	case err == nil && t.probe && slices.ContainsFunc(paths, path.isFromLAN):
		err = fmt.Errorf("%w: --probe is for connections from outside: %v is on a LAN", errUsage, r.Source.Addr())
	case err == nil && t.probe:
		err = t.probeAll(paths)
	}
	if err != nil {
		return 0, err
	}
	status := exitUnless(!slices.ContainsFunc(paths, path.isBroken), exitNo)
	if t.json {
		return status, t.encode(paths)
	}
	for _, p := range paths {
		if err := p.print(t.stdout); err != nil {
			return 0, err
		}
	}
	return status, nil
}

// isFromLAN reports whether the connection is that of a host on a LAN.
func (p path) isFromLAN() bool { return p.LAN != "" }

// isBroken reports whether the connection does not arrive, as far as is known, nothing
// listens where it arrives, or it is not known as which source it leaves.
func (p path) isBroken() bool {
	hasNoSource := p.isFromLAN() && !p.Router && p.Source == nil
	return p.Fate != fateArrives || p.Listener == listenerNone || p.Listener == listenerSilent || hasNoSource
}

// parseTrace reads SOURCE PROTOCOL PORT, or SOURCE PROTOCOL ADDRESS:PORT.
func parseTrace(args []string) (request, error) {
	r := request{Do: doTrace}
	if len(args) != 3 {
		return r, fmt.Errorf("%w: trace needs SOURCE PROTOCOL PORT", errUsage)
	}
	var err error
	if r.Source, err = parseSource(args[0]); err != nil {
		return r, err
	}
	if r.Protocol, err = parseProtocol(args[1]); err != nil {
		return r, err
	}
	if to, err := netip.ParseAddrPort(args[2]); err == nil {
		r.Destination, r.First = to.Addr().Unmap(), to.Port()
	} else if r.First, err = parsePort(args[2]); err != nil {
		return r, err
	}
	return r, r.checkAddresses()
}

// checkAddresses returns an error for addresses and a port between which trace knows no
// connection.
func (r *request) checkAddresses() error {
	source := r.Source.Addr()
	switch {
	case r.First == 0:
		return fmt.Errorf("%w: a connection cannot go to port 0", errUsage)
	case isMartian(source):
		return fmt.Errorf("%w: %v cannot be the source of a connection (martian source): name a host on the Internet or on a LAN", errUsage, source)
	case source.Is6() && !r.Destination.IsValid():
		return fmt.Errorf("%w: IPv6 addresses are not translated: write the port as [ADDRESS]:PORT, with the address of the host", errUsage)
	case r.Destination.IsValid() && source.Is6() != r.Destination.Is6():
		return fmt.Errorf("%w: %v and %v are not of the same family", errUsage, source, r.Destination)
	}
	return nil
}

// isMartian reports whether Linux accepts packets from the address by no interface but
// lo (RFC 1812, section 5.3.7; RFC 4291, sections 2.5.2, 2.5.3 and 2.7).
func isMartian(source netip.Addr) bool {
	isThisNetwork := netip.PrefixFrom(netip.IPv4Unspecified(), 8).Contains
	broadcast := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	return source.IsUnspecified() || source.IsLoopback() || source.IsMulticast() || isThisNetwork(source) || source == broadcast
}

// parseSource reads an address, or an address and a port; without one that is 0.
func parseSource(s string) (netip.AddrPort, error) {
	at, err := netip.ParseAddrPort(s)
	if err != nil {
		var a netip.Addr
		a, err = netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
		at = netip.AddrPortFrom(a, 0)
	}
	if err != nil || at.Addr().Zone() != "" {
		return at, fmt.Errorf("%w: invalid source %q: write ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT", errUsage, s)
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), nil
}

// queryPaths asks the daemon for the path of a connection, from outside by each uplink.
func (t *tool) queryPaths(r request) ([]path, error) {
	return query(t, r, func(a reply) *path { return a.Path })
}

// print prints a path: a heading, a line for each rule, and what becomes of the
// connection.
func (p path) print(out io.Writer) error {
	var text strings.Builder
	fmt.Fprintf(&text, "%s from %s to %v by %s\n", p.Protocol, p.From, p.To, cmp.Or(p.LAN, p.Uplink))
	for _, s := range p.Steps {
		text.WriteString(s.line())
	}
	if p.Mapping != nil {
		fmt.Fprintf(&text, "mapping:   %s\n", p.Mapping)
	}
	if note := p.listenerText(); note != "" {
		fmt.Fprintf(&text, "listener:  %s\n", note)
	}
	fmt.Fprintf(&text, "verdict:   %s\n", printable(p.verdict()))
	_, err := io.WriteString(out, text.String())
	return err
}

// line returns the line of a rule, indented by the depth of its chain.
func (s pathStep) line() string {
	at := fmt.Sprintf("%s%s %s %d: ", strings.Repeat("  ", s.Depth+1), s.Table, s.Chain, s.Number)
	if s.Program != "" {
		at += "(" + s.Program + ") "
	}
	at += printable(s.Rule)
	if !s.Certain {
		at += "  ...perhaps"
	}
	return at + "\n"
}

// String returns the mapping as text: its host, its protocols and its description.
func (m *pathMapping) String() string {
	host := m.Client.String()
	if m.HostName != "" {
		host = printable(m.HostName) + " (" + host + ")"
	}
	text := fmt.Sprintf("port %d to port %d of %s, by %s", m.ExternalPort, m.ClientPort, host, strings.Join(m.Origins, ", "))
	if m.Description != "" {
		text += ": " + printable(m.Description)
	}
	return text
}

// listenerText returns what is known of the listener, "" if that says nothing.
func (p path) listenerText() string {
	switch {
	case p.Router && p.Listener == listenerYes:
		return "a program of the router listens there"
	case p.Router && p.Listener == listenerNone:
		return "no program of the router listens there"
	case p.Listener == "" && p.Fate != fateStopped && p.Destination.IsValid() && !p.isFromLAN():
		return "not asked; --probe does"
	}
	return map[string]string{
		listenerYes:     "listens",
		listenerNone:    "refused: nothing listens there",
		listenerSilent:  "no answer: the host is down, or its own firewall stops the router",
		listenerUnknown: "not known: a datagram to it was not answered",
		listenerForeign: "not asked: it is not on a LAN that the daemon serves",
	}[p.Listener]
}

// verdict returns what becomes of the connection, as text.
func (p path) verdict() string {
	arrives := p.arrival()
	switch {
	case p.Fate == fateArrives:
		return arrives
	case p.Fate == fateStopped:
		return "stopped: " + p.By
	case p.Destination.IsValid() && p.By == p.DependsOn:
		return "perhaps " + arrives + "; that depends on a rule which cannot be judged: " + p.By
	case p.Destination.IsValid():
		return "perhaps " + arrives + ", perhaps stopped: " + p.By + "; that depends on a rule which cannot be judged: " + p.DependsOn
	}
	return "perhaps forwarded elsewhere: " + p.DependsOn
}

// arrival returns where the connection goes and as which source, as text.
func (p path) arrival() string {
	switch source := p.sourceText(); {
	case p.Router:
		return fmt.Sprintf("arrives at %v, the router itself", p.Destination)
	case p.isFromLAN():
		return fmt.Sprintf("leaves by %s for %v %s", p.Uplink, p.Destination, cmp.Or(source, "as "+p.From+", which is not translated"))
	case p.Source != nil && source != "":
		return fmt.Sprintf("arrives at %v %s", p.Destination, source)
	}
	return fmt.Sprintf("arrives at %v", p.Destination)
}

// sourceText returns as which source the connection goes on, "" if it keeps its own.
func (p path) sourceText() string {
	s, own := p.Source, p.From
	if at, err := netip.ParseAddrPort(own); err == nil {
		own = at.Addr().String()
	}
	switch {
	case s == nil && p.SourceBy == "":
		return "as one of two sources: both variants of iptables translate it, and it is not known which of them comes first"
	case s == nil:
		return "as a source that depends on a rule which cannot be judged: " + p.SourceBy
	case s.Kept && s.Address.String() == own:
		return ""
	case s.FirstPort == 0 && s.Kept:
		return fmt.Sprintf("as %v", s.Address)
	case s.FirstPort == 0:
		return fmt.Sprintf("as %v with a random port", s.Address)
	case s.FirstPort < s.LastPort:
		return fmt.Sprintf("as %v with a port from %d to %d", s.Address, s.FirstPort, s.LastPort)
	case s.Kept:
		return fmt.Sprintf("as %v, unless another connection has that port", netip.AddrPortFrom(s.Address, s.FirstPort))
	}
	return fmt.Sprintf("as %v", netip.AddrPortFrom(s.Address, s.FirstPort))
}
