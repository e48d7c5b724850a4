package daemon_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/netlab"
	"igdd/pkg/vectors"
	"igdd/pkg/vectors/discovery"
	"igdd/pkg/vectors/soap"
)

const upnpPort = 5555

// upnpHosts are the lab's addresses by the names that the vectors of UPnP have
// for them.
var upnpHosts = map[string]string{
	"c1": "192.168.50.10", "c2": "192.168.50.11", "c3": "192.168.60.10", "wan": "11.22.33.1", "wan_other": "11.22.33.200",
	"gw1": "192.168.50.1", "gw2": "192.168.60.1", "ext": "11.22.33.44", "ext2": "11.22.33.45", "bcast1": "192.168.50.255",
	"c1v6": "2001:db8:50::10", "c2v6": "2001:db8:50::11", "gwv6": "2001:db8:50::1", "wanv6": "2001:db8:33::1",
	"gw_linklocal": "fe80::1",
	"uuid_root":    "11111111-2222-3333-4444-555555555500",
	"uuid_wd":      "11111111-2222-3333-4444-555555555501", "uuid_wcd": "11111111-2222-3333-4444-555555555502",
}

// upnpConf returns the settings that a configuration of the vectors means. Those
// that say nothing of the version show both.
func upnpConf(config string) []string {
	conf := []string{
		"ext_ifname6=wan0", "listening_ip=lan1", "http_port=5555", "enable_natpmp=no", "enable_upnp=yes",
		"uuid=" + upnpHosts["uuid_root"], "serial=12345678", "model_number=1", "bitrate_up=1000000", "bitrate_down=10000000",
		"system_uptime=no", "notify_interval=60",
	}
	switch config {
	case "v1":
		conf = append(conf, "force_igd_desc_v1=yes")
	case "default":
		conf = append(conf, "force_igd_desc_v1=no")
	case "open":
		conf = append(conf, "secure_mode=no")
	case "noipv6":
		conf = append(conf, "ipv6_disable=yes")
	}
	if config == "narrow" {
		conf = append(conf, "allow 4000-4001 192.168.50.0/24 1024-65535")
	} else {
		conf = append(conf, "allow 1024-65535 192.168.50.0/24 1024-65535", "allow 1024-65535 192.168.60.0/24 1024-65535")
	}
	return append(conf, "deny 0-65535 0.0.0.0/0 0-65535")
}

// newUPnPRig makes a lab in the situation that a configuration of the vectors
// names.
func newUPnPRig(t *testing.T, config string) *rig {
	t.Helper()
	r := newRig(t, "legacy", netlab.Layout{Clients: 2, SecondLAN: true, IPv6: true})
	switch config {
	case "wan_down":
		r.Router.IP(t, "-4", "address", "flush", "dev", "wan0")
	case "wan_link_down":
		r.Router.IP(t, "link", "set", "wan0", "down")
	case "wan_cgnat":
		r.Router.IP(t, "-4", "address", "flush", "dev", "wan0")
		r.Router.Address(t, "wan0", netip.MustParsePrefix("100.64.0.5/24"))
	case "wan_listener":
		r.Router.Echo(t, "tcp", "11.22.33.44:4022")
	}
	return r
}

// gateway returns the router as the vectors know it.
func (r *rig) gateway(t *testing.T, description string) *soap.Gateway {
	return &soap.Gateway{
		Port: upnpPort, Description: description, Tokens: upnpHosts, Dial: r.dialFrom,
		Reaches: func(port uint16, host netip.AddrPort) bool {
			r.Clients[0].Echo(t, "tcp", host.String())
			c, err := r.dialFrom("wan", netip.AddrPortFrom(netip.MustParseAddr(upnpHosts["ext"]), port))
			if err != nil {
				return false
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(patience))
			n, err := c.Read(make([]byte, 64))
			return n > 0 && err == nil
		},
	}
}

// dialFrom connects from one of the vectors' hosts.
func (r *rig) dialFrom(from string, to netip.AddrPort) (c net.Conn, err error) {
	host := map[string]*netlab.Namespace{"c1": r.Clients[0], "c2": r.Clients[1], "c3": r.Client2, "wan": r.WAN}[from]
	err = host.Do(func() error { c, err = net.DialTimeout("tcp", to.String(), time.Second); return err })
	return c, err
}

// inBoth returns the settings with which vectors of either version are played
// against a gateway that shows both.
func inBoth(config string) string {
	if config == "v1" || config == "default" {
		return "both"
	}
	return config
}

// descriptions are the paths of the descriptions, as clients of each version find them.
type descriptions struct{ v1, v2 string }

// descriptions searches for both versions. Each description has the number that goes
// with it in discovery (UDA 1.1, section 2.3).
func (r *rig) descriptions(t *testing.T) descriptions {
	t.Helper()
	path := func(version string) string {
		c := discovery.Open(t, r.Clients[0], client1)
		discovery.Send(t, r.Clients[0], c, netip.MustParseAddr("239.255.255.250"), discovery.Search("urn:schemas-upnp-org:device:InternetGatewayDevice:"+version))
		m, ok := discovery.Receive(t, c, time.Now().Add(patience))
		u, err := url.Parse(m.Fields["LOCATION"])
		if !ok || err != nil {
			t.Fatalf("version %s is at %v, %v", version, m.Fields, err)
		}
		if configID := ` configId="` + m.Fields["CONFIGID.UPNP.ORG"] + `"`; !strings.Contains(r.fetch(t, u), configID) {
			t.Errorf("no %s at %v", configID, u)
		}
		return u.Path
	}
	return descriptions{path("1"), path("2")}
}

// fetch returns a document as the first client gets it.
func (r *rig) fetch(t *testing.T, u *url.URL) string {
	t.Helper()
	c, err := r.dialFrom("c1", netip.MustParseAddrPort(u.Host))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(c, "GET %s HTTP/1.0\r\n\r\n", u.Path)
	document, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(document)
}

// of returns the description for a configuration of the vectors.
func (f descriptions) of(config string) string {
	if config == "v1" {
		return f.v1
	}
	return f.v2
}

// TestUPnPVectors plays all exchanges and documents of UPnP's vectors, those of
// version 1 and those of version 2, against the running daemon, which shows both.
func TestUPnPVectors(t *testing.T) {
	t.Parallel()
	file := soap.Load(t)
	configs := make(map[string][]soap.Vector)
	for _, v := range file.Vectors {
		switch {
		case v.Config == "pinholes_off": // no setting does that: without IPv6 the service is not offered
		case v.ID == "soap-117": // what version 2 alone has is refused to the type of version 1 only where version 1 stands alone
		default:
			configs[inBoth(v.Config)] = append(configs[inBoth(v.Config)], v)
		}
	}
	for config, list := range configs {
		t.Run(config, func(t *testing.T) {
			t.Parallel()
			rigs := make([]*rig, min(4, len(list)))
			for i := range rigs {
				rigs[i] = newUPnPRig(t, config)
				rigs[i].start(t, upnpConf(config)...)
			}
			playUPnP(t, rigs, config, list)
			if config == "both" {
				rigs[0].playDocuments(t, file)
			}
		})
	}
}

// playUPnP plays exchanges against daemons with these settings.
func playUPnP(t *testing.T, rigs []*rig, config string, list []soap.Vector) {
	shown := rigs[0].descriptions(t)
	id := func(v soap.Vector) string { return v.ID }
	vectors.PlayInParallel(t, rigs, list, id, func(t *testing.T, r *rig, v soap.Vector) {
		if len(v.Before) > 0 || strings.HasPrefix(v.Action, "Add") && v.Expect.Error == nil { // something may be mapped
			t.Cleanup(func() {
				r.stop(t, syscall.SIGTERM)
				r.removeFiles(t)
				r.start(t, upnpConf(config)...)
			})
		}
		v.Play(t, r.gateway(t, shown.of(v.Config)))
	})
}

// playDocuments fetches the documents from the daemon that shows both versions.
func (r *rig) playDocuments(t *testing.T, file soap.File) {
	shown := r.descriptions(t)
	for _, d := range file.Documents {
		if d.Config == "v1" && d.Expect.Services != nil {
			d.Expect.Services = append(slices.Clone(d.Expect.Services), "WANIPv6FirewallControl:1") // beside version 2
		}
		t.Run(d.ID, func(t *testing.T) { d.Play(t, r.gateway(t, shown.of(d.Config)), file.Services) })
	}
}

// TestForcedVersion plays a handful of the vectors that tell the versions apart
// against a daemon that shows one of them alone.
func TestForcedVersion(t *testing.T) {
	t.Parallel()
	file := soap.Load(t)
	r := newUPnPRig(t, "")
	telling := []string{"ssdp-002", "ssdp-003", "ssdp-015", "doc-001", "doc-002", "soap-117", "soap-168"}
	for config, path := range map[string]string{"v1": "/rootDesc.xml", "default": "/rootDesc2.xml"} {
		t.Run(config, func(t *testing.T) {
			r.start(t, upnpConf(config)...)
			defer r.stop(t, syscall.SIGTERM)
			for _, v := range discovery.Load(t) {
				if v.Config == config && slices.Contains(telling, v.ID) {
					t.Run(v.ID, func(t *testing.T) { v.PlaySearch(t, r.discovery(t)) })
				}
			}
			for _, v := range file.Documents {
				if v.Config == config && slices.Contains(telling, v.ID) {
					t.Run(v.ID, func(t *testing.T) { v.Play(t, r.gateway(t, path), file.Services) })
				}
			}
			for _, v := range file.Vectors {
				if v.Config == config && slices.Contains(telling, v.ID) {
					t.Run(v.ID, func(t *testing.T) { v.Play(t, r.gateway(t, path)) })
				}
			}
		})
	}
}

// TestLinkRates wants the uplink's own rate where the settings say none: that
// of a veth pair, which is more than fits.
func TestLinkRates(t *testing.T) {
	t.Parallel()
	r := newUPnPRig(t, "default")
	conf := slices.DeleteFunc(upnpConf("default"), func(line string) bool { return strings.HasPrefix(line, "bitrate_") })
	r.start(t, conf...)
	soap.Vector{
		ID: "rates", Caller: "c1", Service: "WANCommonInterfaceConfig:1", Action: "GetCommonLinkProperties",
		Expect: soap.Expectation{HTTP: 200, Out: [][2]json.RawMessage{
			{[]byte(`"NewWANAccessType"`), []byte(`"Ethernet"`)},
			{[]byte(`"NewLayer1UpstreamMaxBitRate"`), []byte(`"4294967295"`)},
			{[]byte(`"NewLayer1DownstreamMaxBitRate"`), []byte(`"4294967295"`)},
			{[]byte(`"NewPhysicalLinkStatus"`), []byte(`"Up"`)},
		}},
	}.Play(t, r.gateway(t, "/rootDesc2.xml"))
}
