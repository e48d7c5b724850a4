package ssdpd_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"igdd/pkg/netlab"
	"igdd/pkg/ssdp"
	"igdd/pkg/vectors"
	"igdd/pkg/vectors/discovery"
)

// descriptionOf returns the description of a configuration of the vectors.
func descriptionOf(config string) *ssdp.Description {
	if config == "v1" {
		return description1
	}
	return description2
}

// vectorGateway returns the lab in the terms of the vectors.
func vectorGateway(lab *netlab.Lab) *discovery.Gateway {
	return &discovery.Gateway{
		Port:  5000,
		Hosts: map[string]*netlab.Namespace{"c1": lab.Clients[0], "c2": lab.Clients[1], "c3": lab.Client2, "wan": lab.WAN},
		Tokens: map[string]string{
			"uuid_root": uuidRoot, "uuid_wd": uuidWAN, "uuid_wcd": uuidConnection, "wan": "11.22.33.1",
			"c1": client1.String(), "c2": client2.String(), "c3": client3.String(), "c1v6": client1v6.String(),
			"gw1": netlab.RouterLAN.Addr().String(), "gw2": netlab.RouterLAN2.Addr().String(),
			"gw_linklocal": linkLocal.Addr().String(), "gwv6": netlab.RouterLAN6.Addr().String(),
		},
	}
}

// id returns a vector's name.
func id(v discovery.Vector) string { return v.ID }

// TestSearches plays every search against servers on two LANs.
func TestSearches(t *testing.T) {
	t.Parallel()
	labs := []*netlab.Lab{newLab(t), newLab(t)}
	for _, lab := range labs {
		lab.Clients[0].Address(t, "lo", netip.MustParsePrefix("10.99.0.7/32"))
	}
	searches := slices.DeleteFunc(discovery.Load(t), func(v discovery.Vector) bool { return v.Trigger != "datagram" })
	if len(searches) != 52 {
		t.Errorf("%d vectors are played", len(searches))
	}
	vectors.PlayInParallel(t, labs, searches, id, func(t *testing.T, lab *netlab.Lab, v discovery.Vector) {
		serve(t, lab, time.Hour, descriptionOf(v.Config))
		v.PlaySearch(t, vectorGateway(lab))
	})
}

// TestSituations plays the vectors of starts, stops, changes and announcements.
func TestSituations(t *testing.T) {
	t.Parallel()
	labs := []*netlab.Lab{newLab(t), newLab(t), newLab(t)}
	second := netip.MustParsePrefix("192.168.50.2/24")
	for _, lab := range labs {
		lab.Router.Address(t, "lan0", second)
	}
	situations := slices.DeleteFunc(discovery.Load(t), func(v discovery.Vector) bool { return v.Trigger == "datagram" })
	vectors.PlayInParallel(t, labs, situations, id, func(t *testing.T, lab *netlab.Lab, v discovery.Vector) {
		var running *gateway
		g := vectorGateway(lab)
		g.Start = func() { running = serve(t, lab, 500*time.Millisecond, descriptionOf(v.Config)) }
		g.Stop = func() { running.stop() }
		g.MoveLAN = func() netip.Addr {
			running.first.set(second, netlab.RouterLAN6, linkLocal)
			running.Changed()
			return second.Addr()
		}
		g.MoveUplink = func() { running.Changed() }
		g.Announce = func() { running.Announce() }
		v.PlaySituation(t, g)
	})
}
