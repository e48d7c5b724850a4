# shellcheck shell=sh
# What the other scripts share, to be sourced by them: packages, and a scratch
# root with the files of rootfs-overlay as they land in the firmware.

repo=$(cd "$(dirname "$0")/.." && pwd)

# die ends the script with one line that says why.
die() {
  echo "$(basename "$0"): $*" >&2
  exit 1
}

# need_root ends the script when it may not make namespaces.
need_root() {
  [ "$(id -u)" = 0 ] || die "needs root, for network namespaces and mounts: sudo $0"
}

# need_go ends the script when there is no Go. Debian's is too old, and sudo's
# PATH lacks the folder where Go's own archive goes.
need_go() {
  PATH=$PATH:/usr/local/go/bin
  command -v go >/dev/null || die "needs Go: https://go.dev/dl/"
}

# apt_get runs apt-get without questions, one at a time, and prints only when it fails.
apt_get() {
  apt_log=$(DEBIAN_FRONTEND=noninteractive flock "$repo" apt-get -q -y -o APT::Sandbox::User=root "$@" 2>&1) || {
    echo "$apt_log" >&2
    return 1
  }
}

# need installs the packages of programs that are missing; each argument is
# PROGRAM:PACKAGE.
need() {
  missing=
  for pair; do
    command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
  done
  [ -n "$missing" ] || return 0
  command -v apt-get >/dev/null || die "these Debian packages, or what your system calls them, are missing:$missing"
  echo "installing$missing"
  # shellcheck disable=SC2086 # a list of package names
  apt_get install --no-install-recommends $missing 2>/dev/null ||
    { apt_get update && apt_get install --no-install-recommends $missing; } ||
    die "cannot install$missing"
}

# scratch_root makes a router's root in folder $1, at $1/root, with file $2 as
# its miniupnpd: this machine's programs below, the files of rootfs-overlay
# above them, everything that changes in memory. The caller has a mount
# namespace of its own, so nothing of it shows or stays outside.
scratch_root() {
  root=$1/root
  mount -t tmpfs scratch "$1" &&
    mkdir "$root" "$1/changes" "$1/work" &&
    mount -t overlay -o "lowerdir=/,upperdir=$1/changes,workdir=$1/work" scratch "$root" &&
    cp -dR "$repo/rootfs-overlay/." "$root" &&
    install -m 755 "$2" "$root/usr/sbin/miniupnpd" || return 1
  for dir in dev mnt run tmp; do
    mount -t tmpfs scratch "$root/$dir" || return 1
  done
  mount -t proc proc "$root/proc" &&
    mkdir -p "$root/dev/pts" "$root/mnt/kd" "$root/run/lock" "$root/tmp/etc" "$root/var/db" &&
    mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts" &&
    ln -s pts/ptmx "$root/dev/ptmx" &&
    mknod -m 666 "$root/dev/null" c 1 3 && mknod -m 666 "$root/dev/urandom" c 1 9 &&
    ln -sf /tmp/etc/rc.conf "$root/etc/rc.conf"
}

# title starts a part of what a script tells.
title() {
  printf '\n%s\n' "$1"
}

# show prints what a command says, set off from its own words.
show() {
  "$@" 2>&1 | sed 's/^/      /'
}

# check runs a command and counts whether it did what the text $1 says; what it
# printed is shown only if it did not.
check() {
  text=$1
  shift
  checks=$((checks + 1))
  if said=$("$@" 2>&1); then
    printf '  ok  %s\n' "$text"
    return
  fi
  failed=$((failed + 1))
  printf 'FAIL  %s\n' "$text"
  printf '%s: %s\n' "$*" "$said" | sed 's/^/      /'
}

# The lab is three namespaces: igdd-lan, a client at 192.168.50.10 (and .11),
# igdd-gw, the router with the LAN on eth1 and the Internet on eth0, and
# igdd-wan, a host on the Internet.
lan_net=192.168.50.0/24
wan_address=11.22.33.44
lab_folder=/run/igdd-lab
lab=igdd

# on runs a command in namespace $lab-$1.
on() {
  lab_host=$lab-$1
  shift
  ip netns exec "$lab_host" "$@"
}

# router runs a command on the router, in its scratch root, with the PATH that
# AstLinux boots with.
router() {
  nsenter --target "$router_pid" --net --mount --pid --root --wd \
    env -i PATH=/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin "$@"
}

# until_true waits up to 5 s for a command to succeed.
until_true() {
  tenths=0
  until "$@"; do
    [ $((tenths += 1)) -le 50 ] || return 1
    sleep 0.1
  done
}

# rc_conf prints the settings of the router.
rc_conf() {
  cat <<'END'
EXTIF="eth0"
INTIF="eth1"
INTIP="192.168.50.1"
INTNM="255.255.255.0"
UPNP_ENABLE_NATPMP="yes"
UPNP_ENABLE_UPNP="yes"
UPNP_LISTEN="INTIF"
UUID="5d0a8a3c-6f0b-4d53-9f83-2f1f6b1c4c70"
END
}

# serve starts what the LAN client offers: services that greet each caller.
serve() {
  # shellcheck disable=SC2016 # socat tells the shell below who asked
  greet='read -r line; echo "hello $SOCAT_PEERADDR, this is 192.168.50.10"'
  ip netns exec $lab-lan socat TCP4-LISTEN:8080,reuseaddr,fork SYSTEM:"$greet" >/dev/null 2>&1 &
  ip netns exec $lab-lan socat UDP4-RECVFROM:9000,fork SYSTEM:"$greet" >/dev/null 2>&1 &
  until_true serving
}

serving() {
  on lan ss -Hltn 'sport = 8080' | grep -q . && on lan ss -Hlun 'sport = 9000' | grep -q .
}

# ask asks the router for a port, as the LAN client, and prints what it grants.
ask() {
  on lan timeout 10 natpmpc -a "$@" | grep '^Mapped'
}

# octets prints numbers as that many octets each: octets 2 5351 prints two.
octets() {
  size=$1
  shift
  for number; do
    bits=$((size * 8))
    while [ $((bits -= 8)) -ge 0 ]; do
      # shellcheck disable=SC2059 # the format is the octet
      printf "\\$(printf %03o $((number >> bits & 255)))"
    done
  done
}

# mapped_address prints an IPv4 address as PCP writes it.
mapped_address() {
  octets 4 0 0 65535
  # shellcheck disable=SC2046 # four numbers
  octets 1 $(echo "$1" | tr . ' ')
}

# pcp_map asks, as the LAN client, by PCP for UDP port $1 to its port $2 for an
# hour, and fails unless that very port is granted.
# shellcheck disable=SC2154 # $box is the folder of the script
pcp_map() {
  {
    octets 1 2 1 0 0
    octets 4 3600
    mapped_address 192.168.50.10
    octets 4 1 2 3
    octets 1 17 0 0 0
    octets 2 "$2" "$1"
    mapped_address 0.0.0.0
  } >"$box/request"
  answer=$(on lan socat -t 10 - UDP4:192.168.50.1:5351 <"$box/request" | od -A n -v -t x1 -w60 | tr -d ' ')
  echo "$answer"
  [ "$(echo "$answer" | cut -c 1-8,85-88)" = "02810000$(printf %04x "$1")" ]
}

# natpmp_port asks, as the LAN client's address $1, by NAT-PMP for its UDP port $2 for an
# hour, and prints the external port that it gets.
natpmp_port() {
  {
    octets 1 0 1 0 0
    octets 2 "$2" "$2"
    octets 4 3600
  } | dd bs=12 iflag=fullblock status=none | # one datagram
    on lan socat -t 10 - "UDP4:192.168.50.1:5351,bind=$1,readbytes=16" |
    od -A n -v -t u2 --endian=big -j 2 -N 10 | awk '$1 == 0 { print $5 }'
}

# call connects to the router's external port $2 ($1: tcp or udp) from the
# Internet and prints the answer.
call() {
  case $1 in
  tcp) peer=TCP4:$wan_address:$2,connect-timeout=1 ;;
  udp) peer=UDP4:$wan_address:$2 ;;
  esac
  answer=$(echo knock | on wan socat -t 1 - "$peer" 2>&1)
  echo "$answer"
  [ "$answer" = 'hello 11.22.33.1, this is 192.168.50.10' ]
}

# silent succeeds when there is no answer.
silent() {
  ! call "$@"
}

# lab_up makes the lab, with file $1 as the router's miniupnpd.
lab_up() {
  lab_down
  lab_links && router_boot "$1" && router_firewall
}

lab_links() {
  for lab_host in igdd-lan igdd-gw igdd-wan; do
    ip netns add $lab_host && ip -n $lab_host link set lo up || return 1
  done
  ip link add eth0 netns igdd-lan type veth peer name eth1 netns igdd-gw &&
    ip link add eth0 netns igdd-wan type veth peer name eth0 netns igdd-gw &&
    ip -n igdd-lan address add 192.168.50.10/24 dev eth0 &&
    ip -n igdd-lan address add 192.168.50.11/24 dev eth0 &&
    ip -n igdd-gw address add 192.168.50.1/24 dev eth1 &&
    ip -n igdd-gw address add $wan_address/24 dev eth0 &&
    ip -n igdd-wan address add 11.22.33.1/24 dev eth0 &&
    ip -n igdd-lan link set eth0 up && ip -n igdd-wan link set eth0 up &&
    ip -n igdd-gw link set eth0 up && ip -n igdd-gw link set eth1 up &&
    ip -n igdd-lan route add default via 192.168.50.1 &&
    ip -n igdd-gw route add default via 11.22.33.1 &&
    on gw sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
}

# router_boot starts what a router has before miniupnpd: its root and its
# syslogd, whose process holds the root.
router_boot() {
  mkdir -p $lab_folder || return 1
  # shellcheck disable=SC2016 # the inner shell expands it
  ip netns exec igdd-gw sh -c '. "$(dirname "$0")/lab.sh" && scratch_root "$1" "$2" &&
    exec chroot "$root" busybox syslogd -n -O /var/log/messages' "$0" $lab_folder "$1" &
  router_pid=$!
  until_true router_ready
}

router_ready() {
  [ "$(cat "/proc/$router_pid/comm")" = busybox ] && [ -S "/proc/$router_pid/root/dev/log" ]
}

# router_firewall is a home router's: the LAN may connect out, nothing may connect in.
router_firewall() {
  router iptables -P FORWARD DROP &&
    router iptables -A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT &&
    router iptables -A FORWARD -i eth1 -o eth0 -j ACCEPT &&
    router iptables -A INPUT -i eth0 -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT &&
    router iptables -A INPUT -i eth0 -j DROP &&
    router iptables -t nat -A POSTROUTING -s $lan_net -o eth0 -j MASQUERADE
}

# lab_down removes the lab, or what is left of one, with every process in it. A
# shell that the user has opened there keeps its namespace.
lab_down() {
  for lab_host in igdd-lan igdd-gw igdd-wan; do
    [ -e /run/netns/$lab_host ] || continue
    ip netns pids $lab_host | xargs -r kill 2>/dev/null
    ip netns delete $lab_host
  done
  [ ! -d $lab_folder ] || rmdir $lab_folder
}
