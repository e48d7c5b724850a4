package notify

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"igdd/pkg/portmap"
)

// The events, as the program gets them in UPNP_EVENT.
const (
	opened  = "opened"
	renewed = "renewed"
	closed  = "closed"
	refused = "refused"
)

// maxValue is the maximum length of each value, in bytes.
const maxValue = 256

// event is a decision about a mapping or a request.
type event struct {
	kind    string
	mapping *portmap.Mapping // unless refused
	request portmap.Request  // if refused
	refusal portmap.Refusal
}

// isMinor reports whether clients can cause the event as often as they like.
func (e event) isMinor() bool { return e.kind == renewed || e.kind == refused }

// eventOf returns the event of a change, if the program has to know of it.
func eventOf(c portmap.Change) (event, bool) {
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

// extends reports whether a claim is new or expires at another time.
func extends(change portmap.Change) bool {
	type claim struct {
		portmap.Origin
		id      uint16
		remote  string
		expires time.Time
	}
	before := make(map[claim]bool)
	key := func(c portmap.Claim) claim { return claim{c.Origin, c.ID, c.Remote.String(), c.Expires} }
	for _, c := range change.Before.Claims {
		before[key(c)] = true
	}
	for _, c := range change.After.Claims {
		if !before[key(c)] {
			return true
		}
	}
	return false
}

// valueNames are the variables that an event can have.
var valueNames = []string{
	"UPNP_EVENT", "UPNP_CLIENT", "UPNP_ORIGIN", "UPNP_PROTOCOL", "UPNP_EXTERNAL_PORT", "UPNP_INTERNAL_ADDRESS",
	"UPNP_INTERNAL_PORT", "UPNP_DESCRIPTION", "UPNP_REASON", "UPNP_REMOTE", "UPNP_LIFETIME",
}

// checkValues returns an error if values returns no such list.
func checkValues(list []string) error {
	seen := make(map[string]bool)
	for _, v := range list {
		name, value, _ := strings.Cut(v, "=")
		if seen[name] || !slices.Contains(valueNames, name) || sanitize(value) != value {
			return fmt.Errorf("notify: invalid value of %.32q", name)
		}
		seen[name] = true
	}
	return nil
}

// values returns the variables of the event: NAME=value.
func (e event) values() []string {
	var list []string
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
		add("REASON", e.refusal)
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

// origins lists the protocols that requested the mapping.
func origins(m *portmap.Mapping) string {
	var names []string
	for _, c := range m.Claims {
		names = append(names, c.Origin.String())
	}
	return strings.Join(names, ",")
}

// remotes lists the remote hosts that may use the mapping; empty: all.
func remotes(m *portmap.Mapping) string {
	var list []string
	for _, f := range m.Filters() {
		list = append(list, f.Prefix.String())
	}
	return strings.Join(list, ",")
}

// sanitize makes a value from a client safe for scripts: characters that are not
// printable, or special to a shell between double quotes, become question marks,
// and the value is truncated to maxValue.
func sanitize(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar || strings.ContainsRune("\"'`$\\", r) {
			return '?'
		}
		return r
	}, s)
	return truncate(s, maxValue)
}

// truncate returns the longest prefix of s within n bytes that does not cut a
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
