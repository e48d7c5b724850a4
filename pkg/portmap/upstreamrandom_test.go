package portmap_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"igdd/pkg/portmap"
)

// randomUpstream is a router in front that answers at random: soon, late or never, with
// the port asked for, another one, one that it has given to another mapping, or not.
type randomUpstream struct{ *rand.Rand }

func (r randomUpstream) report(m *portmap.Mapping) portmap.Report {
	lease := time.Duration(r.IntN(3)) * time.Minute
	switch r.IntN(4) {
	case 0:
		return portmap.Report{Key: m.Key, Forwarding: portmap.Forwarding{State: portmap.Unreachable, Reason: "denied"}}
	case 1:
		return forwards(m, m.External, lease)
	}
	return forwards(m, uint16(40000+r.IntN(12)), lease)
}

// request returns a request of one of three hosts for one of a few ports.
func (r randomUpstream) request() portmap.Request {
	c, port := client(r.IntN(3)), uint16(40000+r.IntN(8))
	q := open(c, port, time.Duration(1+r.IntN(90))*time.Minute)
	switch r.IntN(6) {
	case 0:
		q = byUPnP(c, port)
		q.Exact = r.IntN(2) == 0
	case 1:
		q.Origin, q.Exact = portmap.PCP, r.IntN(2) == 0
	case 2:
		return closing(c, port)
	case 3:
		q.Op, q.External = portmap.Close, 0
	case 4:
		q = byUPnP(c, port)
		q.Disabled = r.IntN(3) == 0
		q.Internal = open(c, port+1, 0).Internal
	}
	return q
}

// checkForwardings checks that the router in front is asked for what wants it, and that
// clients find each mapping by the port that they were told, unless two were told the
// same.
func (u *upstreamRig) checkForwardings(t *testing.T) {
	t.Helper()
	wanting, told := 0, make(map[portmap.Key]int)
	for _, m := range u.List() {
		if isAsked := m.Forwarding.State != portmap.NotAsked; isAsked != m.WantsForwarding() {
			t.Errorf("%v is %v", m, m.Forwarding)
		}
		if m.WantsForwarding() {
			wanting++
			if _, asked := u.upstream.Wanted(m.Key); asked == nil {
				t.Errorf("%v is not asked for", m)
			}
		}
		told[portmap.Key{Protocol: m.Protocol, External: m.OuterPort()}]++
	}
	if n, _ := u.upstream.Wanted(portmap.Key{}); n != wanting {
		t.Errorf("%d ports are asked for, want %d", n, wanting)
	}
	for _, m := range u.List() {
		k := portmap.Key{Protocol: m.Protocol, External: m.OuterPort()}
		if found, _ := u.LookupOuter(k.Protocol, k.External); told[k] == 1 && found != m {
			t.Errorf("port %v is %v, want %v", k, found, m)
		}
	}
}

// checkRefused checks that a client that was refused the port has no claim to it.
func (u *upstreamRig) checkRefused(t *testing.T, req portmap.Request, a portmap.Answer) {
	t.Helper()
	m, found := u.LookupOuter(req.Protocol, req.External)
	if a.Refusal != portmap.NotForwarded || !found || m.Internal != req.Internal {
		return
	}
	if _, has := m.Claim(req.Origin); has {
		t.Errorf("%+v was refused and left %v", req, m)
	}
}

func TestRandomUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seed := rand.Uint64()
		r := randomUpstream{rand.New(rand.NewPCG(seed, 0))}
		t.Logf("seed %d", seed)
		u := newUpstreamRig(t, nil)
		refused := 0
		for range 3000 {
			req := r.request()
			if a, _ := u.Do(context.Background(), req); a.Refusal == portmap.NotForwarded {
				refused++
				u.checkRefused(t, req, a)
			}
			time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond)
			if list := u.List(); len(list) > 0 && r.IntN(2) == 0 {
				go u.Report(context.Background(), []portmap.Report{r.report(list[r.IntN(len(list))])})
			}
			synctest.Wait()
			u.checkForwardings(t)
			u.checkAgreement(t, len(u.List()))
			if t.Failed() {
				t.Fatal("the first fault ends the test")
			}
		}
		if refused == 0 {
			t.Error("no request was refused")
		}
	})
}
