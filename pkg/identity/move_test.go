package identity

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"igdd/pkg/hosts"
	"igdd/pkg/netlab"
	"igdd/pkg/portmap"
)

var (
	before = netip.MustParseAddr("192.168.50.30")
	after  = netip.MustParseAddr("192.168.50.10")
)

// exactly is a UPnP request for this external port only.
func exactly(client netip.Addr, port uint16) portmap.Request {
	req := open(client, port)
	req.Origin, req.Exact = portmap.UPnP, true
	return req
}

// newMovingResolver returns the Resolver of a lab in which the first client has
// a mapping for an additional address.
func newMovingResolver(t *testing.T, lab *netlab.Lab) *Resolver {
	t.Helper()
	r := newLabResolver(t, lab)
	lab.Clients[0].Address(t, "eth0", netip.PrefixFrom(before, 24))
	setNeighbour(t, lab, before, 0)
	err := lab.Router.Do(func() error {
		if a, err := r.Do(t.Context(), exactly(before, 2000)); err != nil || a.Refusal != portmap.Granted {
			t.Errorf("%v, %v", a.Refusal, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if list := r.List(); len(list) != 1 || list[0].Host.Hardware == "" {
		t.Fatalf("the table has %+v", list)
	}
	return r
}

// setNeighbour adds a client's address to the router's neighbour table, as a
// packet from it would.
func setNeighbour(t *testing.T, lab *netlab.Lab, a netip.Addr, client int) {
	t.Helper()
	var own net.HardwareAddr
	err := lab.Clients[client].Do(func() error {
		link, err := net.InterfaceByName("eth0")
		if err == nil {
			own = link.HardwareAddr
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	lab.Router.IP(t, "neigh", "replace", a.String(), "lladdr", own.String(), "dev", "lan0", "nud", "stale")
}

// removeAddress removes the additional address from the first client.
func removeAddress(t *testing.T, lab *netlab.Lab) {
	t.Helper()
	lab.Clients[0].IP(t, "address", "del", before.String()+"/24", "dev", "eth0")
}

// ask decides a request in the router's namespace, by Do if waits is set, else
// by Submit with the lookup that it may need.
func ask(t *testing.T, lab *netlab.Lab, r *Resolver, req portmap.Request, waits bool) (got answer) {
	t.Helper()
	in := make(answers, 1)
	err := lab.Router.Do(func() error {
		if waits {
			a, err := r.Do(t.Context(), req)
			got.Refusal = a.Refusal
			return err
		}
		if !in.submit(r, req) {
			t.Error("a request is dropped")
			return nil
		}
		select {
		case l := <-r.queue:
			r.resolve(t.Context(), l)
		default:
		}
		got = in.next(t)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestHostThatMoves asks for the port again by Do and by Submit, before the
// host gives up its old address and after that.
func TestHostThatMoves(t *testing.T) {
	for _, waits := range []bool{false, true} {
		lab := netlab.NewLab(t, netlab.Layout{Clients: 2})
		r := newMovingResolver(t, lab)
		other := netip.MustParseAddr("192.168.50.11")
		setNeighbour(t, lab, after, 0)
		setNeighbour(t, lab, other, 1)
		if got := ask(t, lab, r, exactly(after, 2000), waits); got.Refusal != portmap.Conflict {
			t.Errorf("while it has both addresses: %v", got.Refusal)
		}
		removeAddress(t, lab)
		r.finder = &hosts.Finder{Log: r.finder.Log} // without cached answers
		if got := ask(t, lab, r, exactly(other, 2000), waits); got.Refusal != portmap.Conflict {
			t.Errorf("another host: %v", got.Refusal)
		}
		third := exactly(other, 2000)
		third.Internal = netip.AddrPortFrom(after, 2000)
		if got := ask(t, lab, r, third, waits); got.Refusal != portmap.Conflict {
			t.Errorf("for another host: %v", got.Refusal)
		}
		got := answer{Refusal: portmap.Conflict}
		for deadline := time.Now().Add(15 * time.Second); got.Refusal != portmap.Granted && time.Now().Before(deadline); {
			got = ask(t, lab, r, exactly(after, 2000), waits) // on a busy machine the hosts answer late
		}
		if list := r.List(); got.Refusal != portmap.Granted || len(list) != 1 || list[0].Internal.Addr() != after {
			t.Errorf("when it has moved: %v, %+v", got.Refusal, list)
		}
		if under, direct := underWay(r.limiter), underWay(r.directLimiter); len(r.lookups) > 0 || under > 0 || direct > 0 {
			t.Errorf("left: %d lookups, %d and %d in the limiters", len(r.lookups), under, direct)
		}
	}
}

// TestFloodOfMoves has as many lookups of one host wait as the limit allows: no
// more are done for it, and a request of another host needs none.
func TestFloodOfMoves(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{Clients: 2})
	r := newMovingResolver(t, lab)
	removeAddress(t, lab)
	setNeighbour(t, lab, after, 0)
	other := netip.MustParseAddr("192.168.50.11")
	setNeighbour(t, lab, other, 1)
	own := r.List()[0].Host.Hardware
	for range maxPerClient {
		r.limiter.Acquire(own)
	}
	for range maxPerClientDirect {
		r.directLimiter.Acquire(own)
	}
	in := make(answers, 10)
	err := lab.Router.Do(func() error {
		if in.submit(r, exactly(after, 2000)) || len(r.lookups) > 0 {
			t.Error("one lookup more than the limit is accepted")
		}
		if a, err := r.Do(t.Context(), exactly(after, 2000)); err != nil || a.Refusal != portmap.Conflict {
			t.Errorf("%v, %v", a.Refusal, err)
		}
		if !in.submit(r, exactly(other, 2000)) || in.next(t).Refusal != portmap.Conflict {
			t.Error("another host waits")
		}
		known, err := hosts.Read("")
		if h := known[before]; h.Answers != true {
			t.Errorf("the old address was probed: %+v", h)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestRequestsWaitBehindAMove has a host's later requests wait for the lookup
// of its first one.
func TestRequestsWaitBehindAMove(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{})
	r, in := newMovingResolver(t, lab), make(answers, 10)
	removeAddress(t, lab)
	setNeighbour(t, lab, after, 0)
	closing := open(after, 2000)
	closing.Op, closing.External, closing.Origin = portmap.Close, 0, portmap.UPnP
	err := lab.Router.Do(func() error {
		for _, req := range []portmap.Request{exactly(after, 2000), closing, exactly(after, 2001)} {
			if !in.submit(r, req) {
				t.Error("a request is dropped")
			}
		}
		if len(r.queue) != 1 || len(in) > 0 {
			t.Errorf("%d lookups, %d answers", len(r.queue), len(in))
		}
		r.resolve(t.Context(), <-r.queue)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	in.three(t)
	for _, m := range r.List() {
		if m.Internal == netip.AddrPortFrom(after, 2000) {
			t.Errorf("closed too early: %+v", m)
		}
	}
}
