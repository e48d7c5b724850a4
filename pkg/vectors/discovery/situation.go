package discovery

import (
	"net/netip"
	"slices"
	"testing"
)

// situations are what vectors bring about, by their trigger. A notify interval
// of a minute is played in a shorter time.
var situations = map[string]func(Vector, *testing.T, *Gateway){
	"daemon start":                                  Vector.start,
	"daemon stop (SIGTERM)":                         Vector.stop,
	"notify interval 60 s, wait 130 s":              Vector.interval,
	"change {gw1} to another address in the subnet": Vector.newAddress,
	"change {ext}":                                  Vector.newUplink,
}

// PlaySituation brings the vector's situation about and compares what is
// announced.
func (v Vector) PlaySituation(t *testing.T, g *Gateway) {
	t.Helper()
	play := situations[v.Trigger]
	if play == nil {
		t.Fatalf("%s: situation %q is not known", v.ID, v.Trigger)
	}
	play(v, t, g)
}

// listen opens ears in every group.
func (g *Gateway) listen(t *testing.T) map[netip.Addr]GroupListener {
	ears := make(map[netip.Addr]GroupListener)
	for group := range groups {
		ears[group] = Listen(t, g.Hosts["c1"], group)
	}
	return ears
}

// start hears byebye and then three times alive.
func (v Vector) start(t *testing.T, g *Gateway) {
	ears := g.listen(t)
	g.Start()
	defer g.Stop()
	n := v.items()
	for group, e := range ears {
		heard := e.Next(t, "byebye, then three times alive, in "+group.String(), 4*n, "")
		for i, m := range heard {
			if m.Fields["HOST"] != groups[group] {
				t.Errorf("HOST %s in %v", m.Fields["HOST"], group)
			}
			if kind := m.Fields["NTS"]; (kind == "ssdp:byebye") != (i < n) || (kind == "ssdp:alive") != (i >= n) {
				t.Errorf("message %d in %v is %s", i, group, kind)
			}
		}
		for _, s := range v.Expect.Sequence {
			v.sequence(t, g, s, heard)
		}
	}
}

// sequence compares the messages of one kind with a set.
func (v Vector) sequence(t *testing.T, g *Gateway, s Set, heard []Message) {
	t.Helper()
	got := slices.DeleteFunc(slices.Clone(heard), func(m Message) bool { return m.Fields["NTS"] != s.NTS })
	g.sameSet(t, "NT", s.Set, got)
	for _, m := range got {
		if s.NTS == "ssdp:alive" {
			m.require(t, v.Expect.Alive, v.Expect.MaxAge)
		} else {
			m.require(t, v.Expect.Byebye, 0)
		}
	}
}

// stop hears byebye in every group, with the numbers of the announcements.
func (v Vector) stop(t *testing.T, g *Gateway) {
	ears := g.listen(t)
	g.Start()
	alive := make(map[netip.Addr]Message)
	for group, e := range ears {
		alive[group] = e.Next(t, "alive in "+group.String(), 1, "ssdp:alive")[0]
	}
	g.Stop()
	for group, e := range ears {
		heard := e.Next(t, "byebye at the end in "+group.String(), v.items(), "ssdp:byebye")
		v.sequence(t, g, v.Expect.Sequence[0], heard)
		for _, m := range heard {
			for _, name := range []string{"BOOTID.UPNP.ORG", "CONFIGID.UPNP.ORG"} {
				if m.Fields[name] != alive[group].Fields[name] {
					t.Errorf("%s %s, was %s", name, m.Fields[name], alive[group].Fields[name])
				}
			}
		}
	}
}

// interval hears announcements again and again, and none is valid for a
// shorter time because the next comes soon.
func (v Vector) interval(t *testing.T, g *Gateway) {
	e := Listen(t, g.Hosts["c1"], group4)
	g.Start()
	defer g.Stop()
	for _, m := range e.Next(t, "alive sets", (3+v.Expect.Sets)*v.items(), "ssdp:alive") {
		m.require(t, nil, v.Expect.MaxAge)
	}
}

// newAddress hears an update, then alive with the new LOCATION and BOOTID: on
// the LAN where the address was changed, and on the other.
func (v Vector) newAddress(t *testing.T, g *Gateway) {
	first, second := Listen(t, g.Hosts["c1"], group4), Listen(t, g.Hosts["c3"], group4)
	g.Start()
	defer g.Stop()
	n := v.items()
	before := first.Next(t, "alive", 1, "ssdp:alive")[0]
	moved := g.MoveLAN()
	for e, place := range map[GroupListener]netip.Addr{first: moved, second: g.address("gw2")} {
		update := e.Next(t, "update", n, "ssdp:update")[n-1]
		after := e.Next(t, "alive", n, "ssdp:alive")[n-1]
		if got := update.Fields["BOOTID.UPNP.ORG"]; got != before.Fields["BOOTID.UPNP.ORG"] {
			t.Errorf("update with BOOTID %s", got)
		}
		if got, want := after.Fields["BOOTID.UPNP.ORG"], update.Fields["NEXTBOOTID.UPNP.ORG"]; got != want || got <= before.Fields["BOOTID.UPNP.ORG"] {
			t.Errorf("alive with BOOTID %s, announced was %s", got, want)
		}
		for _, m := range []Message{update, after} {
			m.leadsTo(t, netip.AddrPortFrom(place, g.Port))
		}
	}
	Await(t, g.Hosts["c1"], g.address("c1")).leadsTo(t, netip.AddrPortFrom(moved, g.Port))
}

// newUplink hears nothing when something changes elsewhere: what comes next
// is the announcement that is asked for, with the same BOOTID.
func (v Vector) newUplink(t *testing.T, g *Gateway) {
	e := Listen(t, g.Hosts["c1"], group4)
	g.Start()
	defer g.Stop()
	before := e.Next(t, "three sets", 3*v.items(), "ssdp:alive")[0]
	g.MoveUplink()
	g.Announce()
	for _, m := range e.Next(t, "what comes next", v.items(), "") {
		if m.Fields["NTS"] != "ssdp:alive" || m.Fields["BOOTID.UPNP.ORG"] != before.Fields["BOOTID.UPNP.ORG"] {
			t.Errorf("heard %v", m.Fields)
		}
	}
}
