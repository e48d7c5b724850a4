package pcpd_test

import (
	"net/netip"
	"testing"

	"igdd/pkg/portmap"
	"igdd/pkg/vectors"
)

// TestVectors plays the vectors over real sockets against a real table with an
// in-memory firewall.
func TestVectors(t *testing.T) {
	t.Parallel()
	lab := newLab(t)
	for _, protocol := range []string{"natpmp", "pcp"} {
		for _, v := range vectors.Load(t, protocol) {
			switch {
			case v.Expect.Capture:
				continue // see the tests of announcements
			case v.Expect.ICMP != "":
				continue // no server is running
			}
			t.Run(v.ID, func(t *testing.T) { v.Play(t, serve(t, lab, setupOf(v))) })
		}
	}
}

// setupOf returns the setup of a vector: the defaults of the vectors with its own
// settings. They follow RFC 6887 strictly: renewal requires the nonce.
func setupOf(v vectors.Vector) setup {
	s := defaultSetup()
	s.natpmp = vectors.Setting(v, "natpmp", true)
	s.pcp = vectors.Setting(v, "pcp", true)
	s.peer = vectors.Setting(v, "peer", false)
	s.thirdParty = vectors.Setting(v, "third_party", false)
	s.policy.Rules, s.policy.LenientNonce = rules(), false
	s.policy.MaxFilters = int(vectors.Setting(v, "max_filters", 4.0))
	s.policy.MaxPerHost = int(vectors.Setting(v, "max_mappings_per_host", 0.0))
	s.policy.MaxTotal = int(vectors.Setting(v, "max_mappings_total", 0.0))
	for _, f := range v.Steps("static_forward") {
		s.network.Forwards = append(s.network.Forwards, forward(f))
	}
	for _, socket := range v.Steps("gateway_socket") {
		s.listening = append(s.listening, socket.Port)
	}
	return s
}

// rules returns the vectors' rules: ports from 1024 on, and internal port 9
// (Discard).
func rules() []portmap.Rule {
	high := portmap.Ports{{First: 1024, Last: 65535}}
	network, mask := client, uint32(0xffffff00)
	return []portmap.Rule{
		{Allow: true, External: high, Network: network, Mask: mask, Internal: portmap.Ports{{First: 9, Last: 9}}},
		{Allow: true, External: high, Network: network, Mask: mask, Internal: high},
		{External: portmap.Ports{{Last: 65535}}, Network: network, Internal: portmap.Ports{{Last: 65535}}},
	}
}

func forward(s vectors.Step) portmap.Forward {
	protocol := portmap.UDP
	if s.Protocol == "tcp" {
		protocol = portmap.TCP
	}
	return portmap.Forward{
		Protocol: protocol,
		External: portmap.PortRange{First: s.ExternalPort, Last: s.ExternalPort},
		Target:   netip.AddrPortFrom(s.InternalIP, s.InternalPort),
	}
}
