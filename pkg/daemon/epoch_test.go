package daemon_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/netlab"
	"igdd/pkg/pcp"
)

// epochReading is an epoch, and the time just before and after the daemon told
// it.
type epochReading struct {
	asked, told time.Time
	seconds     uint32
}

// pcpEpoch returns the epoch, which PCP tells also without an external address.
func (r *rig) pcpEpoch(t testing.TB) uint32 {
	t.Helper()
	return r.pcp(t, 0, pcp.Request{Opcode: pcp.Announce, Client: client1}).Epoch
}

func (r *rig) readEpoch(t testing.TB) epochReading {
	t.Helper()
	e := epochReading{asked: time.Now()}
	e.seconds, e.told = r.pcpEpoch(t), time.Now()
	return e
}

// isNewSince reports whether e is of an epoch that began after a time.
func (e epochReading) isNewSince(at time.Time) bool {
	return time.Duration(e.seconds)*time.Second <= e.told.Sub(at)
}

// continues reports whether e is of the epoch of an earlier reading, by the clock
// of a client that rounds to seconds.
func (e epochReading) continues(before epochReading) bool {
	passed := time.Duration(e.seconds)*time.Second - time.Duration(before.seconds)*time.Second
	return passed > e.asked.Sub(before.told)-time.Second && passed < e.told.Sub(before.asked)+time.Second
}

// epochRig is a rig whose first client has a PCP mapping.
type epochRig struct {
	*rig
	request pcp.Request // with the nonce that binds
	forged  byte        // counts other nonces
}

func newEpochRig(t *testing.T) *epochRig {
	t.Helper()
	r := &epochRig{rig: newRig(t, "legacy", netlab.Layout{Clients: 2})}
	r.start(t, r.conf()...)
	r.request = pcpMap(client1, 17, 4000, 41000)
	r.demandMapped(t, r.request, 41000)
	return r
}

func (r *epochRig) conf(more ...string) []string {
	return append([]string{"pcp_lenient_nonce=no"}, more...)
}

// withOtherNonce returns the client's request with a nonce that was never used.
func (r *epochRig) withOtherNonce() pcp.Request {
	r.forged++
	req := r.request
	req.Nonce = pcp.Nonce{0xee, r.forged}
	return req
}

// demandBound demands that the nonce that binds renews the mapping, and no other
// does.
func (r *epochRig) demandBound(t testing.TB) {
	t.Helper()
	r.demandMapped(t, r.request, 41000)
	if resp := r.pcp(t, 0, r.withOtherNonce()); resp.Result != pcp.NotAuthorized {
		t.Errorf("a renewal with another nonce: %v", resp.Result)
	}
}

// demandOneOther demands that the mapping accepts another nonce once, which
// binds from then on.
func (r *epochRig) demandOneOther(t testing.TB) {
	t.Helper()
	old := r.request
	r.request = r.withOtherNonce()
	r.demandBound(t)
	if resp := r.pcp(t, 0, old); resp.Result != pcp.NotAuthorized {
		t.Errorf("a renewal with the earlier nonce: %v", resp.Result)
	}
}

// relaunch starts the daemon again.
func (r *epochRig) relaunch(t *testing.T) {
	t.Helper()
	if out, err := r.launch(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// TestEpochGoesOn replaces the daemon in all ways that lose nothing, and closes
// another client's mapping by new settings: the epoch goes on and the nonce
// binds.
func TestEpochGoesOn(t *testing.T) {
	t.Parallel()
	r := newEpochRig(t)
	other := pcpMap(client2, 17, 4000, 42000)
	for _, change := range []struct {
		what string
		do   func(t *testing.T)
	}{
		{"killed", func(t *testing.T) { r.stop(t, syscall.SIGKILL); r.relaunch(t) }},
		{"stopped and started", func(t *testing.T) { r.stop(t, syscall.SIGTERM); r.relaunch(t) }},
		{"replaced", func(t *testing.T) {
			if err := r.handOver(); err != nil {
				t.Fatal(err)
			}
		}},
		{"new rules", func(t *testing.T) {
			if resp := r.pcp(t, 1, other); resp.Result != pcp.Success {
				t.Fatal(resp.Result)
			}
			r.configure(t, r.conf("deny 42000 192.168.50.0/24 0-65535", rules)...)
			r.kill(syscall.SIGHUP)
			await(t, "the end of the other mapping", func() bool { return !strings.Contains(r.chains(t), "--dport 42000 ") })
		}},
		{"a new instance", func(t *testing.T) {
			r.configure(t, r.conf("enable_upnp=yes", "http_port=5001")...)
			r.kill(syscall.SIGHUP)
			if err := r.awaitHTTP(5001); err != nil {
				t.Fatal(err)
			}
			r.awaitServed(t)
		}},
	} {
		t.Run(change.what, func(t *testing.T) {
			await(t, "an epoch that could go back", func() bool { return r.pcpEpoch(t) >= 3 })
			before := r.readEpoch(t)
			change.do(t)
			if now := r.readEpoch(t); !now.continues(before) {
				t.Errorf("the epoch was %d, and is %d after %v", before.seconds, now.seconds, now.told.Sub(before.told))
			}
			r.demandBound(t)
		})
	}
}

// TestEpochRestarts has the external address change, also while no daemon runs,
// and the private file lost: a new epoch begins, and the mapping accepts another
// nonce once.
func TestEpochRestarts(t *testing.T) {
	t.Parallel()
	r := newEpochRig(t)
	second, third := netip.MustParsePrefix("11.22.33.55/24"), netip.MustParsePrefix("11.22.33.56/24")
	renumber := func(t *testing.T, old, next netip.Prefix) {
		r.Router.IP(t, "address", "del", old.String(), "dev", "wan0")
		r.Router.Address(t, "wan0", next)
	}
	for _, change := range []struct {
		what string
		do   func(t *testing.T)
	}{
		{"another address", func(t *testing.T) {
			renumber(t, netlab.RouterWAN, second)
			await(t, "another epoch", func() bool { return r.pcpEpoch(t) < 3 })
		}},
		{"another address meanwhile", func(t *testing.T) {
			r.stop(t, syscall.SIGKILL)
			renumber(t, second, third)
			r.relaunch(t)
		}},
		{"without the private file", func(t *testing.T) {
			r.stop(t, syscall.SIGTERM)
			leases, err := filepath.EvalSymlinks(r.path("upnp.leases")) // a link where the daemon has a folder of its own
			if err == nil {
				err = os.Remove(leases + ".state")
			}
			if err != nil {
				t.Fatal(err)
			}
			r.relaunch(t)
		}},
	} {
		t.Run(change.what, func(t *testing.T) {
			await(t, "an epoch that could go back", func() bool { return r.pcpEpoch(t) >= 3 })
			began := time.Now()
			change.do(t)
			if now := r.readEpoch(t); !now.isNewSince(began) {
				t.Errorf("the epoch is %d after %v", now.seconds, now.told.Sub(began))
			}
			r.demandOneOther(t)
		})
	}
}

// TestForgedRenewalAfterReset has another host take the client's address after a
// reset: it cannot use another nonce, and the client still can.
func TestForgedRenewalAfterReset(t *testing.T) {
	t.Parallel()
	r := newEpochRig(t)
	r.Router.IP(t, "address", "del", netlab.RouterWAN.String(), "dev", "wan0")
	r.Router.Address(t, "wan0", netip.MustParsePrefix("11.22.33.55/24"))
	await(t, "another address", func() bool {
		return r.pcp(t, 1, pcpMap(client2, 17, 4000, 42000)).External.Addr() == netip.MustParseAddr("11.22.33.55")
	})
	own := netip.PrefixFrom(client1, 24).String()
	r.Clients[0].IP(t, "address", "del", own, "dev", "eth0")
	r.Clients[1].Address(t, "eth0", netip.PrefixFrom(client1, 24))
	r.flush(t)
	ask := func(lifetime time.Duration) pcp.Result {
		t.Helper()
		req := r.withOtherNonce()
		req.Lifetime = lifetime
		reply, _ := exchange(t, r.Clients[1], client1, netlab.RouterLAN.Addr(), req.Append(nil), patience)
		resp, err := pcp.ParseResponse(reply)
		if err != nil {
			t.Fatal(err)
		}
		return resp.Result
	}
	if renewed, deleted := ask(time.Hour), ask(0); renewed != pcp.NotAuthorized || deleted != pcp.NotAuthorized {
		t.Errorf("another host renews: %v, and deletes: %v", renewed, deleted)
	}
	r.Clients[1].IP(t, "address", "del", own, "dev", "eth0")
	r.Clients[0].Address(t, "eth0", netip.PrefixFrom(client1, 24))
	r.flush(t)
	r.demandOneOther(t)
}
