package daemon

import (
	"net/netip"
	"testing"

	"igdd/pkg/event"
	"igdd/pkg/portmap"
)

// TestEventsOfDisabledMappings makes a mapping without rules, and gives it rules.
func TestEventsOfDisabledMappings(t *testing.T) {
	of := func(disabled bool) *portmap.Mapping {
		return &portmap.Mapping{
			Key: portmap.Key{Protocol: portmap.TCP, External: 80}, Internal: netip.MustParseAddrPort("192.168.50.10:80"),
			Claims: []portmap.Claim{{Origin: portmap.UPnP, Disabled: disabled}},
		}
	}
	for name, c := range map[string]struct {
		change   portmap.Change
		kind     event.Kind
		disabled bool
	}{
		"new":       {portmap.Change{After: of(false)}, event.Opened, false},
		"new, off":  {portmap.Change{After: of(true)}, event.Opened, true},
		"renewed":   {portmap.Change{Before: of(false), After: of(false)}, event.Renewed, false},
		"on":        {portmap.Change{Before: of(true), After: of(false)}, event.Opened, false},
		"off":       {portmap.Change{Before: of(false), After: of(true)}, event.Renewed, true},
		"ended off": {portmap.Change{Before: of(true), Cause: portmap.Deleted}, event.Closed, true},
	} {
		if e, isEvent := changeEvent(&c.change); !isEvent || e.Kind != c.kind || e.Disabled != c.disabled {
			t.Errorf("%s: %v, %+v", name, isEvent, e)
		}
	}
}

// TestEventsOfForwardings has the router in front answer, and change its mind.
func TestEventsOfForwardings(t *testing.T) {
	outer, further := netip.MustParseAddrPort("11.22.33.46:40000"), netip.MustParseAddrPort("100.64.0.9:40000")
	of := func(state portmap.ForwardingState, external netip.AddrPort, reason string) *portmap.Mapping {
		return &portmap.Mapping{
			Key: portmap.Key{Protocol: portmap.TCP, External: 80}, Internal: netip.MustParseAddrPort("192.168.50.10:80"),
			Claims: []portmap.Claim{{Origin: portmap.UPnP}}, Forwarding: portmap.Forwarding{State: state, External: external, Reason: reason},
		}
	}
	asking, reachable := of(portmap.Asking, netip.AddrPort{}, ""), of(portmap.Reachable, outer, "")
	unreachable := of(portmap.Unreachable, netip.AddrPort{}, "it does not answer")
	for name, c := range map[string]struct {
		before, after *portmap.Mapping
		cause         portmap.Cause
		want          event.Kind // "": no event
		forwarding    string
		outer         netip.AddrPort
		reason        string
	}{
		"opened":               {nil, asking, portmap.Requested, event.Opened, "asking", netip.AddrPort{}, ""},
		"forwarded":            {asking, reachable, portmap.ByUpstream, event.Reachable, "reachable", outer, ""},
		"renewed":              {reachable, reachable, portmap.Requested, event.Renewed, "reachable", outer, ""},
		"another lease":        {reachable, reachable, portmap.ByUpstream, "", "", netip.AddrPort{}, ""},
		"to a private address": {asking, of(portmap.Reachable, further, ""), portmap.ByUpstream, event.Reachable, "reachable", further, event.PrivateUplink},
		"another port":         {reachable, of(portmap.Reachable, netip.AddrPortFrom(outer.Addr(), 9), ""), portmap.ByUpstream, event.Reachable, "reachable", netip.AddrPortFrom(outer.Addr(), 9), ""},
		"not any more":         {reachable, unreachable, portmap.ByUpstream, event.Unreachable, "unreachable", netip.AddrPort{}, "it does not answer"},
		"asked again":          {unreachable, asking, portmap.ByUpstream, "", "", netip.AddrPort{}, ""},
		"asked no more":        {reachable, of(portmap.NotAsked, netip.AddrPort{}, ""), portmap.Rechecked, "", "", netip.AddrPort{}, ""},
		"closed":               {reachable, nil, portmap.Expired, event.Closed, "reachable", outer, "it has expired"},
	} {
		e, isEvent := changeEvent(&portmap.Change{Before: c.before, After: c.after, Cause: c.cause})
		if isEvent != (c.want != "") {
			t.Errorf("%s: is an event: %v, %+v", name, isEvent, e)
		}
		if isEvent && (e.Kind != c.want || e.Forwarding != c.forwarding || netip.AddrPortFrom(e.OuterAddress, e.OuterPort) != c.outer || e.Reason != c.reason) {
			t.Errorf("%s: %+v", name, e)
		}
	}
}
