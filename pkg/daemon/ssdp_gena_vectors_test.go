package daemon_test

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"igdd/pkg/netlab"
	"igdd/pkg/vectors/discovery"
	"igdd/pkg/vectors/gena"
)

// host returns the namespace that the vectors have a name for.
func (r *rig) host(name string) *netlab.Namespace {
	return map[string]*netlab.Namespace{"c1": r.Clients[0], "c2": r.Clients[1], "c3": r.Client2, "wan": r.WAN}[name]
}

// TestDiscoveryVectors plays all searches and situations of SSDP's vectors
// against the running daemon.
func TestDiscoveryVectors(t *testing.T) {
	r := newUPnPRig(t, "default")
	r.Clients[0].Address(t, "lo", netip.MustParsePrefix("10.99.0.7/32"))
	vectors := discovery.Load(t, "../upnpd/testdata/ssdp.json")
	for _, config := range []string{"default", "v1"} {
		r.start(t, upnpConf(config)...)
		for _, v := range vectors {
			if v.Trigger == "datagram" && v.Config == config {
				t.Run(v.ID, func(t *testing.T) { v.PlaySearch(t, r.discovery(t, config)) })
			}
		}
		r.stop(t, syscall.SIGTERM)
	}
	for _, v := range vectors {
		if v.Trigger != "datagram" {
			t.Run(v.ID, func(t *testing.T) { v.PlaySituation(t, r.discovery(t, v.Config)) })
		}
	}
}

// discovery returns the router as the vectors of SSDP know it.
func (r *rig) discovery(t *testing.T, config string) *discovery.Gateway {
	conf := slices.DeleteFunc(upnpConf(config), func(line string) bool { return strings.HasPrefix(line, "notify_interval") })
	return &discovery.Gateway{
		Tokens: upnpHosts, Port: upnpPort,
		Hosts: map[string]*netlab.Namespace{"c1": r.Clients[0], "c2": r.Clients[1], "c3": r.Client2, "wan": r.WAN},
		Start: func() { r.start(t, append(conf, "notify_interval=2")...) },
		Stop:  func() { r.stop(t, syscall.SIGTERM) },
		MoveLAN: func() netip.Addr {
			moved := netip.MustParsePrefix("192.168.50.2/24")
			r.replaceAddress(t, "lan0", netlab.RouterLAN, moved)
			t.Cleanup(func() { r.replaceAddress(t, "lan0", moved, netlab.RouterLAN) })
			return moved.Addr()
		},
		MoveUplink: func() {
			moved := netip.PrefixFrom(netip.MustParseAddr(upnpHosts["ext2"]), netlab.RouterWAN.Bits())
			r.replaceAddress(t, "wan0", netlab.RouterWAN, moved)
			t.Cleanup(func() { r.replaceAddress(t, "wan0", moved, netlab.RouterWAN) })
		},
		Announce: func() { r.kill(syscall.SIGUSR1) },
	}
}

// replaceAddress gives an interface of the router another address.
func (r *rig) replaceAddress(t *testing.T, dev string, old, moved netip.Prefix) {
	t.Helper()
	r.Router.Sysctl(t, "net/ipv4/conf/"+dev+"/promote_secondaries", "1")
	r.Router.Address(t, dev, moved)
	r.Router.IP(t, "address", "del", old.String(), "dev", dev)
}

// TestEventVectors plays all vectors of events against the running daemon.
func TestEventVectors(t *testing.T) {
	r := newUPnPRig(t, "default")
	config := ""
	for _, v := range gena.Load(t, "../upnpd/testdata/gena.json") {
		path := "/rootDesc2.xml"
		if v.Config == "v1" {
			path = "/rootDesc.xml"
		}
		if v.Config != config {
			if config != "" {
				r.stop(t, syscall.SIGTERM)
			}
			r.start(t, upnpConf(v.Config)...)
			config = v.Config
		}
		t.Run(v.ID, func(t *testing.T) { v.Play(t, r.events(t, path)) })
		if v.Subscribes() { // its subscriptions and mappings would stay
			r.stop(t, syscall.SIGTERM)
			r.forget(t)
			config = ""
		}
	}
}

// events returns the router as the vectors of events know it.
func (r *rig) events(t *testing.T, description string) *gena.Gateway {
	now := netlab.RouterWAN
	move := func(a netip.Addr) error {
		if !a.IsValid() {
			r.Router.IP(t, "-4", "address", "flush", "dev", "wan0")
			now = netip.Prefix{}
			return nil
		}
		moved := netip.PrefixFrom(a, netlab.RouterWAN.Bits())
		if !now.IsValid() {
			r.Router.Address(t, "wan0", moved)
		} else if now != moved {
			r.replaceAddress(t, "wan0", now, moved)
		}
		now = moved
		return nil
	}
	t.Cleanup(func() { move(netlab.RouterWAN.Addr()) })
	return &gena.Gateway{
		Port: upnpPort, Description: description, Tokens: upnpHosts, Dial: r.dialFrom, SetUplink: move,
		Listen: func(host string, at netip.AddrPort) (l net.Listener, err error) {
			err = r.host(host).Do(func() error { l, err = net.Listen("tcp", at.String()); return err })
			return l, err
		},
	}
}
