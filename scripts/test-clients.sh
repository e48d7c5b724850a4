#!/bin/sh
#
# Runs real clients unmodified against a router, and checks from the Internet that
# the ports that they map are open. Each client has a lab of its own, in network
# namespaces, and a root file system of its own; what it needs is fetched into a
# cache folder. Programs that cannot be fetched are counted separately.
#
#	scripts/test-clients.sh           all of them
#	scripts/test-clients.sh NAME…     these: upnpc, amule, … (scripts/clients/NAME.sh)
#
# A file scripts/clients/NAME.sh is sourced, and sets or defines
#
#	versions    the values of UPNP_IGD_VERSION to test with (default: both)
#	ipv6        whether the router has IPv6 on (default: yes)
#	get         fetches the program into $cache; fails if that is impossible
#	exercise    runs the client and checks; $1 is the version

. "$(dirname "$0")/lab.sh"
clients=$repo/scripts/clients
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/igdd/clients
lan_host=192.168.50.10

# from_debian downloads Debian packages and what they depend on, as far as this
# machine lacks it, for the client's root. Nothing is installed, so no service
# starts on this machine.
from_debian() {
  debs=$cache/debian/$client
  [ ! -e "$debs/complete" ] || return 0
  mkdir -p "$debs/partial" &&
    { download "$@" || { apt_get update && download "$@"; }; } &&
    touch "$debs/complete"
}

download() {
  apt_get -o Dir::Cache::Archives="$debs" --download-only --no-install-recommends install "$@"
}

# needs_npm fails, and says so, when Node.js or npm is missing.
needs_npm() {
  command -v node npm && return
  echo 'needs Node.js and npm'
  return 1
}

# from_npm installs a package of npm ($1: name@version) into $cache/npm/$client.
from_npm() {
  [ ! -d "$cache/npm/$client/node_modules" ] || return 0
  mkdir -p "$cache/npm/$client" && npm install --no-audit --no-fund --prefix "$cache/npm/$client" "$1"
}

# lan_root makes the root that the LAN client's programs see: this machine's
# files, with the client's packages above them. The cache is in /mnt/clients.
lan_root() {
  lan_root=$work/lan/root
  mkdir -p "$work/lan" && mount -t tmpfs scratch "$work/lan" &&
    mkdir "$lan_root" "$work/lan/changes" "$work/lan/work" &&
    mount -t overlay -o "lowerdir=/,upperdir=$work/lan/changes,workdir=$work/lan/work" scratch "$lan_root" &&
    mount -t proc proc "$lan_root/proc" && mount -t sysfs sysfs "$lan_root/sys" &&
    mount --bind /dev "$lan_root/dev" && mount -t tmpfs scratch "$lan_root/run" && mount -t tmpfs scratch "$lan_root/tmp" &&
    mkdir -p "$lan_root/mnt/clients" "$lan_root/home/client" "$cache" &&
    mount --bind "$cache" "$lan_root/mnt/clients" &&
    cp -R "$clients" "$lan_root/mnt/drivers" &&
    unpack
}

unpack() {
  for deb in "$cache/debian/$client"/*.deb; do
    [ -e "$deb" ] || return 0
    dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C "$lan_root" || return 1
  done
}

# lan runs a command on the LAN client, in its root, for a minute at most.
lan() {
  on lan timeout -k 5 60 chroot "$lan_root" env HOME=/home/client LC_ALL=C.UTF-8 "$@" </dev/null
}

# lan_start starts a program on the LAN client that runs until lan_stop, or the
# end of the test. What it prints goes to /tmp/program.log of the client's root.
lan_start() {
  ip netns exec $lab-lan chroot "$lan_root" env HOME=/home/client LC_ALL=C.UTF-8 "$@" \
    >"$lan_root/tmp/program.log" 2>&1 </dev/null &
  lan_pid=$!
}

# lan_stop terminates the program that lan_start started, and waits up to half a
# minute for its end.
lan_stop() {
  kill "$lan_pid" && within 30 lan_ended
}

# lan_ended succeeds when that program has exited.
lan_ended() {
  ! grep -qs '^State:[[:space:]]*[A-Y]' "/proc/$lan_pid/status"
}

# lan_logged succeeds when the program that lan_start started has printed $1.
lan_logged() {
  grep -e "$1" "$lan_root/tmp/program.log"
}

# lan_says runs a command on the LAN client and succeeds if it prints $1.
lan_says() {
  about=$1
  shift
  lan_said=$(lan "$@" 2>&1)
  echo "$lan_said"
  echo "$lan_said" | grep -q -e "$about"
}

# within waits for a command to succeed, for $1 seconds at most.
within() {
  until_then=$(($(date +%s) + $1))
  shift
  until within_said=$("$@" 2>&1); do
    [ "$(date +%s)" -lt "$until_then" ] || { echo "$within_said" && return 1; }
    sleep 0.2
  done
}

# leases prints the router's lease file.
leases() {
  router cat /var/db/upnp.leases
}

# external prints the router's ports that lead to the LAN client's port $2 ($1:
# TCP or UDP), and fails if there is none.
external() {
  leases | awk -F: -v proto="$1" -v port="$2" -v host=$lan_host \
    '$1 == proto && $3 == host && $4 == port { print $2; n++ } END { exit !n }'
}

no_external() {
  ! external "$@"
}

# knock sends a packet from the Internet to port $3 of address $2 ($1: TCP or
# UDP), and succeeds if it arrives at the LAN client's port $4.
knock() {
  case $2 in
  *:*) tables=ip6tables peer="$1"6:[$2]:$3 from=2001:db8:1::1 ;;
  *) tables=iptables peer="$1"4:$2:$3 from=11.22.33.1 ;;
  esac
  [ "$1" = UDP ] || peer=$peer,connect-timeout=1
  proto=$(echo "$1" | tr '[:upper:]' '[:lower:]')
  on lan $tables -w -F INPUT && on lan $tables -w -A INPUT -s $from -p "$proto" --dport "$4" || return 1
  echo knock | on wan socat -t 0.2 - "$peer" >/dev/null 2>&1
  on lan $tables -w -nvxL INPUT | grep -v '^ *0 ' | grep "dpt:$4"
}

no_knock() {
  ! knock "$@"
}

# opened checks that the client's port $2 ($1: TCP or UDP) has a port of the
# router, waits for it if need be, and that a packet from the Internet arrives.
opened() {
  check "$1 $2 is mapped" within 30 external "$1" "$2"
  outer=$(external "$1" "$2" | head -n 1)
  check "from the Internet, $1 $outer reaches the client" knock "$1" "$wan_address" "${outer:-0}" "$2"
}

# closed checks that the client's port $2 ($1: TCP or UDP) has no port of the
# router any more, and that no packet arrives through port $3, which led there.
closed() {
  check "$1 $2 is not mapped any more" within 20 no_external "$1" "$2"
  check "from the Internet, $1 $3 is closed" no_knock "$1" "$wan_address" "${3:-0}" "$2"
}

# rc_conf prints the router's settings: the default ones, with IGD version $1,
# and IPv6 as the client wants it.
rc_conf() {
  cat <<END
EXTIF="eth0"
INTIF="eth1"
INTIP="192.168.50.1"
INTNM="255.255.255.0"
IPV6="$ipv6"
UPNP_ENABLE_NATPMP="yes"
UPNP_ENABLE_UPNP="yes"
UPNP_LISTEN="INTIF"
UPNP_IGD_VERSION="$1"
END
}

# lab_ipv6 gives the lab IPv6: the LAN may go out, nobody may come in.
lab_ipv6() {
  for tell in gw:eth1:2001:db8:50::1 gw:eth0:2001:db8:1::2 lan:eth0:2001:db8:50::10 wan:eth0:2001:db8:1::1; do
    link=${tell#*:}
    on "${tell%%:*}" ip address add "${link#*:}/64" dev "${link%%:*}" nodad || return 1
  done
  on gw sh -c 'echo 1 >/proc/sys/net/ipv6/conf/all/forwarding' &&
    on lan ip route add default via 2001:db8:50::1 &&
    on wan ip route add default via 2001:db8:1::2 &&
    router ip6tables -P FORWARD DROP &&
    router ip6tables -A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT &&
    router ip6tables -A FORWARD -i eth1 -o eth0 -j ACCEPT &&
    within 10 addresses_ready
}

# addresses_ready succeeds when no address of the lab is tentative any more.
addresses_ready() {
  for lab_host in lan gw wan; do
    ! on $lab_host ip -6 address show tentative | grep -q . || return 1
  done
}

# known_by_name has the router's DHCP server know the LAN client by its name.
known_by_name() {
  mac=$(on lan cat /sys/class/net/eth0/address)
  echo "0 $mac $lan_host $(uname -n) *" | router tee /var/db/dnsmasq.leases >/dev/null
}

# daemon_up starts the router's daemon with IGD version $1.
daemon_up() {
  rc_conf "$1" | router tee /etc/rc.conf >/dev/null && known_by_name &&
    router /etc/init.d/miniupnpd init
}

# exercise_all runs client $client in a new lab for each of its versions.
exercise_all() {
  for version in $versions; do
    title "$client, UPNP_IGD_VERSION=$version"
    failed_before=$failed
    { lab_up "$miniupnpd" && lab_ipv6; } ||
      die 'cannot make the lab: this machine must allow network namespaces, mounts and iptables'
    lan_root || die "cannot make a root for $client"
    check 'the LAN client offers TCP 8080 and UDP 9000' serve
    check 'the daemon starts' daemon_up "$version"
    exercise "$version"
    [ $failed = "$failed_before" ] || tell_why
    clear_up
  done
}

# tell_why prints what the daemon and the client's programs logged.
tell_why() {
  title 'What the daemon logged:'
  show router cat /var/log/messages
  for log in "$lan_root"/tmp/*.log; do
    [ -e "$log" ] || continue
    title "The end of ${log##*/}:"
    show tail -n 20 "$log"
  done
}

# try_client fetches client $1 and runs it.
try_client() {
  client=$1
  versions=both ipv6=yes
  get() { true; }
  # shellcheck disable=SC2046 # a list of names
  [ -e "$clients/$client.sh" ] || die "no client $client: there are" $(names)
  # shellcheck source=/dev/null # one of scripts/clients/
  . "$clients/$client.sh"
  if got=$(get 2>&1); then
    tried=$((tried + 1))
    exercise_all
  else
    title "$client: not available"
    echo "$got" | sed 's/^/      /'
    unavailable="$unavailable $client" missed=$((missed + 1))
  fi
}

names() {
  for file in "$clients"/*.sh; do
    file=${file##*/}
    echo "${file%.sh}"
  done
}

# clear_up removes the lab and the client's root, with every process in them.
clear_up() {
  [ ! -e /run/netns/igdd-lan ] || ip netns pids igdd-lan | xargs -r kill -s KILL
  lab_down
  ! mountpoint -q "$work/lan" || umount -lR "$work/lan"
}

clean_up() {
  clear_up
  umount -l "$work" && rmdir "$work"
}

# Has a mount namespace of its own: the names of the network namespaces and
# all mounts belong to this run only.
if [ "$1" != --apart ]; then
  need_root
  exec unshare --mount "$0" --apart "$@"
fi
shift
need_go
need update-ca-certificates:ca-certificates ip:iproute2 iptables:iptables busybox:busybox socat:socat
built=$("$repo/scripts/build.sh" native) || exit 1
miniupnpd=$repo/${built##* }
checks=0 failed=0 tried=0 missed=0 unavailable=
work=$(mktemp -d) && mount -t tmpfs scratch "$work" || exit 1
trap clean_up EXIT
trap 'exit 1' INT TERM
# shellcheck disable=SC2034 # lab.sh makes the router's root there
lab_folder=$work/lab
mkdir -p /run/netns && mount -t tmpfs names /run/netns || exit 1

# shellcheck disable=SC2046 # a list of names
[ $# -gt 0 ] || set -- $(names)
for name; do
  try_client "$name"
done
echo
[ $missed = 0 ] || echo "not available:$unavailable"
echo "$tried clients tried, $missed not available: $((checks - failed)) of $checks checks ok, $failed FAILED"
[ $failed = 0 ]
