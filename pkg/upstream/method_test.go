package upstream

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"igdd/pkg/pcp"
	"igdd/pkg/portmap"
)

// refusePCP returns a fakeRouter's grant that refuses what such returns true for.
func refusePCP(result pcp.Result, such func(ask) bool) func(ask, *grant) error {
	return func(a ask, _ *grant) error {
		if such(a) {
			return pcpError(pcp.Response{Result: result})
		}
		return nil
	}
}

// inAutoRig runs a test with a router that speaks PCP as grant says, and NAT-PMP too, as
// another fakeRouter, unless that is gone.
func inAutoRig(t *testing.T, grant func(ask, *grant) error, test func(t *testing.T, r *rig, other *fakeRouter)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		synctest.Wait() // until it waits for a gateway
		r.router.grant = grant
		other := &fakeRouter{external: outer, reset: time.Now()}
		r.options.Methods = []Method{PCP, NATPMP}
		r.connect = func(_ context.Context, m Method, _ Gateway) (router, error) {
			if m == NATPMP {
				return other, nil
			}
			return r.router, nil
		}
		r.SetGateway(uplink)
		synctest.Wait()
		test(t, r, other)
	})
}

// TestUselessMethod has a router that answers by PCP, but forwards nothing by it.
func TestUselessMethod(t *testing.T) {
	always := func(ask) bool { return true }
	for result, mappings := range map[pcp.Result]uint16{pcp.UnsuppOpcode: 1, pcp.NotAuthorized: maxUnauthorized} {
		inAutoRig(t, refusePCP(result, always), func(t *testing.T, r *rig, other *fakeRouter) {
			for port := range mappings {
				r.change(nil, mapping(3001+port))
			}
			r.wait(time.Second)
			r.expect(t, mapping(3000+mappings), portmap.Reachable, "")
			if st := r.Status(); st.Method != NATPMP || st.Err != nil {
				t.Errorf("%v: status %+v", result, st)
			}
			other.with(func() { other.gone = true })
			r.wait(2 * time.Minute)
			r.router.counts()
			r.wait(time.Hour)
			if opens, _, checks := r.router.counts(); opens+checks != 0 {
				t.Errorf("%v: %d requests, %d checks by PCP", result, opens, checks)
			}
		})
	}
}

// TestMethodThatIsKept has a router that refuses some mappings, or all by PCP and does not
// answer by another protocol.
func TestMethodThatIsKept(t *testing.T) {
	all := refusePCP(pcp.NotAuthorized, func(ask) bool { return true })
	for name, tt := range map[string]struct {
		grant     func(ask, *grant) error
		mappings  uint16
		otherGone bool
	}{
		"too few":       {all, maxUnauthorized - 1, false},
		"one granted":   {refusePCP(pcp.NotAuthorized, func(a ask) bool { return a.port != 3001 }), 9, false},
		"no other":      {all, 9, true},
		"none at all":   {refusePCP(pcp.UnsuppOpcode, func(ask) bool { return true }), 9, true},
		"other reasons": {refusePCP(pcp.UserExQuota, func(ask) bool { return true }), 9, false},
	} {
		t.Run(name, func(t *testing.T) {
			inAutoRig(t, tt.grant, func(t *testing.T, r *rig, other *fakeRouter) {
				other.with(func() { other.gone = tt.otherGone })
				for port := range tt.mappings {
					r.change(nil, mapping(3001+port))
				}
				other.counts()
				r.wait(24 * time.Hour)
				if st := r.Status(); st.Method != PCP {
					t.Errorf("status %+v", st)
				}
				if _, _, checks := other.counts(); checks > 30 {
					t.Errorf("%d looks for another protocol in a day", checks)
				}
				r.router.with(func() { r.router.grant = nil })
				r.wait(lastRetry)
				r.expect(t, mapping(3002), portmap.Reachable, "203.0.113.7:3002")
			})
		})
	}
}
