package daemon

import (
	"net/netip"
	"testing"

	"igdd/pkg/portmap"
)

// TestRefusalByUniqueID has requests refused that name a pinhole by its UniqueID alone.
func TestRefusalByUniqueID(t *testing.T) {
	inside := netip.MustParseAddrPort("[2001:db8::1]:80")
	pinhole := &portmap.Mapping{Key: portmap.Key{Protocol: portmap.UDP, Pinhole: inside}, Internal: inside}
	r := portmap.Request{Origin: portmap.UPnP, Op: portmap.Close, Client: netip.MustParseAddr("2001:db8::2"), ID: 7}
	e := refusalEvent(&r, &portmap.Answer{Refusal: portmap.NotOwner, Mapping: pinhole})
	if !e.Pinhole || e.Protocol != "UDP" || e.Internal != inside.Addr() || e.InternalPort != 80 || !e.Delete {
		t.Errorf("of another client's pinhole: %+v", e)
	}
	if e = refusalEvent(&r, &portmap.Answer{Refusal: portmap.NotFound}); !e.Pinhole || e.Protocol != "" || e.Internal.IsValid() {
		t.Errorf("of no pinhole: %+v", e)
	}
}
