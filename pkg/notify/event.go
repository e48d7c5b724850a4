package notify

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"igdd/pkg/portmap"
)

// What can happen, as the program is told.
const (
	opened  = "opened"
	renewed = "renewed"
	closed  = "closed"
	refused = "refused"
)

// maxValue bounds each value, in octets.
const maxValue = 256

// event is one decision.
type event struct {
	kind    string
	mapping *portmap.Mapping // unless refused
	request portmap.Request  // if refused
	why     portmap.Refusal
}

// minor reports whether clients can cause the event as often as they like.
func (e event) minor() bool { return e.kind == renewed || e.kind == refused }

// changed returns the event of a change, if it is one to the outside.
func changed(c portmap.Change) (event, bool) {
	switch {
	case c.Before == nil:
		return event{kind: opened, mapping: c.After}, true
	case c.After == nil:
		return event{kind: closed, mapping: c.Before}, true
	case c.Before.Internal != c.After.Internal || extends(c):
		return event{kind: renewed, mapping: c.After}, true
	}
	return event{}, false
}

// extends reports whether a claim is new or has another end.
func extends(c portmap.Change) bool {
	type hold struct {
		portmap.Origin
		id      uint16
		remote  string
		expires time.Time
	}
	held := make(map[hold]bool)
	key := func(c portmap.Claim) hold { return hold{c.Origin, c.ID, c.Remote.String(), c.Expires} }
	for _, claim := range c.Before.Claims {
		held[key(claim)] = true
	}
	for _, claim := range c.After.Claims {
		if !held[key(claim)] {
			return true
		}
	}
	return false
}

// environ words the event for the program.
func (e event) environ() []string {
	list := []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	add := func(name string, value any) {
		list = append(list, "UPNP_"+name+"="+sanitize(fmt.Sprint(value)))
	}
	add("EVENT", e.kind)
	if e.kind == refused {
		req := &e.request
		add("CLIENT", req.Client)
		add("ORIGIN", req.Origin)
		add("PROTOCOL", req.Protocol)
		add("EXTERNAL_PORT", req.External)
		add("INTERNAL_ADDRESS", req.Internal.Addr())
		add("INTERNAL_PORT", req.Internal.Port())
		add("DESCRIPTION", req.Description)
		add("REASON", e.why)
		return list
	}
	m := e.mapping
	add("CLIENT", m.Internal.Addr())
	add("ORIGIN", origins(m))
	add("PROTOCOL", m.Protocol)
	add("EXTERNAL_PORT", max(m.External, m.Pinhole.Port()))
	add("INTERNAL_ADDRESS", m.Internal.Addr())
	add("INTERNAL_PORT", m.Internal.Port())
	add("DESCRIPTION", m.Description())
	add("REMOTE", remotes(m))
	if e.kind != closed {
		add("LIFETIME", int64(m.Remaining(time.Now())/time.Second))
	}
	return list
}

// origins names the protocols that hold the mapping.
func origins(m *portmap.Mapping) string {
	var names []string
	for _, c := range m.Claims {
		names = append(names, c.Origin.String())
	}
	return strings.Join(names, ",")
}

// remotes lists who may use the mapping; empty: everybody.
func remotes(m *portmap.Mapping) string {
	var list []string
	for _, f := range m.Filters() {
		list = append(list, f.Prefix.String())
	}
	return strings.Join(list, ",")
}

// sanitize makes a value of strangers harmless: what is not printable, or has a
// meaning to a shell between double quotes, becomes a question mark, and the
// value is cut to maxValue.
func sanitize(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar || strings.ContainsRune("\"'`$\\", r) {
			return '?'
		}
		return r
	}, s)
	return truncate(s, maxValue)
}

// truncate returns the longest beginning of s within n octets that does not cut a
// rune.
func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
