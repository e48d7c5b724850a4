package portmap

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"
)

// lenient returns an allocator with LenientNonce, and a PCP mapping in it with
// nonce 1, restricted to one peer, for an hour.
func lenient(t *testing.T, client netip.Addr, change ...func(*Request)) (*allocator, *Mapping) {
	t.Helper()
	al := testAllocator()
	al.policy.LenientNonce = true
	first := append([]func(*Request){nonce(1), keeping, called("first"), by("02:00:00:00:00:10")}, change...)
	a := al.do(ask(PCP, client, TCP, 40000, 40000, first...))
	if a.Refusal != Granted {
		t.Fatal(a.Refusal)
	}
	al.changes = nil
	return al, a.Mapping
}

// by sets the hardware address of the request's host.
func by(hardware string) func(*Request) {
	return func(r *Request) { r.Host.Hardware = hardware }
}

// keptText keeps the claim's description.
func keptText(r *Request) { r.KeepDescription = true }

// TestAnotherNonceOnlyRenews renews with another nonce in all ways.
func TestAnotherNonceOnlyRenews(t *testing.T) {
	one := from("9.9.9.9/32")
	six := func(r *Request) { r.Filters = []Filter{{Prefix: netip.MustParsePrefix("2001:db8:99::2/128")}} }
	for _, tt := range []struct {
		what   string
		client netip.Addr
		made   []func(*Request)
		by     []func(*Request)
		want   Refusal
	}{
		{"as iroh does", host, []func(*Request){one}, []func(*Request){keeping, keptText}, Granted},
		{"over IPv6", inside, []func(*Request){six}, []func(*Request){keeping, keptText}, Granted},
		{"with the filter that it has", host, []func(*Request){one}, []func(*Request){keeping, one}, Granted},
		{"with that filter twice", host, []func(*Request){one}, []func(*Request){keeping, one, one}, Granted},
		{"with a text", host, []func(*Request){one}, []func(*Request){keeping, called("second")}, Granted},
		{"its port or none", host, nil, []func(*Request){keeping, exactly}, Granted},
		{"of a flow", host, []func(*Request){toward("9.9.9.9:443")}, []func(*Request){keeping, toward("9.9.9.9:443")}, Granted},
		{"from a host that is not known", host, nil, []func(*Request){keeping, by("")}, Granted},
		{"of a host that was not known", host, []func(*Request){by("")}, []func(*Request){keeping}, Granted},
		{"from another host that has the address now", host, nil, []func(*Request){keeping, by("02:00:00:00:00:11")}, NotOwner},
		{"from another host over IPv6", inside, nil, []func(*Request){keeping, by("02:00:00:00:00:11")}, NotOwner},
		{"with one filter more", host, []func(*Request){one}, []func(*Request){keeping, from("9.9.9.9/32", "8.8.8.8/32")}, NotOwner},
		{"with a wider filter", host, []func(*Request){one}, []func(*Request){keeping, from("9.9.9.0/24")}, NotOwner},
		{"with a first filter", host, nil, []func(*Request){keeping, one}, NotOwner},
		{"with that filter at one port", host, []func(*Request){one}, []func(*Request){keeping, one, func(r *Request) { r.Filters[0].Port = 80 }}, NotOwner},
		{"without filters", host, []func(*Request){one}, nil, NotOwner},
		{"with the same filters instead", host, []func(*Request){one}, []func(*Request){one}, NotOwner},
		{"for another host", host, nil, []func(*Request){keeping, func(r *Request) { r.Client, r.ThirdParty = peer, true }}, NotOwner},
		{"another port or none", host, nil, []func(*Request){keeping, exactly, func(r *Request) { r.External = 40001 }}, Conflict},
		{"a delete", host, nil, []func(*Request){keeping, closing, func(r *Request) { r.External = 0 }}, NotOwner},
	} {
		for _, lifetime := range []time.Duration{time.Minute, 2 * time.Hour, 48 * time.Hour} {
			al, m := lenient(t, tt.client, tt.made...)
			change := append([]func(*Request){nonce(2), lasting(lifetime), by("02:00:00:00:00:10")}, tt.by...)
			a := al.do(ask(PCP, tt.client, TCP, 40000, 40000, change...))
			if a.Refusal != tt.want {
				t.Errorf("%s: %v, want %v", tt.what, a.Refusal, tt.want)
				continue
			}
			end := m.Claims[0].Expires
			if tt.want == Granted {
				end = later(end, al.now.Add(min(lifetime, 24*time.Hour)))
				if a.Lifetime != end.Sub(al.now) {
					t.Errorf("%s: granted for %v, ends in %v", tt.what, a.Lifetime, end.Sub(al.now))
				}
			}
			al.checkOnly(t, tt.what, m, end)
		}
	}
}

// checkOnly checks that the allocator has m as it was, but for its end, and
// nothing else.
func (al *allocator) checkOnly(t *testing.T, what string, m *Mapping, end time.Time) {
	t.Helper()
	now := al.index.byKey[m.Key]
	if now == nil || len(al.index.byKey) != 1 {
		t.Fatalf("%s: %d mappings, want one", what, len(al.index.byKey))
	}
	want := *m
	want.Claims = slices.Clone(m.Claims)
	want.Claims[0].Expires = end
	got := *now
	if m.Host.Hardware == "" {
		want.Host = got.Host // may have become known
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: %+v, want %+v", what, got, want)
	}
	if slices.ContainsFunc(al.changes, Change.Alters) {
		t.Errorf("%s: rules changed", what)
	}
}

// TestAnotherNonceOpensNothing renews, changes and deletes at random with other
// nonces: no rule changes, no end moves to an earlier time, and what is granted
// would have been granted with the right nonce too.
func TestAnotherNonceOpensNothing(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	choose := func(list ...func(*Request)) func(*Request) { return list[rnd.IntN(len(list))] }
	none := func(*Request) {}
	granted := 0
	for range 5000 {
		made := choose(none, from("9.9.9.9/32"), from("9.9.9.9/32", "8.0.0.0/8"))
		al, m := lenient(t, host, made)
		strict, _ := lenient(t, host, made)
		req := ask(PCP, host, TCP, 40000, 40000, nonce(byte(2+rnd.IntN(9))),
			choose(none, keeping, keeping, keeping), choose(none, none, exactly), choose(none, none, none, closing),
			choose(none, from("9.9.9.9/32"), from("8.0.0.0/8"), from("0.0.0.0/0"), from("8.0.0.0/8", "9.9.9.9/32")),
			choose(none, none, by("02:00:00:00:00:10"), by("02:00:00:00:00:11")), choose(none, called("x"), keptText),
			choose(none, none, func(r *Request) { r.External = uint16(rnd.Uint32()) }),
			choose(none, none, func(r *Request) { r.Client = peer }, func(r *Request) { r.Client, r.ThirdParty = peer, true }),
			lasting(time.Duration(rnd.IntN(100000))*time.Second))
		if req.Op == Close {
			req.External = 0
		}
		a := al.do(req)
		end := al.index.byKey[m.Key].Claims[0].Expires
		if a.Refusal != Granted && !end.Equal(m.Claims[0].Expires) || end.Before(m.Claims[0].Expires) {
			t.Fatalf("%v moves the end from %v to %v: %+v", a.Refusal, m.Claims[0].Expires, end, req)
		}
		al.checkOnly(t, "at random", m, end)
		if a.Refusal == Granted {
			granted++
			req.Nonce = Nonce{1}
			if with := strict.do(req); with.Refusal != Granted || with.Mapping.External != a.Mapping.External {
				t.Fatalf("with its nonce %v: %+v", with.Refusal, req)
			}
		}
	}
	if granted < 100 {
		t.Errorf("only %d of the requests were granted", granted)
	}
}

// TestOtherClaimsDoNotProveOwnership has another host take over the address of
// a PCP client, join the client's mapping through other protocols, and then try
// to renew the client's claim with another nonce.
func TestOtherClaimsDoNotProveOwnership(t *testing.T) {
	other := by("02:00:00:00:00:11")
	pinhole := func(r *Request) { r.External = 0 }
	flow := func(n byte) Request {
		return ask(PCP, host, TCP, 40000, 40000, nonce(n), keeping, other, toward("9.9.9.9:443"))
	}
	flow6 := ask(PCP, inside, TCP, 40000, 40000, nonce(2), keeping, other, toward("[2001:db8:99::2]:443"))
	for _, tt := range []struct {
		what   string
		client netip.Addr
		first  []Request
		want   Refusal
	}{
		{"by a flow", host, []Request{flow(2)}, NotOwner},
		{"by a flow, twice", host, []Request{flow(2), flow(2)}, NotOwner},
		{"by a flow and the client's nonce", host, []Request{flow(1)}, Granted},
		{"by a flow over IPv6", inside, []Request{flow6}, NotOwner},
		{"by a pinhole", inside, []Request{ask(UPnP, inside, TCP, 40000, 0, pinhole, other, lasting(time.Hour))}, NotOwner},
		{"by a pinhole that is renewed", inside, []Request{
			ask(UPnP, inside, TCP, 40000, 0, pinhole, lasting(time.Hour)),
			{Op: Open, Origin: UPnP, Client: inside, ID: 1, Lifetime: time.Hour, Host: Host{Hardware: "02:00:00:00:00:11"}},
		}, NotOwner},
		{"by NAT-PMP", host, []Request{ask(NATPMP, host, TCP, 40000, 40000, other)}, NotOwner},
		{"by UPnP", host, []Request{ask(UPnP, host, TCP, 40000, 40000, other, exactly)}, NotOwner},
	} {
		al, m := lenient(t, tt.client)
		for _, req := range tt.first {
			if a := al.do(req); a.Refusal != Granted {
				t.Fatalf("%s: %v", tt.what, a.Refusal)
			}
		}
		a := al.do(ask(PCP, tt.client, TCP, 40000, 40000, nonce(3), keeping, keptText, other, lasting(20*time.Hour)))
		if a.Refusal != tt.want {
			t.Errorf("%s: %v, want %v; the host is %v", tt.what, a.Refusal, tt.want, al.index.byKey[m.Key].Host)
		}
		if a := al.do(ask(PCP, tt.client, TCP, 40000, 40000, nonce(1), keeping, keptText, other)); a.Refusal != Granted {
			t.Errorf("%s: the client itself gets %v", tt.what, a.Refusal)
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
