#!/bin/sh
#
# Tests the recipe for a pair of routers, rootfs-overlay/usr/share/doc/igdd/pair.md: two
# routers with keepalived, rsync and ssh of Debian, each with files of its own, between
# a LAN and an Internet. Clients map ports by all three protocols; then the master is
# killed, and every mapping must work on the other one before a client asks again; then
# the first one comes back. Everything runs in namespaces; packages are only unpacked.
#
#	scripts/test-pair.sh           with both variants of iptables
#	scripts/test-pair.sh legacy    with one of them

. "$(dirname "$0")/lab.sh"
recipe=$repo/rootfs-overlay/usr/share/doc/igdd/pair.md
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/igdd/pair
gateway=192.168.101.1
client=192.168.101.10
public=203.0.113.44

# download fetches the routers' programs, and what they depend on as far as this machine
# lacks it.
download() {
  [ ! -e "$cache/complete" ] || return 0
  mkdir -p "$cache/partial" && { fetch || { apt_get update && fetch; }; } && touch "$cache/complete"
}

fetch() {
  apt_get -o Dir::Cache::Archives="$cache" --download-only --no-install-recommends --reinstall install \
    keepalived rsync openssh-server openssh-client
}

# block prints the block of the recipe whose first line contains $1, with the addresses
# of router $2.
block() {
  awk -v first="$1" '/^```/ { inside = !inside; n = 0; next } inside && ++n == 1 { wanted = index($0, first) } inside && wanted' "$recipe" |
    if [ "$2" = 2 ]; then
      sed 's/priority 150/priority 100/; s/peer=192.168.101.3/peer=192.168.101.2/'
    else
      cat
    fi
}

# virtual gives keepalived's addresses the length that the variant tests: with 32 the
# uplinks have further addresses, which come first.
virtual() {
  sed "s,^\( *$gateway\)/24,\1/$bits,; s,^\( *$public\)/24,\1/$bits,"
}

rc_conf() {
  cat <<END
EXTIF="eth0"
INTIF="eth1"
INTIP="192.168.101.$(($1 + 1))"
INTNM="255.255.255.0"
UPNP_ENABLE_NATPMP="yes"
UPNP_ENABLE_UPNP="yes"
END
  block rc.conf "$1"
}

# prepare makes the root of router $1, with the folder $work/$1 to work in, and holds it:
# a boot makes the network anew, and keeps these files.
prepare() {
  unshare --mount "$0" hold "$work/$1" "$1" "$variant" "$bits" "$work" &
  eval "holder$1=$!"
  until_true [ -e "$work/$1.ready" ]
}

# hold is prepare's process.
hold() {
  work=$5 variant=$3 bits=$4
  mkdir "$1" && scratch_root "$1" "$work/miniupnpd" || exit 1
  mount -t tmpfs -o mode=700 scratch "$root/root" && mkdir -m 700 "$root/root/.ssh" && chmod 755 "$root/mnt" "$root/run" || exit 1
  for deb in "$cache"/*.deb; do
    dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C "$root" || exit 1
  done
  for tool in iptables ip6tables; do
    for part in '' -save -restore; do
      ln -sf "xtables-$variant-multi" "$root/usr/sbin/$tool$part" || exit 1
    done
  done
  install_recipe "$2" && keys "$2" && touch "$root/run/boot_id" &&
    mount --bind "$root/run/boot_id" "$root/proc/sys/kernel/random/boot_id" || exit 1
  touch "$work/$2.ready"
  exec chroot "$root" busybox syslogd -n -O /mnt/messages
}

# install_recipe installs what the recipe says on router $1.
install_recipe() {
  mkdir -p "$root/mnt/kd/keepalived" && rc_conf "$1" >"$root/tmp/etc/rc.conf" &&
    block '# keepalived.conf' "$1" | virtual >"$root/mnt/kd/keepalived/keepalived.conf" &&
    block '#!/bin/sh' "$1" >"$root/mnt/kd/keepalived/router" && chmod 755 "$root/mnt/kd/keepalived/router"
}

# keys lets root of router $1 log in to the other one and be logged in from there.
keys() {
  other=$((3 - $1))
  mkdir -p "$root/run/sshd" && grep -q '^sshd:' "$root/etc/passwd" ||
    echo 'sshd:x:100:65534::/run/sshd:/usr/sbin/nologin' >>"$root/etc/passwd"
  cp "$work/user" "$root/root/.ssh/id_ed25519" && cp "$work/user.pub" "$root/root/.ssh/authorized_keys" &&
    chmod 600 "$root/root/.ssh/id_ed25519" && install -m 600 "$work/host$1" "$root/etc/ssh/igdd_key" &&
    echo "192.168.101.$((other + 1)) $(cat "$work/host$other.pub")" >"$root/root/.ssh/known_hosts"
}

# router runs a command on router $1, in its root.
router() {
  eval "holder=\$holder$1"
  lab_host=pair-$1
  shift
  # shellcheck disable=SC2154 # set by eval
  nsenter --target "$holder" --mount --root --wd --net="/run/netns/$lab_host" \
    env -i PATH=/usr/sbin:/sbin:/usr/bin:/bin HOME=/root "$@"
}

# boot gives router $1 a network and starts sshd and keepalived.
boot() {
  ip netns add "pair-$1" && ip -n "pair-$1" link set lo up &&
    ip link add eth1 netns "pair-$1" type veth peer name "port$1" netns pair-lan &&
    ip link add eth0 netns "pair-$1" type veth peer name "port$1" netns pair-wan &&
    ip -n "pair-$1" address add "192.168.101.$(($1 + 1))/24" dev eth1 || return 1
  for side in lan wan; do
    ip -n pair-$side link set "port$1" master br0 up || return 1
  done
  [ "$bits" = 24 ] || ip -n "pair-$1" address add "203.0.113.$(($1 + 1))/24" dev eth0 || return 1
  ip -n "pair-$1" link set eth0 up && ip -n "pair-$1" link set eth1 up &&
    until_true linked "$1" eth0 && until_true linked "$1" eth1 || return 1
  router "$1" sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward; find /run -name "*.pid" -o -name "miniupnpd.*" -o -name "router.*" | xargs -r rm
    cat /proc/sys/kernel/random/uuid >/run/boot_id' && firewall "$1" &&
    router "$1" /usr/sbin/sshd -f /dev/null -h /etc/ssh/igdd_key &&
    router "$1" keepalived -l -f /mnt/kd/keepalived/keepalived.conf
}

linked() { ip -n "pair-$1" link show dev "$2" | grep -q 'state UP'; }

# firewall is a home router's: the LAN may connect out, nothing may connect in.
firewall() {
  router "$1" iptables -P FORWARD DROP &&
    router "$1" iptables -A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT &&
    router "$1" iptables -A FORWARD -i eth1 -o eth0 -j ACCEPT &&
    router "$1" iptables -A INPUT -i eth0 -j DROP &&
    router "$1" iptables -t nat -A POSTROUTING -o eth0 -j MASQUERADE
}

# fail kills all that runs on router $1, and takes its links away.
fail() {
  ip netns pids "pair-$1" | xargs -r kill -9
  ip -n "pair-$1" link delete eth0
  ip -n "pair-$1" link delete eth1
  ip netns delete "pair-$1"
}

# switch makes host $1 with the addresses after it: a bridge that the routers' ports join.
switch() {
  name=pair-$1
  shift
  ip netns add "$name" && ip -n "$name" link set lo up && ip -n "$name" link add br0 type bridge forward_delay 0 &&
    ip -n "$name" link set br0 up || return 1
  for address; do
    ip -n "$name" address add "$address/24" dev br0 || return 1
  done
}

# hosts makes the LAN's client and the Internet's hosts.
hosts() {
  switch lan $client && switch wan 203.0.113.1 203.0.113.9 && ip -n pair-lan route add default via $gateway
}

# serve starts what the client offers: it greets each caller on the ports.
serve() {
  for port in 8080 8081 8082 8083; do
    ip netns exec pair-lan socat "TCP4-LISTEN:$port,reuseaddr,fork" SYSTEM:"echo hello from $port" >/dev/null 2>&1 &
  done
  ip netns exec pair-lan socat UDP4-RECVFROM:9000,fork SYSTEM:'echo hello from 9000' >/dev/null 2>&1 &
}

# reach succeeds if packets to port $2 ($1: TCP4 or UDP4) from address $4 of the Internet
# reach the client's port $3.
reach() {
  option=
  [ "$1" = UDP4 ] || option=,connect-timeout=0.3
  [ "$(echo knock | ip netns exec pair-wan socat -t 0.3 - "$1:$public:$2,bind=${4:-203.0.113.1}$option" 2>&1)" = "hello from $3" ]
}

# pcp sends a PCP MAP request for UDP 9000 and external port 4002, and prints the response
# in octets.
pcp() {
  zeros='\000\000\000\000\000\000\000\000\000\000\377\377'
  # version, opcode and lifetime, client, nonce, UDP and the ports, suggested address
  # shellcheck disable=SC2059 # octets
  printf "\\002\\001\\000\\000\\000\\000\\016\\020$zeros\\300\\250\\145\\012nonceofaPair\\021\\000\\000\\000\\043\\050\\017\\242$zeros\\000\\000\\000\\000" |
    ip netns exec pair-lan socat -t 2 - "UDP4:$gateway:5351,bind=$client" | od -An -v -tu1 | tr -s ' \n' ' '
}

# by_pcp maps by PCP, and prints the epoch.
by_pcp() {
  # shellcheck disable=SC2046 # octets
  set -- $(pcp)
  [ "$4" = 0 ] && [ "$((${43} * 256 + ${44}))" = 4002 ] && echo $(((${10} * 256 + ${11}) * 256 + ${12}))
}

by_natpmp() { ip netns exec pair-lan timeout 10 natpmpc -g $gateway -a "$1" "$2" tcp 3600; }
by_upnp() { ip netns exec pair-lan timeout 20 upnpc -u "http://$gateway:5000/rootDesc.xml" -a $client "$@"; }

# all_reach succeeds when every mapping that is older than the copying interval works, and
# the restricted one for its remote host alone.
all_reach() {
  reach TCP4 4001 8080 && reach UDP4 4002 9000 && reach TCP4 4003 8081 && reach TCP4 4004 8082 203.0.113.9
}

# within waits up to $1 s for a command to succeed.
within() {
  end=$(($(date +%s) + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$(date +%s)" -lt $end ] || return 1
    sleep 0.05
  done
}

is() { [ "$(router "$1" sed 's/ .*//' /run/router.state)" = "$2" ]; }
answers() { ip netns exec pair-lan timeout 2 natpmpc -g $gateway; }
serves() { router "$1" /etc/init.d/miniupnpd status; }
lacks() { ! "$@"; }

# holds succeeds if router $1 has a lease of port $2, and both routers the same files.
holds() {
  router "$1" grep ":$2:$client:" /mnt/kd/upnp.leases && [ "$(files 1)" = "$(files 2)" ]
}

files() { router "$1" sha256sum /mnt/kd/upnp.leases /mnt/kd/upnp/upnp.leases.state; }

# since prints the seconds since keepalived told router $1 what it has become.
since() {
  echo "$(date +%s.%N) $(router "$1" stat -c %.3Y /run/router.state)" | awk '{ printf "%.1f s\n", $1 - $2 }'
}

# new_epoch succeeds if PCP's epoch has begun after keepalived told router $1 that it is
# the master.
new_epoch() {
  epoch=$(by_pcp)
  age=$(since "$1")
  echo "epoch $epoch, $age"
  [ "$epoch" -le "${age%%.*}" ]
}

# listen notes the announcements and notices that the client hears.
listen() {
  # shellcheck disable=SC2016 # socat tells the shell below who has sent
  from='echo from $SOCAT_PEERADDR; cat'
  ip netns exec pair-lan socat -u UDP4-RECVFROM:5350,ip-add-membership=224.0.0.1:br0,reuseaddr,fork SYSTEM:"$from" >>"$work/announced" 2>&1 &
  ip netns exec pair-lan socat -u UDP4-RECVFROM:1900,ip-add-membership=239.255.255.250:br0,reuseaddr,fork SYSTEM:"$from" >>"$work/notices" 2>&1 &
}

# clear_notes forgets them.
clear_notes() { : >"$work/announced" && : >"$work/notices"; }

# only_gateway succeeds if both files of notes have something, and all from the gateway.
only_gateway() {
  for notes in announced notices; do
    grep -aq "^from $gateway$" "$work/$notes" && ! grep -a '^from ' "$work/$notes" | grep -v " $gateway$" || return 1
  done
  grep -aq '^LOCATION' "$work/notices" && ! grep -a '^LOCATION' "$work/notices" | grep -v "http://$gateway:5000/"
}

map_all() {
  check 'NAT-PMP maps a port' by_natpmp 4001 8080
  check 'PCP maps a port' by_pcp
  check 'UPnP maps a port' by_upnp 8081 4003 tcp 3600
  check 'UPnP maps a port for one remote host' by_upnp 8082 4004 tcp 3600 203.0.113.9
  check 'they work' within 20 all_reach
  check 'the restricted one is closed to others' lacks reach TCP4 4004 8082
}

failover() {
  title "$variant, /$bits: the master is killed"
  check 'the backup copies the leases' within 60 holds 2 4003
  check 'it copies the restricted one' within 60 holds 2 4004
  clear_notes
  fail 1
  check 'the backup becomes master' within 60 is 2 MASTER
  check 'every mapping works' within 60 all_reach
  echo "      after keepalived's transition: $(since 2)"
  check 'the restricted one is closed to others' lacks reach TCP4 4004 8082
  check 'it is announced from the virtual address alone' within 60 only_gateway
  check 'PCP tells a new epoch' new_epoch 2
  check 'a client renews by NAT-PMP' by_natpmp 4001 8080
  check 'a client maps another port' by_natpmp 4005 8083
}

back() {
  title "$variant, /$bits: the first router comes back"
  check 'it boots' boot 1
  check 'it is the backup' within 60 is 1 BACKUP
  check 'it copies the leases' within 60 holds 1 4005
  check 'its daemon does not run' lacks serves 1
  check 'a client maps a port after that' by_upnp 8083 4006 tcp 3600
  clear_notes
  check 'it becomes master' within 90 is 1 MASTER
  check 'every mapping works' within 60 all_reach
  check 'also the one made meanwhile' within 60 reach TCP4 4005 8083
  check 'and the latest' within 60 reach TCP4 4006 8083
  echo "      after keepalived's transition: $(since 1)"
  check 'PCP tells a new epoch' new_epoch 1
  check 'the other daemon stops' within 60 lacks serves 2
  check 'only the virtual address was announced' only_gateway
  check 'nobody took leave after the new master came' lacks leave_last
}

# leave_last succeeds if the last notice that was heard is a byebye.
leave_last() { grep -a '^NTS:' "$work/notices" | tail -n 1 | grep byebye; }

# exercise tests the recipe with one variant, and virtual addresses of /$2.
exercise() {
  variant=$1 bits=$2 failed_before=$failed
  hosts || die 'cannot make the lab'
  prepare 1 || die 'cannot make the first router'
  prepare 2 || die 'cannot make the second router'
  serve
  listen
  title "$variant, /$bits: the pair starts"
  check 'the first router boots' boot 1
  check 'the second router boots' boot 2
  check 'the first one is the master' within 60 is 1 MASTER
  check 'its daemon answers' within 60 answers
  check 'the other daemon does not' lacks serves 2
  map_all
  failover
  back
  [ $failed = $failed_before ] || tell_why
  clear_up
}

# tell_why prints what the routers logged.
tell_why() {
  for number in 1 2; do
    title "What router $number logged:"
    eval "holder=\$holder$number"
    show tail -n 60 "/proc/$holder/root/mnt/messages"
  done
}

# clear_up ends every process of the lab.
clear_up() {
  for name in pair-1 pair-2 pair-lan pair-wan; do
    [ -e /run/netns/$name ] || continue
    ip netns pids $name | xargs -r kill -9
    ip netns delete $name
  done
  # shellcheck disable=SC2154 # set by eval
  kill "$holder1" "$holder2" 2>/dev/null
  wait
  rm -rf "$work"/[12]*
}

if [ "$1" = hold ]; then
  shift
  hold "$@"
fi
if [ "$1" != --apart ]; then
  need_root
  exec unshare --mount --pid --fork --kill-child --mount-proc "$0" --apart "$@"
fi
shift
need_go
need ip:iproute2 iptables:iptables busybox:busybox socat:socat natpmpc:natpmpc upnpc:miniupnpc ssh-keygen:openssh-client awk:gawk
download || die "cannot download Debian's keepalived, rsync and openssh-server"
checks=0 failed=0 holder1='' holder2=''
work=$(mktemp -d) && mount -t tmpfs scratch "$work" || exit 1
trap 'clear_up; umount -l "$work" && rmdir "$work"' EXIT
trap 'exit 1' INT TERM
mkdir -p /run/netns && mount -t tmpfs names /run/netns || exit 1
(cd "$repo" && CGO_ENABLED=0 go build -o "$work/miniupnpd" ./cmd/miniupnpd) || die 'cannot build the daemon'
for key in user host1 host2; do
  ssh-keygen -q -t ed25519 -N '' -f "$work/$key" || die 'cannot make keys'
done
case $1 in
'' | legacy) exercise legacy 24 ;;
esac
case $1 in
'' | nft) exercise nft 32 ;;
esac
printf '\n%s\n' "$((checks - failed)) of $checks checks ok, $failed FAILED"
[ $failed = 0 ]
