package daemon

import (
	"context"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"igdd/pkg/portmap"
	"igdd/pkg/portmap/portmaptest"
)

// seriesOf returns the lines of metrics that a pattern matches.
func (m *Metrics) seriesOf(pattern string) string {
	text := m.registry.Text(func() {})
	return strings.Join(regexp.MustCompile("(?m)^"+pattern+".*$").FindAllString(text, -1), "\n")
}

func TestTimedFirewall(t *testing.T) {
	m := NewMetrics("1.2")
	refused := false
	f := timedFirewall{&portmaptest.Firewall{Refuse: func(portmap.Change) bool { return refused }}, m}
	mapping := &portmap.Mapping{Key: portmap.Key{Protocol: portmap.TCP, External: 4000}, Claims: []portmap.Claim{{Origin: portmap.PCP}}}
	inside := netip.MustParseAddrPort("[2001:db8::1]:80")
	pinhole := &portmap.Mapping{Key: portmap.Key{Protocol: portmap.TCP, Pinhole: inside}, Internal: inside, Claims: mapping.Claims}
	if err := f.Apply(t.Context(), []portmap.Change{{After: mapping}}); err != nil {
		t.Fatal(err)
	}
	f.Force(t.Context(), []portmap.Change{{Before: mapping}})
	refused = true
	if f.Apply(t.Context(), []portmap.Change{{After: pinhole}}) == nil {
		t.Error("the firewall did not refuse the pinhole")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	f.Apply(ended, []portmap.Change{{After: pinhole}})
	want := `igdd_firewall_transaction_seconds_count{family="ipv4"} 2
igdd_firewall_transaction_seconds_count{family="ipv6"} 2
igdd_firewall_failures_total{family="ipv4"} 0
igdd_firewall_failures_total{family="ipv6"} 1`
	if got := m.seriesOf(`igdd_firewall_(transaction_seconds_count|failures_total)\{`); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestStatesOfMappings(t *testing.T) {
	m := NewMetrics("1.2")
	host := netip.MustParseAddrPort("192.168.50.10:80")
	mapping := func(claims ...portmap.Claim) *portmap.Mapping {
		return &portmap.Mapping{Key: portmap.Key{Protocol: portmap.TCP, External: 4000}, Internal: host, Claims: claims}
	}
	dormant := mapping(portmap.Claim{})
	dormant.Dormant = true
	pinhole := mapping(portmap.Claim{})
	pinhole.Key = portmap.Key{Protocol: portmap.UDP, Pinhole: netip.MustParseAddrPort("[2001:db8::1]:80")}
	pinhole.Internal = pinhole.Pinhole
	m.countMappings([]*portmap.Mapping{
		mapping(portmap.Claim{}), mapping(portmap.Claim{Disabled: true}), dormant, pinhole,
		mapping(portmap.Claim{Remote: netip.MustParseAddrPort("192.0.2.1:53")}),
	})
	want := `igdd_mappings{protocol="tcp",family="ipv4",state="active"} 2
igdd_mappings{protocol="tcp",family="ipv4",state="dormant"} 1
igdd_mappings{protocol="tcp",family="ipv4",state="disabled"} 1
igdd_mappings{protocol="tcp",family="ipv6",state="active"} 0
igdd_mappings{protocol="tcp",family="ipv6",state="dormant"} 0
igdd_mappings{protocol="tcp",family="ipv6",state="disabled"} 0
igdd_mappings{protocol="udp",family="ipv4",state="active"} 0
igdd_mappings{protocol="udp",family="ipv4",state="dormant"} 0
igdd_mappings{protocol="udp",family="ipv4",state="disabled"} 0
igdd_mappings{protocol="udp",family="ipv6",state="active"} 1
igdd_mappings{protocol="udp",family="ipv6",state="dormant"} 0
igdd_mappings{protocol="udp",family="ipv6",state="disabled"} 0
igdd_clients 2`
	if got := m.seriesOf(`igdd_(mappings\{|clients)`); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
