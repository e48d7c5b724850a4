# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154 # the other parts and lab.sh set and use the variables
# The network around the router of test-astlinux.sh, to be sourced by it: an
# Internet with two providers, two LANs and a DMZ, each a namespace with a host.
#
#	far    11.22.55.1 (and .2, .9), 2001:470:55::1; gateway 11.22.33.1 on the router's
#	       eth0, 11.22.44.1 on its eth1, 11.22.66.1 behind its ppp0
#	lan1   192.168.101.10, 2001:470:101::10   on the router's eth2
#	lan2   192.168.102.10                     on eth3
#	dmz    10.5.5.10                          on eth4

internet=11.22.55.1
internet_other=11.22.55.2
internet6=2001:470:55::1
lan1_6=2001:470:101::10
second=11.22.44.2

# hosts_up makes the hosts, with services that say who answers.
hosts_up() {
  for host in far lan1 lan2 dmz; do
    ip netns add "$lab-$host" && ip -n "$lab-$host" link set lo up || return 1
  done
  for address in $internet/32 $internet_other/32 11.22.55.9/32 $internet6/128; do
    ip -n "$lab-far" address add "$address" dev lo || return 1
  done
  for host in lan1 lan2 dmz; do
    neighbour $host serve $host 4000-4019 6000-6399 || return 1
  done
  neighbour far reflect 3400-3599 $internet $internet_other
}

# neighbour has the host $1 do what host.py does with the further arguments, until the
# test ends.
neighbour() {
  neighbour=$1
  shift
  ip netns exec "$lab-$neighbour" /usr/bin/python3 "$parts/host.py" "$@" >"$work/$neighbour.ready" 2>&1 &
  neighbours="$neighbours $!"
  within 10 grep -q ready "$work/$neighbour.ready"
}

# link connects the router's interface $1 with interface $3 of host $2, both
# with the same hardware addresses whenever this is done: number $4 is part of
# them.
link() {
  ip -n "$lab-$2" link delete "$3" 2>/dev/null
  ip link add "$1" netns "$lab-router" address 02:00:00:00:01:"$4" type veth \
    peer name "$3" netns "$lab-$2" address 02:00:00:00:02:"$4" &&
    ip -n "$lab-$2" link set "$3" up
}

# host_address gives host $1 its address $2 and the router's, $3, as gateway.
host_address() {
  ip -n "$lab-$1" address add "$2" dev eth0 && ip -n "$lab-$1" route add default via "$3"
}

# links_up connects a router that has just been made. The router configures its
# own ends.
links_up() {
  link eth0 far wan1 10 && link eth1 far wan2 11 && link eth2 lan1 eth0 12 &&
    link eth3 lan2 eth0 13 && link eth4 dmz eth0 14 &&
    ip -n "$lab-far" address add 11.22.33.1/24 dev wan1 &&
    ip -n "$lab-far" address add 11.22.44.1/24 dev wan2 &&
    ip -n "$lab-far" address add 2001:470:1::1/64 dev wan1 nodad &&
    ip -n "$lab-far" route add 2001:470:101::/64 via 2001:470:1::2 &&
    host_address lan1 192.168.101.10/24 192.168.101.1 &&
    host_address lan2 192.168.102.10/24 192.168.102.1 &&
    host_address dmz 10.5.5.10/24 10.5.5.1 &&
    ip -n "$lab-lan1" address add "$lan1_6"/64 dev eth0 nodad &&
    ip -n "$lab-lan1" route add default via 2001:470:101::1
}

# dhcp_up starts the first provider's DHCP server, which leases address $1.
dhcp_up() {
  cat >"$work/udhcpd.conf" <<CONF
interface wan1
start $1
end $1
lease_file $work/udhcpd.leases
pidfile $work/udhcpd.pid
option subnet 255.255.255.0
option router 11.22.33.1
option lease 3600
CONF
  : >"$work/udhcpd.leases"
  ip netns exec "$lab-far" busybox udhcpd "$work/udhcpd.conf"
}

dhcp_down() {
  [ ! -e "$work/udhcpd.pid" ] || kill "$(cat "$work/udhcpd.pid")"
}

# ppp_up makes the link ppp0 as pppd does, with address $1.
ppp_up() {
  link ppp0 far ppp 20 &&
    ip -n "$lab-far" address add 11.22.66.1 peer "$1" dev ppp &&
    ip -n "$lab-router" address add "$1" peer 11.22.66.1 dev ppp0 &&
    ip -n "$lab-router" link set ppp0 up &&
    ip -n "$lab-router" route add default via 11.22.66.1 dev ppp0
}

ppp_down() {
  ip -n "$lab-router" link delete ppp0
}
