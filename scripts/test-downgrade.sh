#!/bin/sh
#
# Goes from this program to Debian's miniupnpd and back, twice, in the lab of demo.sh: once
# from a stopped daemon, once from one that was killed. The private file of the leases
# lies there all the time. This machine's own network and files are not touched.

. "$(dirname "$0")/lab.sh"

leases=/mnt/kd/upnp.leases

# their_conf prints the settings of the other program.
their_conf() {
  cat <<END
ext_ifname=eth0
listening_ip=eth1
enable_natpmp=yes
enable_upnp=yes
secure_mode=yes
http_port=5000
lease_file=$leases
uuid=5d0a8a3c-6f0b-4d53-9f83-2f1f6b1c4c70
allow 1024-65535 192.168.50.0/24 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
END
}

upnp() {
  on lan timeout 20 upnpc -u http://192.168.50.1:5000/rootDesc.xml "$@"
}

# upnp_is runs upnpc and succeeds if it prints $1.
upnp_is() {
  wanted=$1
  shift
  upnp "$@" 2>&1 | grep -e "$wanted"
}

# chains makes (make) or removes (remove) the chains that the other program needs, as the
# administrator's firewall does.
chains() {
  # shellcheck disable=SC2016 # the router's shell expands it
  router sh -c '
    make() { iptables -t "$1" -N "$2"; iptables -t "$1" -I "$3" $4 -j "$2"; }
    remove() { iptables -t "$1" -F "$2"; iptables -t "$1" -D "$3" $4 -j "$2"; iptables -t "$1" -X "$2"; }
    "$0" nat MINIUPNPD PREROUTING "-i eth0"
    "$0" nat MINIUPNPD-POSTROUTING POSTROUTING "-o eth0"
    "$0" filter MINIUPNPD FORWARD "-i eth0 ! -o eth0"; true' "$1" 2>/dev/null
}

# legacy gives the router, in its own root, the iptables that the other program is built
# for.
legacy() {
  for name in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
    router ln -sf xtables-legacy-multi /usr/sbin/$name || return 1
  done
}

theirs_start() {
  chains remove && chains make && router /opt/miniupnpd -f /etc/theirs.conf -P /run/theirs.pid && until_true answers
}

theirs_stop() {
  # shellcheck disable=SC2016 # the router's shell expands it
  router sh -c 'kill $(cat /run/theirs.pid)' && until_true silent_port && chains remove
}

answers() {
  upnp_is 'Found valid IGD' -s >/dev/null
}

silent_port() {
  ! router ss -Hltn 'sport = 5000' | grep -q .
}

stopped() {
  router /etc/init.d/miniupnpd stop
}

killed() {
  # shellcheck disable=SC2016 # the router's shell expands it
  router sh -c 'kill -9 $(cat /run/miniupnpd.pid)' && until_true silent_port
}

# has succeeds when the lease file has the external port $1.
has() {
  router grep -q "^[TU][CD]P:$1:" $leases
}

lacks() {
  ! has "$1"
}

# there_and_back ends the daemon in the way $1; its ports begin with $2. NAT-PMP maps one
# by protocol $3 to the client's port $4.
there_and_back() {
  title "There and back, from a daemon that was $1:"
  check 'start' router /etc/init.d/miniupnpd init
  check 'a mapping by NAT-PMP' ask "${2}080" "$4" "$3" 3600
  check 'one by NAT-PMP, which the other program is to delete' ask "${2}081" 8081 tcp 3600
  check 'one by UPnP' upnp_is 'is redirected to' -e web -a 192.168.50.10 8080 "${2}082" tcp 3600
  check 'one by UPnP, for one remote host' upnp_is 'is redirected to' -e narrow -a 192.168.50.10 8080 "${2}083" tcp 3600 203.0.113.9
  check 'the lease file has the first' until_true has "${2}081"
  check 'the lease file has the last' until_true has "${2}083"
  check "the daemon is $1" "$1"
  check 'miniupnpd starts with these files' theirs_start
  check 'it forwards what was mapped by NAT-PMP' call "$3" "${2}080"
  check 'it forwards what was mapped by UPnP' call tcp "${2}082"
  check 'it deletes one' upnp_is 'returned : 0' -d "${2}081" tcp
  check 'it maps another' upnp_is 'is redirected to' -e more -a 192.168.50.10 8080 "${2}084" tcp 3600
  check 'it stops' theirs_stop
  check 'start again' router /etc/init.d/miniupnpd init
  check 'the NAT-PMP mapping is forwarded' call "$3" "${2}080"
  check 'the UPnP mapping is forwarded' call tcp "${2}082"
  check 'so is the one of the other program' call tcp "${2}084"
  check 'what that deleted is closed' silent tcp "${2}081"
  check 'and not in the lease file' lacks "${2}081"
  check 'the mapping for one remote host is not open to others' silent tcp "${2}083"
  check 'stop' stopped
}

need_root
need_go
need update-ca-certificates:ca-certificates ip:iproute2 iptables:iptables busybox:busybox \
  natpmpc:natpmpc upnpc:miniupnpc socat:socat
theirs=$("$repo/scripts/debian.sh" miniupnpd-iptables) || exit 1
built=$("$repo/scripts/build.sh" native) || exit 1
checks=0 failed=0
trap lab_down EXIT
trap 'exit 1' INT TERM
lab_down
if ! lab_links || ! router_boot "$repo/${built##* }" || ! legacy || ! router_firewall; then
  die 'cannot make the lab: this machine must allow network namespaces, mounts and iptables'
fi
rc_conf | router tee /etc/rc.conf >/dev/null
their_conf | router tee /etc/theirs.conf >/dev/null
# shellcheck disable=SC2154 # router_boot sets router_pid
mkdir -p "/proc/$router_pid/root/opt" && cp "$theirs"/usr/sbin/miniupnpd* "/proc/$router_pid/root/opt/miniupnpd"
check 'a LAN client offers TCP 8080 and UDP 9000' serve
there_and_back stopped 41 tcp 8080
there_and_back killed 42 udp 9000
echo
if [ $failed -gt 0 ]; then
  show router cat /var/log/messages
  echo "$failed of $checks checks FAILED"
  exit 1
fi
echo "All $checks checks passed."
