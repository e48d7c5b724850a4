package daemon_test

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"igdd/pkg/netlab"
	"igdd/pkg/vectors"
	"igdd/pkg/vectors/discovery"
	"igdd/pkg/vectors/gena"
)

// host returns the namespace that the vectors have a name for.
func (r *rig) host(name string) *netlab.Namespace {
	return map[string]*netlab.Namespace{"c1": r.Clients[0], "c2": r.Clients[1], "c3": r.Client2, "wan": r.WAN}[name]
}

// TestDiscoveryVectors plays all searches and situations of SSDP's vectors, those
// of version 1 and those of version 2, against the running daemon, which shows
// both.
func TestDiscoveryVectors(t *testing.T) {
	t.Parallel()
	rigs := []*rig{newUPnPRig(t, "both"), newUPnPRig(t, "both"), newUPnPRig(t, "both")}
	r := rigs[0]
	r.Clients[0].Address(t, "lo", netip.MustParsePrefix("10.99.0.7/32"))
	var situations []discovery.Vector
	r.start(t, upnpConf("both")...)
	for _, v := range discovery.Load(t) {
		switch v = besideTheOther(v); {
		case v.ID == "ssdp-015": // types of version 2 are unknown only where version 1 stands alone
		case v.Trigger == "datagram":
			t.Run(v.ID, func(t *testing.T) { v.PlaySearch(t, r.discovery(t)) })
		default:
			situations = append(situations, v)
		}
	}
	r.stop(t, syscall.SIGTERM)
	vectors.PlayInParallel(t, rigs, situations, func(v discovery.Vector) string { return v.ID },
		func(t *testing.T, r *rig, v discovery.Vector) { v.PlaySituation(t, r.discovery(t)) })
}

// besideTheOther returns a vector of one version as it is on a gateway that
// shows both. There everything, in answers and in announcements, is what version
// 1 has, with the IPv6 firewall control: clients that search for everything get
// one description. The answer to a search for one type is the same.
func besideTheOther(v discovery.Vector) discovery.Vector {
	v.Expect.Replies = shownByVersion1(v.Expect.Replies)
	if v.Expect.Count > 1 {
		v.Expect.Count = max(v.Expect.Count, len(v.Expect.Replies))
	}
	v.Expect.Sequence = slices.Clone(v.Expect.Sequence)
	for i := range v.Expect.Sequence {
		v.Expect.Sequence[i].Set = shownByVersion1(v.Expect.Sequence[i].Set)
	}
	return v
}

// shownByVersion1 returns a set of everything as version 1 has it beside version
// 2; a set of one is left as it is.
func shownByVersion1(set []map[string]string) (list []map[string]string) {
	if len(set) <= 1 {
		return set
	}
	for _, item := range set {
		if strings.Contains(item["USN"], ":WANIPv6FirewallControl:") {
			continue
		}
		shown := make(map[string]string)
		for name, value := range item {
			if of2, ok := strings.CutSuffix(value, ":2"); ok {
				value = of2 + ":1"
			}
			shown[name] = value
		}
		list = append(list, shown)
	}
	const firewall = "urn:schemas-upnp-org:service:WANIPv6FirewallControl:1"
	return append(list, map[string]string{"ST": firewall, "NT": firewall, "USN": "uuid:{uuid_wcd}::" + firewall})
}

// discovery returns the router as the vectors of SSDP know it.
func (r *rig) discovery(t *testing.T) *discovery.Gateway {
	conf := slices.DeleteFunc(upnpConf("both"), func(line string) bool { return strings.HasPrefix(line, "notify_interval") })
	return &discovery.Gateway{
		Tokens: upnpHosts, Port: upnpPort,
		Hosts: map[string]*netlab.Namespace{"c1": r.Clients[0], "c2": r.Clients[1], "c3": r.Client2, "wan": r.WAN},
		Start: func() { r.start(t, append(conf, "notify_interval=1")...) },
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

// TestEventVectors plays all vectors of events, those of version 1 and those of
// version 2, against the running daemon, which shows both.
func TestEventVectors(t *testing.T) {
	t.Parallel()
	var rigs []*rig
	for range 4 {
		r := newUPnPRig(t, "both")
		r.start(t, upnpConf("both")...)
		rigs = append(rigs, r)
	}
	shown := rigs[0].descriptions(t)
	vectors.PlayInParallel(t, rigs, gena.Load(t), func(v gena.Vector) string { return v.ID }, func(t *testing.T, r *rig, v gena.Vector) {
		if v.Subscribes() { // its subscriptions and mappings would stay
			t.Cleanup(func() {
				r.stop(t, syscall.SIGTERM)
				r.removeFiles(t)
				r.start(t, upnpConf("both")...)
			})
		}
		v.Play(t, r.events(t, shown.of(v.Config)))
	})
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
			err = r.host(host).Listen(func() error { l, err = net.Listen("tcp", at.String()); return err })
			return l, err
		},
	}
}
