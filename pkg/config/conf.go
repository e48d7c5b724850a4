package config

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// maxFile is the most that a file of settings may hold, in octets.
const maxFile = 1 << 20

// readLimited reads a file that is not larger than settings are.
func readLimited(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s: more than %d octets are no settings", path, maxFile)
	}
	return b, err
}

// readConf takes the settings of a miniupnpd.conf. Lines that cannot be used
// are skipped with a warning, as the scripts that make such files count on it.
func (d *draft) readConf(path string) error {
	b, err := readLimited(path)
	if err != nil {
		return err
	}
	d.takeConf(path, string(b))
	return nil
}

// takeConf takes the text of a miniupnpd.conf that stands at path.
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

// mark is what some editors put at the head of a file in UTF-8.
const mark = "\uFEFF"

// plain returns a file's text without the mark of UTF-8 and with line feeds at
// the ends of lines: some editors write a carriage return before them, and old
// ones instead of them. One inside a line is a blank, as everywhere.
func plain(text string) string {
	text = strings.ReplaceAll(strings.TrimPrefix(text, mark), "\r\n", "\n")
	if !strings.Contains(text, "\n") {
		text = strings.ReplaceAll(text, "\r", "\n")
	}
	return text
}

// takeLine takes one line: a comment, a rule, or key=value.
func (d *draft) takeLine(line string) error {
	switch {
	case line == "" || line[0] == '#':
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

// takeSetting takes what stands before and behind the sign of a line.
func (d *draft) takeSetting(key, text string) error {
	comment := ""
	if !slices.Contains(freeTexts, key) {
		text, comment = uncomment(text)
	}
	before := d.ExternalIP
	err := d.take(key, strings.TrimLeft(text, blanks))
	switch {
	case err != nil:
		return err
	case comment != "" && key != "listening_ip": // there it is none of the words that older versions had
		return remark{fmt.Errorf("%s: %q is taken as a comment, which miniupnpd does not do", key, comment)}
	case before.IsValid() && d.ExternalIP.IsValid() && before != d.ExternalIP:
		return remark{fmt.Errorf("%s: %v takes the place of %v: only one address is announced", key, d.ExternalIP, before)}
	}
	return nil
}

// freeTexts are the keys whose values may hold whatever a name may: "Router #1".
var freeTexts = []string{"friendly_name", "manufacturer_name", "model_name", "model_description", "model_number", "serial"}

// uncomment cuts off a comment: a # at the beginning or behind a blank, and
// what follows.
func uncomment(text string) (value, comment string) {
	for i := range len(text) {
		if text[i] == '#' && (i == 0 || strings.IndexByte(blanks, text[i-1]) >= 0) {
			return strings.TrimRight(text[:i], blanks), text[i:]
		}
	}
	return text, ""
}

// addRule appends a permission rule. One that cannot be read allows nothing,
// and denies all that it may have been meant to deny.
func (d *draft) addRule(line string) error {
	rule, err := parseRule(line)
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

// take takes a setting of miniupnpd.conf in any of its spellings.
func (d *draft) take(key, text string) error {
	if key == "listening_ip" {
		if err := d.addLAN(text); err != nil {
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
		return fmt.Errorf("%s has no use with iptables, ignored", key)
	}
	return fmt.Errorf("unknown setting %q, ignored", key)
}

// spellings turn what other versions of miniupnpd write into a key and value
// of the settings.
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

// numberIsYes turns a number into yes if it is not zero.
func numberIsYes(s string) string {
	n, err := whole(s, 0, 1<<31-1)
	if err != nil {
		return s
	}
	return yesNo(n != 0)
}

// ignoredKeys settings ask for what is always so: mappings last as long as their
// leases, a private uplink forwards like any other, and pinholes are written
// down beside the lease file.
var ignoredKeys = []string{"clean_ruleset_interval", "clean_ruleset_threshold", "ext_allow_private_ipv4", "lease_file6"}

// otherBackendKeys settings belong to other firewalls, or to servers that do not exist
// here.
var otherBackendKeys = []string{
	"packet_log", "anchor", "queue", "tag", "quickrules", "https_port", "minissdpdsocket", "ipv6_listening_ip",
	"upnp_table_name", "upnp_nat_table_name", "upnp_nftables_family_split", "set_learn_dscp",
}
