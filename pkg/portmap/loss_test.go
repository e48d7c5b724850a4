package portmap_test

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"igdd/pkg/portmap"
	"igdd/pkg/portmap/portmaptest"
)

// TestLossTellsOwnersOnly closes a mapping by new rules, by a static port
// forward or by rules for hosts that are not known: its client is told, and
// nothing changes for the client of another mapping.
func TestLossTellsOwnersOnly(t *testing.T) {
	forbid := func(r *tableRig) error {
		return r.SetPolicy(context.Background(), &portmap.Policy{Secure: true, Rules: []portmap.Rule{
			{External: portmap.Ports{{First: 40000, Last: 40000}}, Network: gateway.Addr(), Internal: portmap.Ports{{Last: 65535}}},
		}})
	}
	forward := func(r *tableRig) error {
		s := r.network
		s.Forwards = []portmap.Forward{{Protocol: portmap.UDP, External: portmap.PortRange{First: 40000, Last: 40000}}}
		return r.SetNetworkState(context.Background(), s)
	}
	suspend := func(r *tableRig) error {
		return r.SetPolicy(context.Background(), &portmap.Policy{Secure: true, Rules: []portmap.Rule{
			{External: portmap.Ports{{First: 40000, Last: 40000}}, Hardware: "02:00:00:00:00:10", Internal: portmap.Ports{{Last: 65535}}},
		}})
	}
	narrow := func(r *tableRig) error {
		ports := new(portmap.PortSet)
		ports.Add(40001)
		return r.SetPolicy(context.Background(), &portmap.Policy{Secure: true, ExternalPorts: ports})
	}
	nothing := func(r *tableRig) error { return r.SetNetworkState(context.Background(), r.network) }
	leave := func(r *tableRig) error {
		s := r.network
		s.LANs = []netip.Prefix{gateway2}
		return r.SetNetworkState(context.Background(), s)
	}
	for _, tt := range []struct {
		what    string
		origin  portmap.Origin
		contact any
		cause   func(*tableRig) error
		lost    portmap.Refusal // Granted: nothing
		resets  int
	}{
		{"NAT-PMP, forbidden", portmap.NATPMP, nil, forbid, portmap.NotAuthorized, 1},
		{"NAT-PMP, forwarded", portmap.NATPMP, nil, forward, portmap.Forwarded, 1},
		{"NAT-PMP, of an unknown host", portmap.NATPMP, nil, suspend, portmap.UnknownHost, 1},
		{"NAT-PMP, not provided any more", portmap.NATPMP, nil, narrow, portmap.NotProvided, 1},
		{"PCP, not provided any more", portmap.PCP, "address", narrow, portmap.NotProvided, 0},
		{"UPnP, not provided any more", portmap.UPnP, nil, narrow, portmap.NotProvided, 0},
		{"PCP, forbidden", portmap.PCP, "address", forbid, portmap.NotAuthorized, 0},
		{"PCP, forwarded", portmap.PCP, "address", forward, portmap.Forwarded, 0},
		{"PCP, of an unknown host", portmap.PCP, "address", suspend, portmap.UnknownHost, 0},
		{"PCP, requested from an earlier process", portmap.PCP, nil, forbid, portmap.NotAuthorized, 1},
		{"UPnP, forbidden", portmap.UPnP, nil, forbid, portmap.NotAuthorized, 0},
		{"not at all", portmap.NATPMP, nil, nothing, portmap.Granted, 0},
		{"its LAN is not there", portmap.NATPMP, nil, leave, portmap.Granted, 0},
	} {
		t.Run(tt.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newTableRigIn(t, having(gateway), &portmaptest.Firewall{}, &portmaptest.Store{})
				other := open(client(1), 40001, time.Hour)
				other.Origin, other.Nonce, other.Contact = portmap.PCP, portmap.Nonce{1}, "address"
				r.grant(t, other)
				gone := open(client(0), 40000, time.Hour)
				gone.Origin, gone.Contact = tt.origin, tt.contact
				r.grant(t, gone)
				time.Sleep(100 * time.Second)
				before := r.resets
				if err := tt.cause(r); err != nil {
					t.Fatal(err)
				}
				if n := r.resets - before; n != tt.resets || (r.Epoch() == 100) != (tt.resets == 0) {
					t.Errorf("%d resets, and the epoch is %d", n, r.Epoch())
				}
				switch {
				case tt.lost == portmap.Granted && len(r.lost) == 0:
				case len(r.lost) != 1 || r.lost[0].Mapping.External != 40000 || r.lost[0].Reason != tt.lost:
					t.Errorf("lost %+v", r.lost)
				}
				if err := nothing(r); err != nil {
					t.Fatal(err)
				}
				other.Nonce = portmap.Nonce{2}
				if a, err := r.Do(t.Context(), other); err != nil || a.Refusal != portmap.NotOwner {
					t.Errorf("a renewal of another mapping with another nonce: %v, %v", a.Refusal, err)
				}
				r.stop()
			})
		})
	}
}
