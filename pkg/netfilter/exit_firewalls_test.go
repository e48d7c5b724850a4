package netfilter_test

import "testing"

// exitFirewalls are what well-known firewalls have in nat POSTROUTING, in the form of
// TestJumpsInFrontOfExits.
var exitFirewalls = map[string]struct{ rules, doubt string }{
	"AIF": {rules: `:NAT_POSTROUTING_CHAIN
:POST_NAT_POSTROUTING_CHAIN
POSTROUTING -j NAT_POSTROUTING_CHAIN
+POSTROUTING -s 192.168.101.0/24 ! -d 192.168.101.0/24 -o wan0 -j MASQUERADE
+POSTROUTING -s 192.168.102.0/24 ! -d 192.168.102.0/24 -o wan0 -j MASQUERADE
POSTROUTING -j POST_NAT_POSTROUTING_CHAIN
NAT_POSTROUTING_CHAIN -s 192.168.101.0/24 -d 10.9.0.0/16 -j ACCEPT`},
	"AIF with NAT_STATIC_IP": {rules: `:NAT_POSTROUTING_CHAIN
:POST_NAT_POSTROUTING_CHAIN
POSTROUTING -j NAT_POSTROUTING_CHAIN
+POSTROUTING -s 192.168.101.0/24 ! -d 192.168.101.0/24 -o wan0 -j SNAT --to-source 11.22.33.1
POSTROUTING -s 192.168.102.0/24 ! -d 192.168.102.0/24 -o wan0 -j SNAT --to-source 11.22.33.9
POSTROUTING -j POST_NAT_POSTROUTING_CHAIN`},
	"Asuswrt": {rules: `:PUPNP
POSTROUTING -o wan0 -j PUPNP
+POSTROUTING ! -s 11.22.33.1/32 -o wan0 -j MASQUERADE
POSTROUTING -s 192.168.101.0/24 -d 192.168.101.0/24 -o lan0 -j MASQUERADE`},
	"Asuswrt with marks": {doubt: "nat POSTROUTING -m mark --mark 0x8000/0x8000 -j MASQUERADE", rules: `:PUPNP
POSTROUTING -o wan0 -j PUPNP
+POSTROUTING ! -s 11.22.33.1/32 -o wan0 -j MASQUERADE
POSTROUTING -m mark --mark 0x8000/0x8000 -j MASQUERADE`},
	"DD-WRT": {doubt: "nat POSTROUTING -m mark --mark 0x80000000/0x80000000 -j MASQUERADE", rules: `+POSTROUTING -s 192.168.101.0/24 -o wan0 -j SNAT --to-source 11.22.33.1
POSTROUTING -o lan0 -m pkttype --pkt-type broadcast -j RETURN
POSTROUTING -m mark --mark 0x80000000/0x80000000 -j MASQUERADE`},
	"FreshTomato": {rules: `+POSTROUTING -o wan0 -j MASQUERADE
POSTROUTING -s 192.168.101.0/24 -d 192.168.101.0/24 -o lan0 -j SNAT --to-source 192.168.101.1`},
	"OpenWrt's fw3": {rules: `:postrouting_lan_rule
:postrouting_rule
:postrouting_wan_rule
:zone_lan_postrouting
:zone_wan_postrouting
POSTROUTING -m comment --comment "!fw3: Custom postrouting rule chain" -j postrouting_rule
POSTROUTING -o lan0 -m comment --comment "!fw3" -j zone_lan_postrouting
POSTROUTING -o wan0 -m comment --comment "!fw3" -j zone_wan_postrouting
zone_lan_postrouting -m comment --comment "!fw3: Custom lan postrouting rule chain" -j postrouting_lan_rule
zone_lan_postrouting -s 192.168.101.0/24 -d 192.168.101.10/32 -p tcp -m tcp --dport 22 -m comment --comment "!fw3: ssh (reflection)" -j SNAT --to-source 192.168.101.1
zone_wan_postrouting -m comment --comment "!fw3: Custom wan postrouting rule chain" -j postrouting_wan_rule
+zone_wan_postrouting -m comment --comment "!fw3" -j MASQUERADE`},
	"OpenWrt's fw3 with mwan3": {rules: `:zone_wan_postrouting
:zone_vpn_postrouting
POSTROUTING -o wan0 -m comment --comment "!fw3" -j zone_wan_postrouting
POSTROUTING -o ppp0 -m comment --comment "!fw3" -j zone_wan_postrouting
POSTROUTING -o tun0 -m comment --comment "!fw3" -j zone_vpn_postrouting
zone_vpn_postrouting -m comment --comment "!fw3" -j MASQUERADE
zone_wan_postrouting -m policy --dir out --pol ipsec -m comment --comment "!fw3: IPsec" -j ACCEPT
+zone_wan_postrouting -m comment --comment "!fw3" -j MASQUERADE`},
	"OpenWrt's MAP-E": {doubt: "-m statistic --mode nth", rules: `POSTROUTING -o wan0 -p udp -m statistic --mode nth --every 2 --packet 0 -j SNAT --to-source 11.22.33.1:5000-5063
+POSTROUTING -o wan0 -p udp -j SNAT --to-source 11.22.33.1:6000-6063`},
	"EdgeOS": {rules: `:UBNT_PFOR_SNAT_HOOK
:VYATTA_PRE_SNAT_HOOK
POSTROUTING -j UBNT_PFOR_SNAT_HOOK
POSTROUTING -j VYATTA_PRE_SNAT_HOOK
POSTROUTING -s 192.168.101.0/24 -d 10.9.0.0/16 -o wan0 -m comment --comment NAT-5000 -j RETURN
+POSTROUTING -o wan0 -m comment --comment NAT-5010 -j MASQUERADE
UBNT_PFOR_SNAT_HOOK -s 192.168.101.0/24 -o lan0 -m comment --comment hairpin -j MASQUERADE
VYATTA_PRE_SNAT_HOOK -j RETURN`},
	"Shorewall": {rules: `:wan0_masq
:ppp0_masq
POSTROUTING -o wan0 -j wan0_masq
POSTROUTING -o ppp0 -j ppp0_masq
ppp0_masq -s 10.0.0.0/8 -j MASQUERADE
+ppp0_masq -s 192.168.0.0/16 -j SNAT --to-source 22.33.44.1
wan0_masq -s 192.168.101.0/24 -d 10.9.0.0/16 -j RETURN
+wan0_masq -s 192.168.0.0/16 -j MASQUERADE`},
	"firewalld": {rules: `:POSTROUTING_ZONES
:POSTROUTING_direct
:POST_external
:POST_external_allow
:POST_external_log
:POST_public
:POST_public_allow
POSTROUTING -j POSTROUTING_direct
POSTROUTING -j POSTROUTING_ZONES
POSTROUTING_ZONES -o wan0 -g POST_external
POSTROUTING_ZONES -o lan0 -g POST_public
POSTROUTING_ZONES -g POST_public
POST_external -j POST_external_log
POST_external -j POST_external_allow
+POST_external_allow ! -o lo -j MASQUERADE
POST_public -j POST_public_allow`},
	"ufw": {rules: `+POSTROUTING -s 192.168.101.0/24 -o wan0 -j MASQUERADE
POSTROUTING -s 10.8.0.0/24 -o wan0 -j MASQUERADE`},
	"Docker": {rules: `:DOCKER
POSTROUTING -s 172.18.0.0/16 ! -o br-3f2a90c1d0aa -j MASQUERADE
POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
POSTROUTING -s 172.17.0.2/32 -d 172.17.0.2/32 -p tcp -m tcp --dport 80 -j MASQUERADE
+POSTROUTING -s 192.168.0.0/16 -o wan0 -j MASQUERADE`},
	"libvirt": {rules: `:LIBVIRT_PRT
POSTROUTING -j LIBVIRT_PRT
+POSTROUTING -o wan0 -j MASQUERADE
LIBVIRT_PRT -s 192.168.122.0/24 -d 224.0.0.0/24 -j RETURN
LIBVIRT_PRT -s 192.168.122.0/24 -d 255.255.255.255/32 -j RETURN
LIBVIRT_PRT -s 192.168.122.0/24 ! -d 192.168.122.0/24 -p tcp -j MASQUERADE --to-ports 1024-65535
LIBVIRT_PRT -s 192.168.122.0/24 ! -d 192.168.122.0/24 -p udp -j MASQUERADE --to-ports 1024-65535
LIBVIRT_PRT -s 192.168.122.0/24 ! -d 192.168.122.0/24 -j MASQUERADE`},
	// kube-proxy writes its chain anew every half minute: nothing of the daemon's lasts there.
	"kube-proxy": {doubt: "nat KUBE-POSTROUTING", rules: `:KUBE-POSTROUTING
POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
+POSTROUTING -o wan0 -j MASQUERADE
KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully`},
	"Tailscale": {doubt: "nat ts-postrouting", rules: `:ts-postrouting
POSTROUTING -j ts-postrouting
+POSTROUTING -o wan0 -j MASQUERADE
ts-postrouting -m mark --mark 0x40000/0xff0000 -j MASQUERADE`},
}

// The jumps are in front of what well-known firewalls translate for the LANs, and in front
// of nothing that they do for others.
func TestExitsOfFirewalls(t *testing.T) {
	t.Parallel()
	for name, f := range exitFirewalls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachVariant(t, func(t *testing.T, r *router) { testExits(t, r, f.rules, f.doubt) })
		})
	}
}
