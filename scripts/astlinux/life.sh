# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154 # the other parts and lab.sh set and use the variables
# A router's life, step by step, to be sourced by test-astlinux.sh.
#
# Through all of it lan1's host keeps its port 4001, TCP and UDP, by NAT-PMP, and
# lan2's host TCP 5002 to its port 4002 by UPnP. Both use UDP port 4012, as two consoles
# with the same game do: what each sends from it leaves by the port that it was granted.

first=11.22.33.2 # the first provider's address for the router
game=4012        # the consoles' port

# settings writes the router's settings as its owner and its web pages do. The
# rows of network.php go to gui.network.conf, the others to user.conf.
settings() {
  mkdir -p "$work/kd/rc.conf.d"
  cp -R "$tree/package/arnofw/aif/etc/arno-iptables-firewall" "$work/kd/" &&
    cp "$tree/package/arnofw/arnofw.serial" "$work/kd/arno-iptables-firewall/serial"
  cat >"$work/kd/rc.conf.d/gui.network.conf" <<'CONF'
EXTIF="eth0"
EXT2IF="eth1"
EXT2IP="11.22.44.2"
EXT2NM="255.255.255.0"
EXT2GW="11.22.44.1"
PPPOEIF=""
INTIF="eth2"
INTIP="192.168.101.1"
INTNM="255.255.255.0"
INTIPV6="2001:470:101::1/64"
INT2IF="eth3"
INT2IP="192.168.102.1"
INT2NM="255.255.255.0"
DMZIF="eth4"
DMZIP="10.5.5.1"
DMZNM="255.255.255.0"
IPV6="yes"
EXTIPV6="2001:470:1::2/64"
EXTGWIPV6="2001:470:1::1"
FWVERS="arno"
UPNP_ENABLE_NATPMP="yes"
UPNP_ENABLE_UPNP="yes"
UPNP_LISTEN="INTIF INT2IF DMZIF"
WAN_FAILOVER_ENABLE="yes"
WAN_FAILOVER_TARGETS="11.22.55.9"
WAN_FAILOVER_TEST_INTERVAL="1"
WAN_FAILOVER_SECONDARY_DELAY="1"
WAN_FAILOVER_PRIMARY_DELAY="1"
CONF
  cat >"$work/kd/rc.conf.d/user.conf" <<'CONF'
NAT_FORWARD_TCP="8022>192.168.102.10~4003"
DMZ_OPEN_UDP="1900 5351"
DMZ_OPEN_TCP="5000"
PPPOEUSER="user"
PPPOEPASS="word"
CONF
}

# change sets variable $1 of the settings to $2, as saving a web page does.
change() {
  sed -i "s/^$1=.*/$1=\"$2\"/" "$work"/kd/rc.conf.d/*.conf
}

# service runs a verb of an init script, as an administrator does.
service() {
  router /usr/sbin/service "$@"
}

# web restarts service $1 as the web page does, whose text about it is to be $2.
web() {
  # shellcheck disable=SC2016 # PHP's variables
  answer=$(php '$COMMON = "../common/"; require $COMMON . "functions.php";
    echo restartPROCESS($argv[1], "done", "failed", "init"), statusPROCESS($argv[1]);' "$1")
  echo "$answer"
  [ "$answer" = "done$2" ]
}

running=' has Restarted and is Running'
stopped=' is Stopped'

# granted asks for a port and demands that the answer is port $1; the rest are
# the host and the arguments of host.py's map.
granted() {
  want=$1
  on_lan=$2
  shift 2
  got=$(host "$on_lan" map "$@" 2>&1)
  echo "$got"
  [ "$got" = "$want" ]
}

# upnp_granted maps lan2's TCP port $2 to the router's port $1 by UPnP.
upnp_granted() {
  ip netns exec "$lab-lan2" timeout 30 upnpc -e life -a 192.168.102.10 "$2" "$1" tcp 3600 2>&1 | grep -e 'is redirected to' -e failed |
    tail -n 1 | tee "$work/upnpc" && grep -q 'is redirected to' "$work/upnpc"
}

announces() {
  got=$(host lan1 address 192.168.101.1 2>&1)
  echo "$got"
  [ "$got" = "$1" ]
}

# ask_all asks for the mappings that live through all steps, or renews them.
ask_all() {
  expect 'NAT-PMP, TCP' within 20 granted 4001 lan1 192.168.101.1 tcp 4001 4001 7200
  expect 'NAT-PMP, UDP' within 20 granted 4001 lan1 192.168.101.1 udp 4001 4001 7200
  expect 'UPnP' within 20 upnp_granted 5002 4002
  expect "lan1's console" within 20 granted $game lan1 192.168.101.1 udp $game $game 7200
  expect "lan2's console" within 20 game_granted
}

# game_granted maps the console's port of lan2, which cannot be the same one outside.
game_granted() {
  other_game=$(host lan2 map 192.168.102.1 udp $game $game 7200 2>&1)
  echo "$other_game"
  [ "$other_game" -gt 0 ] && [ "$other_game" != $game ]
}

# flows checks those mappings from the Internet, at address $1; the far host has
# address $2 there.
flows() {
  arrives tcp "$1" 4001 lan1 "$2"
  arrives udp "$1" 4001 lan1 "$2"
  arrives tcp "$1" 5002 lan2 "$2"
  arrives udp "$1" $game lan1 "$2"
  arrives udp "$1" "$other_game" lan2 "$2"
}

# plays checks that each console's packets leave by its port of address $1, whoever they
# are for.
plays() {
  expect "lan1's console" within 10 leaves lan1 "$1:$game"
  expect "lan2's console" within 10 leaves lan2 "$1:$other_game"
}

# leaves succeeds if that is so. The router may still know earlier flows to a reflector,
# so each is asked once.
leaves() {
  got=$(host "$1" seen $game $((reflector += 1)) "$internet" "$internet_other" 2>&1)
  echo "leaves by $got"
  [ "$got" = "$2" ]
}

# settled waits until the router sends by the uplink with address $1. While the firewall
# loads it drops wan-failover's pings; if that takes long, the second uplink is used for ten
# seconds or more, and strict rp_filter drops what comes in by the first one.
settled() {
  expect 'uplink' within 60 sends_from "$1"
}

sends_from() {
  router ip route get "$internet" | grep "src $1 "
}

# is_well checks all that holds while the service runs and the firewall is up.
is_well() {
  settled "$1"
  flows "$1" "$2"
  plays "$1"
  agrees
}

start_of_life() {
  expect 'boot' boot "$first"
  expect 'address' within 30 has_address "$first"
  ask_all
  is_well "$first" "$internet"
  expect 'announced address' announces "$first"
}

has_address() {
  router ip -o -4 address show dev "${2:-eth0}" | grep " $1/"
}

# The administrator forwards TCP 8022 to lan2.
forward_collision() {
  arrives tcp "$first" 8022 lan2 "$internet"
  expect 'NAT-PMP gets another port' replaced
  expect 'UPnP is refused' upnp_refused 8022 4004
  arrives tcp "$first" 8022 lan2 "$internet"
  arrives tcp "$first" "$(host lan1 map 192.168.101.1 tcp 8022 4003 600 2>/dev/null)" lan1 "$internet"
  agrees
}

replaced() {
  got=$(host lan1 map 192.168.101.1 tcp 8022 4003 600 2>&1)
  echo "$got"
  [ "$got" -gt 0 ] 2>/dev/null && [ "$got" != 8022 ]
}

upnp_refused() {
  ! upnp_granted "$@"
}

# The administrator takes a port that a client has. The client keeps none of it.
forward_taken() {
  expect 'NAT-PMP' granted 4010 lan1 192.168.101.1 tcp 4010 4010 600
  arrives tcp "$first" 4010 lan1 "$internet"
  change NAT_FORWARD_TCP '8022>192.168.102.10~4003 4010>192.168.102.10~4003'
  expect 'firewall' web iptables "$running"
  settled "$first"
  arrives tcp "$first" 4010 lan2 "$internet"
  is_well "$first" "$internet"
}

dmz_mapping() {
  expect 'NAT-PMP' granted 4005 dmz 10.5.5.1 tcp 4005 4005 600
  arrives tcp "$first" 4005 dmz "$internet"
  agrees
}

ipv6_on() {
  expect 'PCP' opened
  arrives tcp "$lan1_6" 4006 lan1 "$internet6"
  closed tcp "$lan1_6" 4007
  agrees
}

opened() {
  host lan1 pinhole 2001:470:101::1 "$lan1_6" tcp 4006 3600
}

ipv6_off() {
  change IPV6 no
  expect 'firewall' web iptables "$running"
  closed tcp "$lan1_6" 4006
  expect 'service' web miniupnpd "$running"
  closed tcp "$lan1_6" 4006
  expect 'ip6tables is left alone' no_rules6
  is_well "$first" "$internet"
}

no_rules6() {
  ! router ip6tables -S | grep MINIUPNPD
}

ipv6_on_again() {
  change IPV6 yes
  expect 'firewall' web iptables "$running"
  expect 'service' web miniupnpd "$running"
  expect 'PCP' within 10 opened
  arrives tcp "$lan1_6" 4006 lan1 "$internet6"
  is_well "$first" "$internet"
}

both_uplinks() {
  is_well "$first" "$internet"
  flows "$second" 11.22.44.1
}

# The targets stop answering, and wan-failover takes the second uplink.
failover() {
  ip -n "$lab-far" address delete 11.22.55.9/32 dev lo
  expect 'routes' within 60 has_route eth1
  expect 'announced address' within 10 announces "$second"
  is_well "$second" "$internet"
}

has_route() {
  router ip route get "$internet" | grep "dev $1"
}

failback() {
  ip -n "$lab-far" address add 11.22.55.9/32 dev lo
  expect 'routes' within 60 has_route eth0
  expect 'announced address' within 10 announces "$first"
  is_well "$first" "$internet"
}

# A page of the firewall has been saved.
firewall_restart() {
  press
  expect 'restart' service iptables restart
  release
  is_well "$first" "$internet"
}

firewall_stop() {
  press
  expect 'stop' service iptables stop
  settled "$first"
  closed tcp "$first" 4001
  expect 'rules while the firewall is stopped' within 5 is_bare
  expect 'lease file and list' within 10 is_kept
  shows
}

firewall_start() {
  expect 'start' service iptables start
  release
  is_well "$first" "$internet"
}

firewall_stops_and_starts() {
  press
  for _ in 1 2 3; do
    expect 'stop' service iptables stop
    expect 'start' service iptables start
  done
  release
  is_well "$first" "$internet"
}

# press has lan2's host ask for one port after the other, ports that no press
# before it had, until release.
press() {
  ip netns exec "$lab-lan2" /usr/bin/python3 "$parts/host.py" press 192.168.102.1 "$pressed-6399" >"$work/press" 2>&1 &
  press_pid=$!
}

release() {
  kill "$press_pid"
  wait "$press_pid" 2>/dev/null
  pressed=$((pressed + $(wc -l <"$work/press") + 1))
  last=$(sed -n 's/^granted //p' "$work/press" | tail -n 1)
  expect 'nobody was granted a port' [ -n "$last" ]
  settled "$first"
  arrives tcp "$first" "$last" lan2 "$internet"
  expect 'what clients were told' was_true
}

# was_true succeeds if who was granted a port has it, and who was refused has not.
was_true() {
  list '' | awk '$3 == "192.168.102.10" { print $2 }' >"$work/has"
  sed -n 's/^granted //p' "$work/press" | grep -vxF -f "$work/has" | sed 's/$/ was granted and is not there/' >"$work/lies"
  sed -n 's/^refused //p' "$work/press" | grep -xF -f "$work/has" | sed 's/$/ was refused and is there/' >>"$work/lies"
  cat "$work/lies"
  [ ! -s "$work/lies" ]
}

web_restart() {
  expect 'the page' web miniupnpd "$running"
  is_well "$first" "$internet"
}

switched_off() {
  change UPNP_ENABLE_NATPMP no
  change UPNP_ENABLE_UPNP no
  expect 'the page' web miniupnpd "$stopped"
  expect 'it runs' within 5 is_stopped
  expect 'rules' is_bare
  closed tcp "$first" 4001
  closed udp "$first" 4001
  closed tcp "$first" 5002
  closed udp "$first" "$other_game"
  expect 'status page' has_no_page
  arrives tcp "$first" 8022 lan2 "$internet"
}

# has_no_page succeeds if the status page tells nothing of mappings.
has_no_page() {
  shown=$(page)
  echo "$shown"
  [ -z "$shown" ]
}

# While it is switched off the firewall restarts without the plugin.
off_and_firewall_restart() {
  expect 'restart' service iptables restart
  settled "$first"
  closed tcp "$first" 4001
  expect 'rules' is_bare
}

switched_on() {
  change UPNP_ENABLE_NATPMP yes
  change UPNP_ENABLE_UPNP yes
  expect 'the page' web miniupnpd "$running"
  ask_all
  is_well "$first" "$internet"
  flows "$second" 11.22.44.1
}

# Its plugin was not loaded before, so the firewall does not hook the chains.
firewall_restart_after_switching_on() {
  expect 'restart' service iptables restart
  is_well "$first" "$internet"
  flows "$second" 11.22.44.1
}

reboots() {
  expect 'shutdown' shut_down
  expect 'boot' boot "$first"
  expect 'address' within 30 has_address "$first"
  is_well "$first" "$internet"
}

# The provider's DHCP server comes long after the service, with another address.
# Meanwhile wan-failover takes the second uplink.
boots_without_address() {
  expect 'shutdown' shut_down
  expect 'boot' boot
  expect 'the link-local address' router ip -o -4 address show dev eth0 scope global
  expect 'the service runs' router pidof miniupnpd
  agrees
}

late_address() {
  late=11.22.33.7
  dhcp_up "$late"
  expect 'address' within 60 has_address "$late"
  expect 'routes' within 60 has_route eth0
  expect 'announced address' within 10 announces "$late"
  ask_all
  is_well "$late" "$internet"
}

# PPPoE: the firewall hooks ppp+, the init script ppp0. Without wan-failover,
# which would take the second uplink for a while whenever ppp0 goes.
boots_without_ppp() {
  change WAN_FAILOVER_ENABLE no
  change EXTIF ppp0
  change PPPOEIF eth0
  expect 'shutdown' shut_down
  expect 'boot' boot
  expect 'the service runs' router pidof miniupnpd
  agrees
}

late_ppp() {
  ppp=11.22.66.2
  expect 'link' ppp_up "$ppp"
  expect 'announced address' within 10 announces "$ppp"
  ask_all
  is_well "$ppp" "$internet"
}

ppp_goes() {
  expect 'link' ppp_down
  expect 'the service runs' router pidof miniupnpd
  agrees
}

ppp_returns() {
  ppp=11.22.66.3
  expect 'link' ppp_up "$ppp"
  expect 'announced address' within 10 announces "$ppp"
  is_well "$ppp" "$internet"
}

ppp_firewall_restart() {
  expect 'restart' service iptables restart
  is_well "$ppp" "$internet"
}

ppp_web_restart() {
  expect 'the page' web miniupnpd "$running"
  is_well "$ppp" "$internet"
}

ppp_switched_off() {
  change UPNP_ENABLE_NATPMP no
  change UPNP_ENABLE_UPNP no
  expect 'the page' web miniupnpd "$stopped"
  expect 'rules' is_bare
  closed tcp "$ppp" 4001
}

shuts_down() {
  expect 'shutdown' shut_down
}

# life goes through all steps with one init script.
life() {
  settings
  step 'boot' start_of_life
  step 'NAT_FORWARD of a port that clients ask for' forward_collision
  step 'NAT_FORWARD of a port that a client has' forward_taken
  step 'DMZ' dmz_mapping
  step 'IPv6 on' ipv6_on
  step 'IPv6 off' ipv6_off
  step 'IPv6 on again' ipv6_on_again
  step 'EXT2IF beside EXTIF' both_uplinks
  step 'wan-failover to EXT2IF' failover
  step 'wan-failover back to EXTIF' failback
  step 'firewall restart while clients ask' firewall_restart
  step 'firewall stop while clients ask' firewall_stop
  step 'firewall start while clients ask' firewall_start
  step 'firewall stop and start 3 times, clients ask' firewall_stops_and_starts
  step 'restart by the web page' web_restart
  step 'switched off on the web page' switched_off
  step 'switched off, firewall restart' off_and_firewall_restart
  step 'switched on on the web page' switched_on
  step 'switched on, firewall restart' firewall_restart_after_switching_on
  step 'reboot' reboots
  step 'boot without DHCP' boots_without_address
  step 'late DHCP, another address' late_address
  step 'PPPoE: boot before ppp0' boots_without_ppp
  step 'PPPoE: ppp0 comes' late_ppp
  step 'PPPoE: ppp0 goes' ppp_goes
  step 'PPPoE: ppp0 comes with another address' ppp_returns
  step 'PPPoE: firewall restart' ppp_firewall_restart
  step 'PPPoE: restart by the web page' ppp_web_restart
  step 'PPPoE: switched off on the web page' ppp_switched_off
  step 'shutdown' shuts_down
  left_out 'VLANs' 'needs 802.1q of the kernel'
  left_out 'PPPoE by pppd' 'needs ppp of the kernel; ppp0 was a veth'
}
