#!/bin/sh
#
# Measures igdd and Debian's miniupnpd-iptables in one lab of network namespaces,
# and prints a Markdown table. This machine's own network
# and firewall are not touched.
#
#	scripts/bench.sh [--quick] [--nft] [--only ROW]
#
# Debian's miniupnpd-iptables supports iptables-legacy only: with --nft igdd is
# measured alone. A whole run takes about twenty minutes, most of it the
# starts of miniupnpd with many mappings, a quick one four; an unknown
# row lists them all.

. "$(dirname "$0")/lab.sh"

# links makes a router called $1-router with the LAN on eth1 and the Internet on
# eth0, and the hosts $1-lan and $1-wan at the other ends. The LAN host is also
# all clients, 192.168.50.64 to .95, and all owners of mappings, from .128 on.
links() {
  for host in lan router wan; do
    ip netns add "$1-$host" && ip -n "$1-$host" link set lo up || return 1
  done
  ip link add eth1 netns "$1-router" type veth peer name eth0 netns "$1-lan" &&
    ip link add eth0 netns "$1-router" type veth peer name eth0 netns "$1-wan" &&
    ip -n "$1-router" address add 192.168.50.1/24 dev eth1 &&
    ip -n "$1-router" address add 11.22.33.44/24 dev eth0 &&
    ip -n "$1-wan" address add 11.22.33.1/24 dev eth0 &&
    seq -f 'address add 192.168.50.%g/24 dev eth0' 64 95 | ip -n "$1-lan" -batch - &&
    ip -n "$1-router" link set eth0 up && ip -n "$1-router" link set eth1 up &&
    ip -n "$1-wan" link set eth0 up && ip -n "$1-lan" link set eth0 up &&
    ip -n "$1-router" route add default via 11.22.33.1 &&
    ip -n "$1-lan" route add default via 192.168.50.1 &&
    ip -n "$1-lan" route add local 192.168.50.128/25 dev lo &&
    ip netns exec "$1-router" sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
}

# tools puts links to the programs of iptables variant $2 into folder $1.
tools() {
  for program in iptables ip6tables; do
    for part in '' -save -restore; do
      ln -s "/usr/sbin/xtables-$2-multi" "$1/$program$part" || return 1
    done
  done
}

# machine describes what the figures depend on.
machine() {
  echo "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores," \
    "Linux $(uname -r), $("$folder/iptables" --version), files on $(stat -f -c %T "$folder")," \
    "load $(cut -d ' ' -f 1 /proc/loadavg) before; igdd $(git -C "$repo" describe --tags --always --dirty 2>/dev/null)"
}

# clean_up removes every namespace of this run, with the processes in it. Further
# signals do not interrupt it.
clean_up() {
  trap '' INT TERM HUP
  for namespace in $(ip netns list | cut -d ' ' -f 1 | grep "^$lab-"); do
    ip netns pids "$namespace" | xargs -r kill -9 2>/dev/null
    ip netns delete "$namespace"
  done
  rm -rf "$folder"
}

variant=legacy options=
while [ $# -gt 0 ]; do
  case $1 in
  --quick) options="$options -quick" ;;
  --nft) variant=nft ;;
  --only) [ $# -gt 1 ] && options="$options -only $2" && shift ;;
  *) die 'usage: scripts/bench.sh [--quick] [--nft] [--only ROW]' ;;
  esac || die '--only needs the name of a row'
  shift
done
need_root
need_go
need ip:iproute2 iptables:iptables
built=$("$repo/scripts/build.sh" native) || exit 1
[ $variant = nft ] || theirs=$("$repo/scripts/debian.sh" miniupnpd-iptables)/usr/sbin/miniupnpd || exit 1

lab=igbench-$$ folder=$(mktemp -d) || exit 1
trap clean_up EXIT
trap 'exit 1' INT TERM HUP
CGO_ENABLED=0 go build -C "$repo" -o "$folder/igdd-bench" ./cmd/igdd-bench || die 'cannot build igdd-bench'
tools "$folder" $variant || die "no $variant variant of iptables"
for name in "$lab" "$lab-igdd" "$lab-miniupnpd"; do
  links "$name" || die 'cannot make the lab: this machine must allow network namespaces'
done
machine
# In the background, so that a signal need not wait for the end of a row.
# shellcheck disable=SC2086 # a list of options
PATH=$folder:$PATH ip netns exec "$lab-lan" "$folder/igdd-bench" -lab "$lab" -folder "$folder" \
  -ours "$repo/${built##* }" ${theirs:+-theirs "$theirs"} $options &
wait $!
