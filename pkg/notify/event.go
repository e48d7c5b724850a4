package notify

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"igdd/pkg/event"
)

// maxValue is the maximum length of each value, in bytes.
const maxValue = 256

// valueNames are the variables that an event can have.
var valueNames = []string{
	"UPNP_EVENT", "UPNP_CLIENT", "UPNP_ORIGIN", "UPNP_PROTOCOL", "UPNP_EXTERNAL_PORT", "UPNP_INTERNAL_ADDRESS",
	"UPNP_INTERNAL_PORT", "UPNP_DESCRIPTION", "UPNP_REASON", "UPNP_REMOTE", "UPNP_LIFETIME", "UPNP_MAC", "UPNP_RULE",
	"UPNP_FORWARDING", "UPNP_OUTER_ADDRESS", "UPNP_OUTER_PORT",
	"UPNP_HOLDER", "UPNP_BLOCK", "UPNP_SUBJECT", "UPNP_UNTIL", "UPNP_CLOSED", "UPNP_FAMILY", "UPNP_INTERFACE", "UPNP_ADDRESS",
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

// values returns the variables of an event: NAME=value.
func values(e *event.Event) []string {
	v := variables{}
	v.add("EVENT", e.Kind)
	switch e.Kind {
	case event.Deleted, event.Blocked, event.Unblocked:
		v.addAct(e)
	case event.Repaired:
		v.add("FAMILY", e.Family)
	case event.Uplink:
		v.add("INTERFACE", e.Interface)
		v.addIf(e.Address.IsValid(), "ADDRESS", e.Address)
	default:
		v.addMapping(e)
	}
	v.addIf(e.Reason != "", "REASON", e.Reason)
	v.addIf(e.Block != 0, "BLOCK", e.Block)
	return v.list
}

// variables is a list under construction.
type variables struct{ list []string }

func (v *variables) add(name string, value any) {
	v.list = append(v.list, "UPNP_"+name+"="+sanitize(fmt.Sprint(value)))
}

func (v *variables) addIf(known bool, name string, value any) {
	if known {
		v.add(name, value)
	}
}

// addMapping adds what is known of a mapping, or of a request for one.
func (v *variables) addMapping(e *event.Event) {
	client := e.Internal
	if e.Kind == event.Refused {
		client = e.Client
	}
	v.add("CLIENT", client)
	v.add("ORIGIN", strings.Join(e.Origins, ","))
	v.add("PROTOCOL", e.Protocol)
	v.add("EXTERNAL_PORT", e.ExternalPort)
	if e.Internal.IsValid() {
		v.add("INTERNAL_ADDRESS", e.Internal)
		v.add("INTERNAL_PORT", e.InternalPort)
	}
	v.addIf(e.Forwarding != "", "FORWARDING", e.Forwarding)
	v.addIf(e.OuterAddress.IsValid(), "OUTER_ADDRESS", e.OuterAddress)
	v.addIf(e.OuterPort != 0, "OUTER_PORT", e.OuterPort)
	v.addIf(e.MAC != "", "MAC", e.MAC)
	v.add("DESCRIPTION", e.Description)
	if e.Kind == event.Refused {
		v.addIf(e.Rule != "", "RULE", e.Rule)
		v.addIf(e.Holder != "", "HOLDER", e.Holder)
		return
	}
	v.add("REMOTE", strings.Join(e.Remote, ","))
	if e.Kind != event.Closed {
		var forever int64
		v.add("LIFETIME", *cmp.Or(e.Lifetime, &forever))
	}
}

// addAct adds what the operator did.
func (v *variables) addAct(e *event.Event) {
	v.add("SUBJECT", e.Subject)
	v.add("CLOSED", e.Closed)
	v.addIf(!e.Until.IsZero(), "UNTIL", e.Until.Format(time.RFC3339))
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
