package config

import (
	"fmt"
	"strings"
)

// String returns the settings as an equivalent miniupnpd.conf: one key=value per
// line, the listening interfaces and routed networks, the rules in order, and as comments the warnings
// and where a setting of another file is from.
func (c *Config) String() string {
	d := &draft{Config: *c}
	d.recallSTUN()
	var b strings.Builder
	for _, s := range settings {
		if s.key == "ext_ifname2" && c.borrowed != "" && len(c.WAN) > 1 {
			fmt.Fprintf(&b, "# from %s\n", c.borrowed)
		}
		fmt.Fprintf(&b, "%s=%v\n", s.key, s.place(d))
	}
	for _, lan := range c.LANs {
		fmt.Fprintf(&b, "listening_ip=%v\n", lan)
	}
	for _, r := range c.Routes {
		fmt.Fprintf(&b, "lan_route=%v\n", r)
	}
	for _, r := range c.Policy.Rules {
		if r.Place != "" {
			b.WriteString("rule=")
		}
		fmt.Fprintln(&b, RuleText(r))
	}
	for _, w := range c.Warnings {
		fmt.Fprintf(&b, "# warning: %s\n", w)
	}
	return b.String()
}
