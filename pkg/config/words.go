package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"igdd/pkg/portmap"
)

// addWords applies permission rules in words, one a line or between semicolons, and
// warns of those that are invalid. A comment lasts until the end of its line.
func (d *draft) addWords(text string) {
	at, lines := d.where, strings.Split(text, "\n")
	for i, line := range lines {
		if len(lines) > 1 {
			d.where = fmt.Sprintf("%s, line %d", at, i+1)
		}
		line, _ = uncomment(line)
		for rule := range strings.SplitSeq(line, ";") {
			if err := d.addInWords(strings.Trim(rule, blanks)); err != nil {
				d.warn(d.where, err)
			}
		}
	}
	d.where = at
}

// cutRule returns what follows the key rule in a line of miniupnpd.conf. A rule that
// denies must not be lost for a capital letter or a missing equals sign.
func cutRule(line string) (rule string, found bool) {
	const key = "rule"
	if !hasPrefixFold(line, key) {
		return "", false
	}
	rest := strings.TrimLeft(line[len(key):], blanks)
	rule, found = strings.CutPrefix(rest, "=")
	return rule, found || rest != "" && len(rest) < len(line)-len(key)
}

// addInWords appends a permission rule in words, or binds a name. An invalid one allows
// nothing, and denies all that it may have been meant to deny.
func (d *draft) addInWords(line string) error {
	words := strings.Fields(line)
	if len(words) == 0 {
		return nil
	}
	if !strings.EqualFold(words[0], "name") {
		rule, err := d.parseWords(words)
		return d.takeRule(line, rule, err)
	}
	if err := d.bindName(words[1:]); err != nil {
		d.BadRules++
		return fmt.Errorf("%q skipped: %w", line, err)
	}
	return nil
}

// addOfOption appends the permission rule of an option, in either form. One in words may
// follow the key rule.
func (d *draft) addOfOption(line string) error {
	rule, found := cutRule(line)
	switch {
	case found:
		return d.addInWords(rule)
	case d.isInWords(line):
		return d.addInWords(line)
	}
	return d.addRule(line)
}

// isInWords reports whether a line that begins as a rule goes on in words.
func (d *draft) isInWords(line string) bool {
	_, rest := cutField(line)
	keyword, _ := cutField(rest)
	return d.condition(strings.ToLower(keyword)) != nil
}

// parseWords parses a permission rule in words:
//
//	allow|deny [external PORTS] [internal PORTS] [host HOST] [interface NAMES] [from PROTOCOLS]
//
// What is left out matches everything. With an error, so does the part that is
// invalid, or the whole rule if it is not known which part that is.
func (d *draft) parseWords(words []string) (portmap.Rule, error) {
	r := portmap.Rule{Allow: strings.EqualFold(words[0], "allow"), Network: netip.IPv4Unspecified(), Place: d.where}
	if !r.Allow && !strings.EqualFold(words[0], "deny") {
		return r, fmt.Errorf("%q is neither allow nor deny", words[0])
	}
	every := r
	var invalid, odd error
	var seen []string
	for rest := words[1:]; len(rest) > 0; rest = rest[2:] {
		keyword := strings.ToLower(rest[0])
		condition := d.condition(keyword)
		switch {
		case condition == nil:
			return every, otherForm(words, fmt.Errorf("%q is none of external, internal, host, interface and from", rest[0]))
		case slices.Contains(seen, keyword):
			return every, fmt.Errorf("%q is there twice; write lists with commas", keyword)
		case len(rest) == 1:
			return every, fmt.Errorf("nothing follows %q", rest[0])
		}
		seen = append(seen, keyword)
		if err := condition(&r, rest[1]); isRemark(err) {
			odd = err
		} else {
			invalid = cmp.Or(invalid, err)
		}
	}
	return r, cmp.Or(invalid, odd)
}

// otherForm returns an error that tells how to write a rule in miniupnpd's form in
// words, if it is one, else err.
func otherForm(words []string, err error) error {
	r, invalid := parseRule(strings.Join(words, " "))
	switch {
	case invalid != nil:
		return err
	case r.Description != nil:
		return errors.New("this is miniupnpd's form, and what clients write decides nothing in a rule in words")
	}
	return fmt.Errorf("this is miniupnpd's form; write %q", inWords(r))
}

// condition returns the function that reads what follows a keyword; nil: there is no
// such keyword. With an error other than a remark it leaves the rule as it is.
func (d *draft) condition(keyword string) func(*portmap.Rule, string) error {
	switch keyword {
	case "external":
		return func(r *portmap.Rule, s string) (err error) { r.External, err = parsePortList(s); return err }
	case "internal":
		return func(r *portmap.Rule, s string) (err error) { r.Internal, err = parsePortList(s); return err }
	case "from":
		return func(r *portmap.Rule, s string) (err error) { r.Origins, err = parseOrigins(s); return err }
	case "host":
		return d.setHost
	case "interface":
		return func(r *portmap.Rule, s string) (err error) { r.Interfaces, err = d.parseInterfaces(s); return err }
	}
	return nil
}

// parsePortList parses ports and ranges of ports with commas between them.
func parsePortList(s string) (list portmap.Ports, err error) {
	for word := range strings.SplitSeq(s, ",") {
		ports, err := parsePorts(word)
		if err != nil {
			return nil, err
		}
		list = append(list, ports)
	}
	return list, nil
}

// originWord returns a protocol that clients ask by as rules in words name it: natpmp,
// pcp or upnp.
func originWord(o portmap.Origin) string {
	return strings.ToLower(strings.ReplaceAll(o.String(), "-", ""))
}

// parseOrigins parses names of protocols with commas between them.
func parseOrigins(s string) (list []portmap.Origin, err error) {
	all := []portmap.Origin{portmap.NATPMP, portmap.PCP, portmap.UPnP}
	for word := range strings.SplitSeq(s, ",") {
		i := slices.IndexFunc(all, func(o portmap.Origin) bool { return strings.EqualFold(word, originWord(o)) })
		if i < 0 {
			return nil, fmt.Errorf("%q is none of natpmp, pcp and upnp", word)
		}
		list = append(list, all[i])
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

// setHost sets the hosts of a rule: an address, a network, a hardware address, or a name
// that is bound to one.
func (d *draft) setHost(r *portmap.Rule, s string) error {
	if isHostName(s) {
		hardware, bound := d.names[shortName(s)]
		switch {
		case !bound:
			return fmt.Errorf("no line above says whose name %q is, and clients choose their names: write \"name %[1]s HARDWARE-ADDRESS\"", s)
		case hardware == "":
			return fmt.Errorf("the name %q has more than one hardware address", s)
		}
		r.Network, r.Hardware = netip.Addr{}, hardware
		return nil
	}
	host := *r
	host.Network = netip.Addr{}
	if err := nameHosts(&host, s); err != nil {
		return err
	}
	if err := checkHost(&host, s); err != nil {
		return err
	}
	*r = host
	return nil
}

// checkHost returns an error for hosts that mean no host, or another one than they seem
// to.
func checkHost(host *portmap.Rule, s string) error {
	address, _, masked := strings.Cut(s, "/")
	a, _ := netip.ParseAddr(address) // invalid for a hardware address
	p, err := netip.ParsePrefix(s)
	switch {
	case host.Hardware != "" && (masked || !isUnicast(host.Hardware)):
		return fmt.Errorf("%s is not a host's hardware address", s)
	case !masked && a.IsUnspecified():
		return fmt.Errorf("%s is not a host's address: leave it out for every host", s)
	case masked && err != nil:
		return fmt.Errorf("%q: write the mask as a number of bits", s)
	case masked && p != p.Masked():
		return fmt.Errorf("%s has bits beyond its mask: write %v or %v", s, p.Addr(), p.Masked())
	}
	return nil
}

// bindName binds a name to a hardware address, which follows it.
func (d *draft) bindName(words []string) error {
	if len(words) != 2 {
		return errors.New("write a name and one hardware address")
	}
	var host portmap.Rule
	switch err := nameHosts(&host, words[1]); {
	case !isHostName(words[0]):
		return fmt.Errorf("%q is not a host's name", words[0])
	case err != nil || host.Hardware == "" || checkHost(&host, words[1]) != nil:
		return fmt.Errorf("%q is not a host's hardware address", words[1])
	case !d.bind(words[0], host.Hardware):
		return fmt.Errorf("%q has another hardware address already: give each a name of its own", words[0])
	}
	return nil
}

// bind binds a name to a hardware address. It reports false if the name has another one:
// then it is not known any more which host it means.
func (d *draft) bind(name, hardware string) bool {
	if d.names == nil {
		d.names = make(map[string]string)
	}
	name = shortName(name)
	if known, bound := d.names[name]; bound && known != hardware {
		d.names[name] = ""
		return false
	}
	d.names[name] = hardware
	return true
}

// bindStatic binds the names in AstLinux's STATICHOSTS, whose lines are
// "name[ alias]~IPv4 address~hardware address~...". Those without a hardware address are
// names for DNS only.
func (d *draft) bindStatic(text string) {
	for line := range strings.Lines(text) {
		columns := strings.Split(line, "~")
		names := strings.Fields(columns[0])
		if len(columns) < 3 || len(names) == 0 || !isHostName(names[0]) {
			continue
		}
		if a, err := net.ParseMAC(strings.Trim(columns[2], blanks)); err == nil && isUnicast(a.String()) {
			d.bind(names[0], a.String())
		}
	}
}

// shortName returns a host's name as names are compared: without domain and case.
func shortName(name string) string {
	short, _, _ := strings.Cut(name, ".")
	return strings.ToLower(short)
}

// isHostName reports whether s is a name of a host: letters, digits, dashes,
// underscores and dots, and no address.
func isHostName(s string) bool {
	odd := func(r rune) bool {
		return !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-", r)
	}
	isNumber := strings.Trim(s, "0123456789_.-") == ""
	return shortName(s) != "" && !isNumber && !strings.ContainsFunc(s, odd) && nameHosts(new(portmap.Rule), s) != nil
}

// inWords returns a rule in words.
func inWords(r portmap.Rule) string {
	words := []string{actionText(r)}
	add := func(keyword, value string, isSet bool) {
		if isSet {
			words = append(words, keyword, value)
		}
	}
	add("external", r.External.String(), len(r.External) > 0)
	add("internal", r.Internal.String(), len(r.Internal) > 0)
	add("host", strings.TrimSuffix(strings.TrimSuffix(hostsText(r), "/32"), "/128"), r.Hardware != "" || r.Prefix.IsValid() || r.Mask != 0)
	add("interface", strings.Join(r.Interfaces, ","), len(r.Interfaces) > 0)
	var origins []string
	for _, o := range r.Origins {
		origins = append(origins, originWord(o))
	}
	add("from", strings.Join(origins, ","), len(origins) > 0)
	return strings.Join(words, " ")
}
