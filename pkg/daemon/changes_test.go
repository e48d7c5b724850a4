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
