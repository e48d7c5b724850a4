package portmap_test

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"igdd/pkg/portmap"
	"igdd/pkg/portmap/portmaptest"
)

// TestRestartResumesTheEpoch starts the table again: the epoch goes on and
// nonces bind if nothing was lost.
func TestRestartResumesTheEpoch(t *testing.T) {
	without, elsewhere := having(gateway), having(gateway)
	without.External, elsewhere.External = netip.Addr{}, wan.Next()
	behind := having(gateway) // a router in front that has told its address
	behind.Upstream, behind.Uplink = true, uplink
	untold, moved := behind, behind
	untold.External, moved.External = uplink, wan.Next()
	configured, reconfigured := behind, moved // clients are told nothing else
	configured.Uplink, reconfigured.Uplink = netip.Addr{}, netip.Addr{}
	for _, tt := range []struct {
		what   string
		before portmap.NetworkState
		reboot bool
		after  []portmap.NetworkState // at the start, then later
		resets bool
		binds  bool // another nonce is refused
	}{
		{what: "nothing was lost", before: having(gateway), after: []portmap.NetworkState{having(gateway)}, binds: true},
		{what: "after a reboot", before: having(gateway), reboot: true, after: []portmap.NetworkState{having(gateway)}, resets: true},
		{what: "with another external address", before: having(gateway), after: []portmap.NetworkState{elsewhere}, resets: true},
		{what: "with another external address later", before: having(gateway), after: []portmap.NetworkState{without, elsewhere}, resets: true},
		{what: "with the same external address later", before: having(gateway), after: []portmap.NetworkState{without, having(gateway)}, binds: true},
		{what: "with the external address that it had before", before: without, after: []portmap.NetworkState{having(gateway)}, binds: true},
		{what: "with the same address of a router in front", before: behind, after: []portmap.NetworkState{untold, behind, untold, behind}, binds: true},
		{what: "with another address of a router in front", before: behind, after: []portmap.NetworkState{untold, moved}, resets: true},
		{what: "with another configured address behind a router in front", before: configured, after: []portmap.NetworkState{reconfigured}, resets: true},
		{what: "without its LAN", before: having(gateway), after: []portmap.NetworkState{having(gateway2), having(gateway)}, binds: true},
	} {
		t.Run(tt.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &portmaptest.Store{}
				r := newTableRigIn(t, having(gateway), &portmaptest.Firewall{}, store)
				bound := open(client(0), 40001, time.Hour)
				bound.Origin, bound.Nonce = portmap.PCP, portmap.Nonce{1}
				r.grant(t, bound)
				r.grant(t, open(client(1), 40000, time.Hour))
				r.set(t, tt.before)
				time.Sleep(100 * time.Second)
				r.stop()
				if tt.reboot {
					store.Reboot()
				}
				time.Sleep(10 * time.Second)
				r = newTableRigIn(t, tt.after[0], &portmaptest.Firewall{}, store)
				for _, s := range tt.after[1:] {
					r.set(t, s)
				}
				want := map[bool]uint32{true: 0, false: 110}[tt.resets]
				if got := r.Epoch(); got != want || r.resets > 0 != tt.resets {
					t.Errorf("the epoch is %d after %d resets, want %d", got, r.resets, want)
				}
				bound.Nonce = portmap.Nonce{2}
				if a, err := r.Do(t.Context(), bound); err != nil || (a.Refusal == portmap.NotOwner) != tt.binds {
					t.Errorf("a renewal with another nonce: %v, %v", a.Refusal, err)
				}
				r.stop()
			})
		})
	}
}

// TestRestartLosesAMapping starts the table with settings that close a mapping:
// a new epoch tells its client, and the nonces of others bind.
func TestRestartLosesAMapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &portmaptest.Store{}
		r := newTableRigIn(t, having(gateway), &portmaptest.Firewall{}, store)
		bound := open(client(0), 40001, time.Hour)
		bound.Origin, bound.Nonce = portmap.PCP, portmap.Nonce{1}
		r.grant(t, bound)
		r.grant(t, open(client(1), 40000, time.Hour))
		time.Sleep(100 * time.Second)
		for _, epoch := range []uint32{0, 50} { // the second restart loses nothing
			r.stop()
			s := having(gateway)
			s.Forwards = []portmap.Forward{{Protocol: portmap.UDP, External: portmap.PortRange{First: 40000, Last: 40000}}}
			r = newTableRigIn(t, s, &portmaptest.Firewall{}, store)
			if got := r.Epoch(); got != epoch {
				t.Errorf("the epoch is %d, want %d", got, epoch)
			}
			time.Sleep(50 * time.Second)
		}
		r.checkAgreement(t, 1)
		bound.Nonce = portmap.Nonce{2}
		if a, err := r.Do(t.Context(), bound); err != nil || a.Refusal != portmap.NotOwner {
			t.Errorf("a renewal with another nonce: %v, %v", a.Refusal, err)
		}
		r.stop()
	})
}

// TestExpiryWhileStoppedIsNoLoss has a lease end while no table runs.
func TestExpiryWhileStoppedIsNoLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &portmaptest.Store{}
		r := newTableRigIn(t, having(gateway), &portmaptest.Firewall{}, store)
		r.grant(t, open(client(0), 40000, time.Minute))
		r.stop()
		time.Sleep(2 * time.Minute)
		r = newTableRigIn(t, having(gateway), &portmaptest.Firewall{}, store)
		synctest.Wait()
		if got := r.Epoch(); got != 120 {
			t.Errorf("the epoch is %d, want 120", got)
		}
		r.checkAgreement(t, 0)
		r.stop()
	})
}
