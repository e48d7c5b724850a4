package daemon_test

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/ssdp"
	"igdd/pkg/vectors/discovery"
)

// Types that a client of either version looks for.
const (
	gateway1   = "urn:schemas-upnp-org:device:InternetGatewayDevice:1"
	gateway2   = "urn:schemas-upnp-org:device:InternetGatewayDevice:2"
	connection = "urn:schemas-upnp-org:service:WANIPConnection:1"
	firewall   = "urn:schemas-upnp-org:service:WANIPv6FirewallControl:1"
)

// TestAnnouncementsLeadToEverything has clients that know no more than what is
// announced, or what a search for everything finds, use what only version 2 has.
func TestAnnouncementsLeadToEverything(t *testing.T) {
	t.Parallel()
	r := newClientsRig(t, "nft")
	r.configure(t, append(clientsConf(), "notify_interval=1")...)
	r.kill(syscall.SIGHUP)
	for _, way := range []struct {
		name string
		at   func(t *testing.T, r *rig, g ssdp.Group) map[string]string
	}{{"announced", announcedAt}, {"found", foundAt}} {
		four, six := way.at(t, r, ssdp.IPv4), way.at(t, r, ssdp.SiteLocal)
		for _, list := range []map[string]string{four, six} {
			if list[connection] != list[gateway1] || list[firewall] != list[gateway1] || list[gateway2] != "" {
				t.Errorf("%s: %v", way.name, list)
			}
		}
		c := r.Clients[0]
		demandSaid(t, c.Run(t, "upnpc", "-u", four[connection], "-n", "@", "4000", "40050", "tcp", "600"), "external 11.22.33.44:40050 TCP is redirected")
		demandSaid(t, c.Run(t, "upnpc", "-6", "-u", six[firewall], "-A", "", "0", "@", "4000", "6", "600"), "Pinhole ID = ")
	}
	if at := r.location(t, gateway2); at != "http://192.168.50.1:5000/rootDesc2.xml" {
		t.Errorf("a search for version 2 leads to %s", at)
	}
}

// announcedAt hears announcements until all types have come, and returns where
// each is.
func announcedAt(t *testing.T, r *rig, g ssdp.Group) map[string]string {
	t.Helper()
	l := discovery.Listen(t, r.Clients[0], g.Addr())
	return collect(t, "NT", func() discovery.Message { return l.Next(t, "announcements", 1, "ssdp:alive")[0] })
}

// foundAt searches for everything until all types have been found, and returns
// where each is.
func foundAt(t *testing.T, r *rig, g ssdp.Group) map[string]string {
	t.Helper()
	source := client1
	if g != ssdp.IPv4 {
		source = addr6
	}
	c := discovery.Open(t, r.Clients[0], source)
	return collect(t, "ST", func() discovery.Message {
		for end := time.Now().Add(patience); time.Now().Before(end); {
			if m, ok := discovery.Receive(t, c, time.Now().Add(time.Second)); ok {
				return m
			}
			discovery.Send(t, r.Clients[0], c, g.Addr(), discovery.Search("ssdp:all"))
		}
		t.Fatal("a search for everything is not answered")
		return discovery.Message{}
	})
}

// collect returns the locations by type of messages, until the types of version 1
// have come.
func collect(t *testing.T, field string, next func() discovery.Message) map[string]string {
	t.Helper()
	list := make(map[string]string)
	for end := time.Now().Add(patience); time.Now().Before(end); {
		m := next()
		list[m.Fields[field]] = m.Fields["LOCATION"]
		if !slices.ContainsFunc([]string{gateway1, connection, firewall}, func(s string) bool { return list[s] == "" }) {
			return list
		}
	}
	t.Fatalf("only %v", list)
	return nil
}
