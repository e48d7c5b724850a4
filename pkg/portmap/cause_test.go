package portmap_test

import (
	"testing"
	"time"

	"igdd/pkg/portmap"
	"igdd/pkg/portmap/portmaptest"
)

// TestChangesSayWhy closes mappings in every way there is, and asks why.
func TestChangesSayWhy(t *testing.T) {
	soon, ctx := open(client(0), 40000, time.Second), t.Context()
	closing := portmap.Request{Op: portmap.Close, Origin: portmap.NATPMP, Client: client(0), Protocol: portmap.UDP, Internal: soon.Internal}
	moved := open(client(1), 40000, time.Hour)
	moved.Former, moved.Host.Hardware = client(0), "02:00:00:00:00:10"
	forward := having(gateway)
	forward.Forwards = []portmap.Forward{{Protocol: portmap.UDP, External: portmap.PortRange{First: 40000, Last: 40000}}}
	for name, c := range map[string]struct {
		act    func(*testing.T, *tableRig)
		cause  portmap.Cause
		reason portmap.Refusal
		byHost bool
	}{
		"its client":   {func(t *testing.T, r *tableRig) { r.grant(t, closing) }, portmap.Deleted, portmap.Granted, true},
		"time":         {func(*testing.T, *tableRig) {}, portmap.Expired, portmap.Granted, false},
		"its host":     {func(t *testing.T, r *tableRig) { r.grant(t, moved) }, portmap.HostMoved, portmap.Granted, true},
		"another rule": {func(t *testing.T, r *tableRig) { r.set(t, forward) }, portmap.Rechecked, portmap.Forwarded, false},
		"the operator": {func(_ *testing.T, r *tableRig) {
			r.Block(ctx, portmap.Block{Selector: portmap.Selector{Host: portmap.HostSelector{Addr: client(0)}}})
		}, portmap.ByOperator, portmap.Granted, false},
		"the operator's delete": {func(_ *testing.T, r *tableRig) {
			r.Delete(ctx, portmap.Selector{Host: portmap.HostSelector{Addr: client(0)}})
		}, portmap.ByOperator, portmap.Granted, false},
		"silence": {func(_ *testing.T, r *tableRig) {
			r.Withdraw(ctx, func(*portmap.Mapping) bool { return true })
		}, portmap.HostLeft, portmap.Granted, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := newTableRigIn(t, having(gateway), &portmaptest.Firewall{}, &portmaptest.Store{})
			first := soon
			if c.cause != portmap.Expired {
				first.Lifetime = time.Hour
			}
			first.Host.Hardware = "02:00:00:00:00:10"
			r.grant(t, first)
			c.act(t, r)
			key := udp(40000)
			for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
				if m, held := r.Lookup(key); !held || m.Internal.Addr() != client(0) {
					break
				} else if time.Now().After(end) {
					t.Fatal("the mapping is still there")
				}
			}
			r.stop()
			var opened, closed *portmap.Change
			for i := range r.changes {
				switch {
				case r.changes[i].After == nil:
					closed = &r.changes[i]
				case opened == nil:
					opened = &r.changes[i]
				}
			}
			if opened.Cause != portmap.Requested || opened.Client != client(0) {
				t.Errorf("opened: %+v", opened)
			}
			if closed.Cause != c.cause || closed.Reason != c.reason || closed.Client.IsValid() != c.byHost {
				t.Errorf("closed: %+v", closed)
			}
		})
	}
}
