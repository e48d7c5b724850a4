package config

import (
	"slices"
	"strings"
	"testing"
)

// TestFilesOfRealSystems reads files in the forms that distributions, firmware
// and firewalls write: each line is honoured, as the report shows, or named in
// a warning.
func TestFilesOfRealSystems(t *testing.T) {
	for system, tt := range map[string]struct {
		text     string
		effect   string // lines of the report
		warnings string // one a line: a part of each, in order
	}{
		"OpenWrt": {
			"ext_ifname=wan\next_ifname6=\nenable_natpmp=yes\nenable_upnp=yes\nsecure_mode=yes\npcp_allow_thirdparty=no\nsystem_uptime=yes\n" +
				"lease_file=/var/run/miniupnpd.leases\nigdv1=1\nbitrate_down=8388608\nbitrate_up=4194304\nserial=\nmodel_number=\nport=5000\nipv6_disable=no\n" +
				"upnp_table_name=fw4\nupnp_nat_table_name=fw4\nupnp_forward_chain=upnp_forward\nupnp_nat_chain=upnp_prerouting\nupnp_nat_postrouting_chain=upnp_postrouting\n" +
				"# lan\nlistening_ip=br-lan\n\nallow 1024-65535 0.0.0.0/0 1024-65535 #Allow high ports\ndeny 0-65535 0.0.0.0/0 0-65535 #Default deny\n",
			"ext_ifname6=wan\nenable_natpmp=yes\nenable_pcp=yes\nhttp_port=5000\nipv6=auto\nbitrate_up=4194304\nserial=\nupnp_forward_chain=upnp_forward\nupnp_nat_chain=upnp_prerouting\nlistening_ip=br-lan",
			"unknown setting \"igdv1\"\nupnp_table_name has no effect\nupnp_nat_table_name has no effect",
		},
		"pfSense": {
			"ext_ifname=igb0\nport=2189\nlistening_ip=igb1\nlistening_ip=192.168.7.1/24\nbitrate_down=10485760\nbitrate_up=1048576\nsecure_mode=yes\npacket_log=yes\nsystem_uptime=yes\n" +
				"presentation_url=https://192.168.1.1:443/\nuuid=" + someUUID + "\nserial=3D3CEC3A\nmodel_number=2.7.2\nqueue=q_upnp\nquickrules=no\nanchor=miniupnpd\n" +
				"allow 1024-65535 192.168.1.45/32 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\nenable_upnp=yes\nenable_natpmp=yes\n",
			"http_port=2189\nlistening_ip=igb1\nlistening_ip=192.168.7.1/24\npresentation_url=https://192.168.1.1:443/\nmodel_number=2.7.2",
			"packet_log has no effect\nqueue has no effect\nquickrules has no effect\nanchor has no effect",
		},
		"OPNsense": {
			"ext_ifname=igb0\nport=2189\nlistening_ip=igb1/24\nlistening_ip=igb2/255.255.255.128\next_perform_stun=yes\next_stun_host=stun.example.net\next_stun_port=3479\nenable_upnp=yes\n" +
				"enable_pcp_pmp=yes\nnum_permuser=8\nclean_ruleset_interval=600\nmin_lifetime=120\nmax_lifetime=86400\n",
			"ext_stun_port=3479\nlistening_ip=igb1/24\nlistening_ip=igb2/25\nenable_pcp=yes",
			"unknown setting \"num_permuser\"",
		},
		"VyOS": {
			"ext_ifname=eth0\next_ip=203.0.113.5\next_ip=203.0.113.6\nlistening_ip=192.168.7.1/24 88.22.44.13\nlistening_ip=eth1\nipv6_listening_ip=2001:db8::1\nenable_natpmp=yes\nenable_upnp=yes\nmin_lifetime=60\n" +
				"manufacturer_name=VyOS\nsecure_mode=no\nclean_ruleset_threshold=10\nlease_file=/config/upnp.leases\nallow 1024-65535 10.5.5.0/32 1024-65535\n",
			"ext_ip=203.0.113.6\nlistening_ip=192.168.7.1/24\nlistening_ip=eth1\nsecure_mode=no\nmin_lifetime=120\nallow 1024-65535 10.5.5.0/32 1024-65535",
			"203.0.113.6 replaces 203.0.113.5\n88.22.44.13 is a public address\nipv6_listening_ip has no effect\nout of range",
		},
		"Asuswrt": {
			"ext_ifname=ppp0\nlistening_ip=br0\nport=0\nenable_upnp=yes\nenable_natpmp=yes\nsecure_mode=yes\nupnp_nat_chain=VUPNP\nupnp_forward_chain=FUPNP\nupnp_nat_postrouting_chain=PUPNP\n" +
				"notify_interval=60\nsystem_uptime=yes\nfriendly_name=RT-AX88U\nmodel_name=RT-AX88U\nmodel_description=Wireless Router\nmodel_url=http://www.example.com/\nmanufacturer_name=ASUS\n" +
				"clean_ruleset_threshold=20\nclean_ruleset_interval=600\nuuid=" + someUUID + "\nserial=0C:C1:75:B9:C0:F1\nlease_file=/tmp/upnp.leases\n" +
				"allow 1024-65535 192.168.50.1/255.255.255.0 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n",
			"ext_ifname=ppp0\nhttp_port=0\nupnp_nat_chain=VUPNP\nupnp_forward_chain=FUPNP\nupnp_nat_postrouting_chain=PUPNP\nnotify_interval=60\nserial=0C:C1:75:B9:C0:F1\nallow 1024-65535 192.168.50.1/24 1024-65535",
			"",
		},
		"FreshTomato": {
			"ext_ifname=vlan2\nlistening_ip=192.168.77.1/255.255.255.0\nport=0\nenable_upnp=yes\nenable_natpmp=yes\nsecure_mode=yes\nupnp_forward_chain=upnp\nupnp_nat_chain=upnp\n" +
				"upnp_nat_postrouting_chain=pupnp\nnotify_interval=30\nsystem_uptime=yes\nclean_ruleset_interval=0\nforce_igd_desc_v1=no\n" +
				"presentation_url=http://192.168.77.1/forward-upnp.asp\nallow 1024-65535 192.168.77.1/255.255.255.0 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n",
			"ext_ifname=vlan2\nlistening_ip=192.168.77.1/24\nupnp_nat_chain=upnp\nigd_version=2",
			"",
		},
		"NETGEAR": {
			"ext_ifname=brwan\nlistening_ip=br0\nport=5555\nbitrate_up=1000000\nmodelname=R7800\npnpx_hwid=VEN_01f2&amp;DEV_0018\nnotify_interval=1800\nlistening_net=192.168.1.1/255.255.255.0\n" +
				"allow 1024-65535 192.168.1.0/24 1024-65535\nfriendly_name=R7800 (Gateway)\n",
			"http_port=5555\nfriendly_name=R7800 (Gateway)\nnotify_interval=1800",
			"unknown setting \"modelname\"\nunknown setting \"pnpx_hwid\"\nunknown setting \"listening_net\"",
		},
		"NixOS": {
			"ext_ifname=wan0\nenable_natpmp=yes\nenable_upnp=yes\n\nlistening_ip=192.168.1.0/24\nlistening_ip=br-lan.20\n\nsecure_mode=yes\n",
			"listening_ip=192.168.1.0/24\nlistening_ip=br-lan.20",
			"",
		},
		"Debian and Gentoo": {
			"ext_ifname=\next_ifname=enp2s0\nlistening_ip=enp3s0\nport=0\nenable_pcp_pmp=yes\nenable_upnp=yes\nminissdpdsocket=/run/minissdpd.sock\nsystem_uptime=yes\nuuid=" + someUUID +
				"\nforce_igd_desc_v1=no\nallow 1024-65535 192.168.0.0/16 1024-65535\nallow 12345 192.168.7.113/32 54321\ndeny 0-65535 0.0.0.0/0 0-65535\n" +
				"#allow 1024-65535 192.168.0.0/16 1024-65535\n",
			"ext_ifname=enp2s0\nlistening_ip=enp3s0\nallow 12345 192.168.7.113/32 54321",
			"minissdpdsocket has no effect",
		},
		"a guide for containers": {
			"ext_ifname=eth0 # WAN\next_ip=11.22.33.1\nlistening_ip=docker0 # LAN\nhttp_port=5000 # any\nallow 1024-65535 172.17.0.0/16 1024-65535 # all\n",
			"ext_ifname=eth0\nlistening_ip=docker0\nhttp_port=5000",
			"\"# WAN\" is taken as a comment\n\"# any\" is taken as a comment",
		},
	} {
		for form, text := range map[string]string{
			"": tt.text, " with CRLF": strings.ReplaceAll(tt.text, "\n", "\r\n"), " with CR": strings.ReplaceAll(tt.text, "\n", "\r"),
			" with a mark": byteOrderMark + tt.text, " without an end": strings.TrimSuffix(tt.text, "\n"),
		} {
			c, err := parseConf(t, text)
			if err != nil {
				t.Errorf("%s%s: %v", system, form, err)
				continue
			}
			demandWarnings(t, system+form, c.Warnings, tt.warnings)
			report := strings.Split(c.String(), "\n")
			for _, want := range strings.Split(tt.effect, "\n") {
				if !slices.Contains(report, want) {
					t.Errorf("%s%s: the report lacks %q:\n%v", system, form, want, c)
				}
			}
		}
	}
}

// demandWarnings demands one warning for each line of want, that holds it.
func demandWarnings(t *testing.T, what string, got []string, want string) {
	t.Helper()
	var parts []string
	if want != "" {
		parts = strings.Split(want, "\n")
	}
	if len(got) != len(parts) {
		t.Errorf("%s: warnings %q, want %q", what, got, parts)
		return
	}
	for i, part := range parts {
		if !strings.Contains(got[i], part) {
			t.Errorf("%s: warning %q, want %q", what, got[i], part)
		}
	}
}
