package config

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"igdd/pkg/portmap"
)

// maxFile is the maximum size of a file of settings, in bytes.
const maxFile = 1 << 20

// readLimited reads a file of up to maxFile bytes.
func readLimited(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	return b, err
}

// readConf reads the settings of a miniupnpd.conf. Invalid lines are skipped with
// a warning, since scripts that write such files rely on it.
func (d *draft) readConf(path string) error {
	b, err := readLimited(path)
	if err != nil {
		return err
	}
	d.takeConf(path, string(b))
	return nil
}

// takeConf applies the text of the miniupnpd.conf at path.
func (d *draft) takeConf(path, conf string) {
	n := 0
	for line := range strings.Lines(plain(conf)) {
		n++
		d.where = fmt.Sprintf("%s:%d", path, n)
		if err := d.takeLine(strings.Trim(line, blanks)); err != nil {
			d.warn(d.where, err)
		}
	}
}

// byteOrderMark is what some editors put at the head of a file in UTF-8.
const byteOrderMark = "\uFEFF"

// plain returns a file's text without a byte order mark and with line feeds at
// the ends of lines: some editors write a carriage return before them, and old
// ones instead of them. A carriage return inside a line counts as a blank.
func plain(text string) string {
	text = strings.ReplaceAll(strings.TrimPrefix(text, byteOrderMark), "\r\n", "\n")
	if !strings.Contains(text, "\n") {
		text = strings.ReplaceAll(text, "\r", "\n")
	}
	return text
}

// takeLine applies one line: a comment, a rule, or key=value.
func (d *draft) takeLine(line string) error {
	rule, inWords := cutRule(line)
	switch {
	case line == "" || line[0] == '#':
		return nil
	case inWords:
		d.addWords(rule)
		return nil
	case isRule(line):
		return d.addRule(line)
	}
	key, text, found := strings.Cut(line, "=")
	if !found {
		return fmt.Errorf("%q is neither a setting (key=value) nor a rule, ignored", line)
	}
	return d.takeSetting(strings.TrimRight(key, blanks), text)
}

// takeSetting applies a key and what follows the equals sign.
func (d *draft) takeSetting(key, text string) error {
	comment := ""
	if !slices.Contains(freeTexts, key) {
		text, comment = uncomment(text)
	}
	_, isList := lists[key] // older versions ignore what follows the addresses in listening_ip
	before := d.ExternalIP
	err := d.take(key, strings.TrimLeft(text, blanks))
	switch {
	case err != nil:
		return err
	case comment != "" && !isList:
		return remark{fmt.Errorf("%s: %q is taken as a comment, unlike in miniupnpd", key, comment)}
	case before.IsValid() && d.ExternalIP.IsValid() && before != d.ExternalIP:
		return remark{fmt.Errorf("%s: %v replaces %v: only one address is announced", key, d.ExternalIP, before)}
	}
	return nil
}

// freeTexts are the keys whose values are free text, such as "Router #1".
var freeTexts = []string{"friendly_name", "manufacturer_name", "model_name", "model_description", "model_number", "serial"}

// uncomment cuts off a comment: a # at the beginning or after a blank, and what
// follows.
func uncomment(text string) (value, comment string) {
	for i := range len(text) {
		if text[i] == '#' && (i == 0 || strings.IndexByte(blanks, text[i-1]) >= 0) {
			return strings.TrimRight(text[:i], blanks), text[i:]
		}
	}
	return text, ""
}

// withoutComments cuts off the comments in the lines of a list: as no entry has a #, each
// begins one.
func withoutComments(text string) string {
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		entries, _, _ := strings.Cut(line, "#")
		lines = append(lines, entries)
	}
	return strings.Join(lines, "\n")
}

// addRule appends a permission rule. An invalid one allows nothing, and denies
// all that it may have been meant to deny.
func (d *draft) addRule(line string) error {
	rule, err := parseRule(line)
	if err != nil && !isRemark(err) && d.isInWords(line) {
		err = fmt.Errorf("write rule=%s", line)
	}
	return d.takeRule(line, rule, err)
}

// takeRule appends a rule as a line was understood, with the error about it.
func (d *draft) takeRule(line string, rule portmap.Rule, err error) error {
	switch {
	case err == nil || isRemark(err):
	case !rule.Allow:
		d.BadRules++
		d.Policy.Rules = append(d.Policy.Rules, rule)
		return fmt.Errorf("rule %q is taken as %q: %w", line, RuleText(rule), err)
	default:
		d.BadRules++
		return fmt.Errorf("rule %q skipped: %w", line, err)
	}
	d.Policy.Rules = append(d.Policy.Rules, rule)
	if err != nil {
		return fmt.Errorf("rule %q: %w", line, err)
	}
	return nil
}

// take applies a setting of miniupnpd.conf in any of its spellings.
func (d *draft) take(key, text string) error {
	if add, found := lists[key]; found {
		if err := add(d, text); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		return nil
	}
	name := key
	var odd error
	if respell, found := spellings[key]; found {
		if key == "ipv6_disable" {
			odd = checkYesNo(text, yesNo(false))
		}
		name, text = respell(text)
	}
	s, found := lookup(name)
	switch {
	case found:
		d.places[name] = d.where
		if err := cmp.Or(s.place(d).Set(text), odd); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		return nil
	case slices.Contains(ignoredKeys, key):
		return nil
	case slices.Contains(otherBackendKeys, key):
		return fmt.Errorf("%s has no effect with iptables, ignored", key)
	}
	return fmt.Errorf("unknown setting %q, ignored", key)
}

// lists are the settings of which each line adds to the list.
var lists = map[string]func(*draft, string) error{
	"listening_ip": (*draft).addLAN,
	"lan_route":    (*draft).addRoute,
}

// spellings convert the settings of other versions of miniupnpd to a key and
// value of this one.
var spellings = map[string]func(text string) (string, string){
	"port":           func(s string) (string, string) { return "http_port", s },
	"enable_natpmp":  func(s string) (string, string) { return "enable_natpmp", numberIsYes(s) },
	"enable_pcp_pmp": func(s string) (string, string) { return "enable_natpmp", numberIsYes(s) },
	"ipv6_disable": func(s string) (string, string) {
		return "ipv6", cmp.Or(map[string]string{"yes": "no"}[s], automatic)
	},
	"force_igd_desc_v1": func(s string) (string, string) {
		return "igd_version", cmp.Or(map[string]string{"yes": "1", "no": "2"}[s], s)
	},
}

// numberIsYes returns no for zero, yes for another number, and other text as it
// is.
func numberIsYes(s string) string {
	n, err := whole(s, 0, 1<<31-1)
	if err != nil {
		return s
	}
	return yesNo(n != 0)
}

// ignoredKeys are settings for what is always so: mappings last until their
// leases end, a private WAN address does not disable forwarding, and pinholes
// are saved beside the lease file.
var ignoredKeys = []string{"clean_ruleset_interval", "clean_ruleset_threshold", "ext_allow_private_ipv4", "lease_file6"}

// otherBackendKeys are settings for other firewalls, or for servers that igdd
// does not have.
var otherBackendKeys = []string{
	"packet_log", "anchor", "queue", "tag", "quickrules", "https_port", "minissdpdsocket", "ipv6_listening_ip",
	"upnp_table_name", "upnp_nat_table_name", "upnp_nftables_family_split", "set_learn_dscp",
}
