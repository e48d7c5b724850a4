package config

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net"
	"net/netip"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"

	"igdd/pkg/portmap"
)

// remark is a warning about a value that is accepted.
type remark struct{ error }

func (r remark) Unwrap() error { return r.error }

// isRemark reports whether an error is a remark.
func isRemark(err error) bool {
	var r remark
	return errors.As(err, &r)
}

// isRule reports whether a line of miniupnpd.conf is a permission rule, or meant
// to be one. Settings may have the same beginning: "allow_x=yes".
func isRule(line string) bool {
	for _, action := range [...]string{"allow", "deny"} {
		if hasPrefixFold(line, action) {
			key, _, found := strings.Cut(line[len(action):], "=")
			key = strings.TrimRight(key, blanks)
			return !found || key == "" || strings.ContainsAny(key, blanks+"0123456789")
		}
	}
	return looksLikeRule(line)
}

// looksLikeRule reports whether a line has two of external ports, hosts and internal
// ports in the places of a rule, whatever its action: "reject 80 192.168.1.5/33 80".
func looksLikeRule(line string) bool {
	action, rest := cutField(line)
	external, rest := cutField(rest)
	hosts, rest := cutField(rest)
	internal, _ := cutField(rest)
	internal, _, _ = strings.Cut(internal, "#")
	_, badExternal := parsePorts(external)
	_, badInternal := parsePorts(internal)
	badHosts := nameHosts(new(portmap.Rule), hosts)
	return !strings.Contains(action, "=") && countErrors(badExternal, badHosts, badInternal) < 2
}

// countErrors returns how many of the errors are not nil.
func countErrors(errs ...error) (n int) {
	for _, err := range errs {
		if err != nil {
			n++
		}
	}
	return n
}

// hasPrefixFold reports whether s begins with a prefix in any case.
func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// parseRule parses a permission rule:
//
//	allow|deny EPORT[-EPORT] ADDR[/MASK] IPORT[-IPORT] [regex] [# comment]
//
// where ADDR is an IPv4, IPv6 or hardware address.
//
// It accepts what every version of miniupnpd accepts, and a regex if it has the
// same meaning. What one version accepts and another refuses or understands
// otherwise, such as "80-90-100", "10/8" and "192.168.1/24", is an error, except
// for remarks. With an error, a rule that denies is returned as one that denies
// all that the line may mean.
func parseRule(line string) (portmap.Rule, error) {
	action, rest := cutField(line)
	external, rest := cutField(rest)
	hosts, rest := cutField(rest)
	internal, rest := cutField(rest)
	internal, comment, commented := strings.Cut(internal, "#")
	if commented {
		rest = "#" + comment + rest
	}
	r := portmap.Rule{Allow: action == "allow"}
	switch {
	case !r.Allow && !strings.EqualFold(action, "deny"):
		return unreadable(hasPrefixFold(action, "allow")), fmt.Errorf("%q is neither allow nor deny", action)
	case internal == "":
		return unreadable(r.Allow), errors.New("a rule has an external port, an address and an internal port")
	}
	var errs [4]error
	r.External, errs[0] = parseRange(external)
	errs[1] = nameHosts(&r, hosts)
	r.Internal, errs[2] = parseRange(internal)
	r.Description, errs[3] = parseDescription(rest)
	if err := cmp.Or(errs[:]...); err != nil {
		return widened(r, errs, strings.TrimLeft(rest, blanks)), err
	}
	return r, remarks(r, action, hosts)
}

// widened returns the rule to use for one with an invalid part: external ports,
// hosts, internal ports or description. That part matches everything. If more
// than one is invalid, or words are left over, there may be a blank in the wrong
// place, and the whole rule matches everything.
func widened(r portmap.Rule, errs [4]error, rest string) portmap.Rule {
	switch {
	case countErrors(errs[:]...) > 1 || errs[3] == nil && rest != "" && rest[0] != '#':
		return unreadable(r.Allow)
	case errs[0] != nil:
		r.External = everyPort
	case errs[1] != nil:
		r.Network, r.Mask = netip.IPv4Unspecified(), 0
	default: // the description may be the end of the internal ports
		r.Internal = everyPort
	}
	return r
}

// remarks returns a remark about a valid rule, if there is one.
func remarks(r portmap.Rule, action, hosts string) error {
	switch {
	case r.Prefix.IsSingleIP() && hosts != r.Prefix.String() && strings.Contains(hosts, "/"):
		return remark{fmt.Errorf("%s has bits beyond its mask, it is taken as the single address %v", hosts, r.Prefix.Addr())}
	case r.Prefix.IsValid() && r.Prefix.Addr().IsUnspecified() && r.Prefix.Bits() > 0:
		return remark{errors.New(":: is not a host's address: write ::/0 for every IPv6 address")}
	case r.Hardware != "" && !isUnicast(r.Hardware):
		return remark{fmt.Errorf("%s is not a host's hardware address", r.Hardware)}
	case !r.Allow && action != "deny":
		return remark{fmt.Errorf("%q is taken as deny", action)}
	case r.Network == netip.IPv4Unspecified() && r.Mask == prefixMask(32):
		return remark{errors.New("0.0.0.0 is not a host's address: write 0.0.0.0/0 for every host")}
	}
	return nil
}

// isUnicast reports whether a hardware address can be that of a host: it is not
// zero, and the group bit is not set (IEEE 802, section 8.2.2).
func isUnicast(hardware string) bool {
	a, err := net.ParseMAC(hardware)
	return err == nil && a[0]&1 == 0 && !bytes.Equal(a, make([]byte, len(a)))
}

// unreadable returns the rule to use for one that cannot be parsed: it matches
// everything.
func unreadable(allow bool) portmap.Rule {
	r := denyAll
	r.Allow = allow
	return r
}

const blanks = " \t\v\f\r\n"

// cutField returns the first word, and what follows it.
func cutField(s string) (field, rest string) {
	s = strings.TrimLeft(s, blanks)
	if i := strings.IndexAny(s, blanks); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

// parseRange is parsePorts for a rule in miniupnpd's form, which has no lists.
func parseRange(s string) (portmap.Ports, error) {
	ports, err := parsePorts(s)
	return portmap.Ports{ports}, err
}

// parsePorts parses a port or a range of ports.
func parsePorts(s string) (portmap.PortRange, error) {
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		last = first
	}
	from, err := parsePort(first)
	if err != nil {
		return portmap.PortRange{}, fmt.Errorf("%q is neither a port nor a range of ports", s)
	}
	to, err := parsePort(last)
	switch {
	case err != nil:
		return portmap.PortRange{}, fmt.Errorf("%q is neither a port nor a range of ports", s)
	case from > to:
		return portmap.PortRange{}, fmt.Errorf("port range %q: first port is above last port", s)
	}
	return portmap.PortRange{First: from, Last: to}, nil
}

// parsePort parses a decimal number, perhaps with leading zeros.
func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err
}

// nameHosts parses the hosts of a rule. Bits of an IPv4 address beyond its mask
// do not matter.
func nameHosts(r *portmap.Rule, s string) error {
	address, mask, masked := strings.Cut(s, "/")
	a, err := netip.ParseAddr(address)
	mac, notMAC := net.ParseMAC(address)
	switch {
	case err == nil && a.Is4():
		if r.Network, r.Mask = a, prefixMask(32); masked {
			r.Mask, err = parseMask(mask)
		}
	case err == nil:
		r.Prefix, err = parsePrefix(a, mask, masked)
	case notMAC == nil && len(mac) == 6 && (!masked || mask == "32"): // AstLinux's script appends it
		r.Hardware, err = mac.String(), nil
	case notMAC == nil:
		err = fmt.Errorf("invalid hardware address %q: use six octets without a mask", s)
	default:
		err = fmt.Errorf("invalid address %q: use a dotted IPv4, an IPv6 or a hardware address", address)
	}
	return err
}

// parsePrefix parses an IPv6 address with an optional mask. With bits beyond the
// mask it is a single host: AstLinux's script appends /32 to every address
// without a mask.
func parsePrefix(a netip.Addr, mask string, masked bool) (netip.Prefix, error) {
	host := netip.PrefixFrom(a, a.BitLen())
	switch {
	case a.Is4In6():
		return netip.Prefix{}, fmt.Errorf("%v is an IPv4 address: write %v", a, a.Unmap())
	case a.IsLinkLocalUnicast():
		return netip.Prefix{}, fmt.Errorf("no ports are mapped to the link-local address %v: write the host's hardware address", a)
	case a.Zone() != "":
		return netip.Prefix{}, fmt.Errorf("%v has a zone: write it without %%%s", a, a.Zone())
	case !masked:
		return host, nil
	}
	n, err := strconv.ParseUint(mask, 10, 8)
	if err != nil || int(n) > a.BitLen() {
		return netip.Prefix{}, fmt.Errorf("mask %q is not 0 to %d", mask, a.BitLen())
	}
	if network := netip.PrefixFrom(a, int(n)); network == network.Masked() {
		return network, nil
	}
	return host, nil
}

// parseMask parses a mask: its length, or dotted, perhaps not contiguous.
func parseMask(s string) (uint32, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Is4() {
		b := a.As4()
		return binary.BigEndian.Uint32(b[:]), nil
	}
	n, err := strconv.ParseUint(s, 10, 6)
	if err != nil || n > 32 {
		return 0, fmt.Errorf("mask %q is neither 0 to 32 nor dotted", s)
	}
	return prefixMask(int(n)), nil
}

// prefixMask returns the mask of a prefix length.
func prefixMask(n int) uint32 { return ^uint32(0) << (32 - n) }

// parseDescription parses what follows the ports: an optional regex and an
// optional comment.
func parseDescription(s string) (*regexp.Regexp, error) {
	s = strings.TrimLeft(s, blanks)
	if s == "" || s[0] == '#' {
		return nil, nil
	}
	expr, rest := cutRegex(s)
	if rest = strings.TrimLeft(rest, blanks); rest != "" && rest[0] != '#' {
		return nil, fmt.Errorf("%q follows the regex; quote one that has blanks", rest)
	}
	switch {
	case expr == "":
		return nil, nil
	case expr[0] == '-':
		return nil, fmt.Errorf("%q looks like the end of a range of ports; write ranges without blanks", expr)
	}
	return compileRegex(expr)
}

// cutRegex returns a regex, in quotes or a single word, and what follows it. A
// backslash keeps the next character from ending it, and stays in the regex.
func cutRegex(s string) (expr, rest string) {
	ends := blanks
	if s[0] == '"' || s[0] == '\'' {
		ends, s = s[:1], s[1:]
	}
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\':
			i++
		case strings.IndexByte(ends, s[i]) >= 0:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

// caseless makes a regular expression ignore case.
const caseless = "(?i)"

// compileRegex compiles a POSIX extended regular expression that ignores case.
// Each of them has the same meaning in the syntax of package regexp.
func compileRegex(expr string) (*regexp.Regexp, error) {
	if _, err := syntax.Parse(expr, syntax.POSIX); err != nil {
		return nil, fmt.Errorf("regex %q: %w", expr, err)
	}
	if strings.ContainsFunc(expr, isControl) {
		return nil, fmt.Errorf("regex %q has a control character, which no description has", expr)
	}
	return regexp.Compile(caseless + expr)
}

// RuleAndPlace returns a rule as RuleText does, for one in words with the place where it
// stands.
func RuleAndPlace(r portmap.Rule) string {
	if r.Place == "" {
		return RuleText(r)
	}
	return fmt.Sprintf("%s (%s)", RuleText(r), r.Place)
}

// RuleText returns a rule in the form in which it was written.
func RuleText(r portmap.Rule) string {
	if r.Place != "" {
		return inWords(r)
	}
	rule := fmt.Sprintf("%s %v %s %v", actionText(r), r.External, hostsText(r), r.Internal)
	if r.Description == nil {
		return rule
	}
	return rule + " " + quoteRegex(strings.TrimPrefix(r.Description.String(), caseless))
}

// actionText returns what a rule does.
func actionText(r portmap.Rule) string {
	if r.Allow {
		return "allow"
	}
	return "deny"
}

func hostsText(r portmap.Rule) string {
	switch {
	case r.Hardware != "":
		return r.Hardware
	case r.Prefix.IsValid():
		return r.Prefix.String()
	}
	return fmt.Sprintf("%v/%s", r.Network, maskText(r.Mask))
}

// quoteRegex puts a regex in quotes. cutRegex is its inverse.
func quoteRegex(expr string) string {
	b := []byte{'"'}
	for i := 0; i < len(expr); i++ {
		switch {
		case expr[i] == '"':
			b = append(b, '\\')
		case expr[i] == '\\' && i+1 < len(expr):
			b = append(b, '\\')
			i++
		}
		b = append(b, expr[i])
	}
	return string(append(b, '"'))
}

func maskText(m uint32) string {
	if n := bits.LeadingZeros32(^m); m == prefixMask(n) {
		return strconv.Itoa(n)
	}
	return dotted(m).String()
}
