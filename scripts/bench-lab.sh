# shellcheck shell=sh
# The lab of igdd-bench, to be sourced by the scripts that measure: its namespaces
# are called $lab-…, a name that they choose, its files are in $folder.

# host makes a namespace whose IPv6 addresses can be used at once.
host() {
  ip netns add "$1" && ip -n "$1" link set lo up &&
    ip netns exec "$1" sh -c 'echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad'
}

# links makes a router called $1-router with the LAN on eth1 and the Internet on
# eth0, and the hosts $1-lan and $1-wan at the other ends. The LAN host is also
# all clients, 192.168.50.64 to .95, and all owners of mappings, from .128 on.
# Its network is larger, so that many more hosts can be invented.
links() {
  host "$1-lan" && host "$1-router" && host "$1-wan" &&
    ip link add eth1 netns "$1-router" type veth peer name eth0 netns "$1-lan" &&
    ip link add eth0 netns "$1-router" type veth peer name eth0 netns "$1-wan" &&
    ip -n "$1-router" address add 192.168.50.1/16 dev eth1 &&
    ip -n "$1-router" address add 11.22.33.44/24 dev eth0 &&
    ip -n "$1-wan" address add 11.22.33.1/24 dev eth0 &&
    seq -f 'address add 192.168.50.%g/16 dev eth0' 64 95 | ip -n "$1-lan" -batch - &&
    ip -n "$1-router" link set eth0 up && ip -n "$1-router" link set eth1 up &&
    ip -n "$1-wan" link set eth0 up && ip -n "$1-lan" link set eth0 up &&
    ip -n "$1-router" route add default via 11.22.33.1 &&
    ip -n "$1-lan" route add default via 192.168.50.1 &&
    ip -n "$1-lan" route add local 192.168.50.128/25 dev lo &&
    ip netns exec "$1-router" sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
}

# attacker adds a hostile host, $1-attacker, to the LAN of router $1-router. It has 100
# addresses of each family.
attacker() {
  host "$1-attacker" &&
    ip -n "$1-lan" link add link eth0 name attacker type macvlan mode bridge &&
    ip -n "$1-lan" link set attacker netns "$1-attacker" name eth0 &&
    {
      seq -f 'address add 192.168.51.%g/16 dev eth0' 1 100
      for n in $(seq 100); do
        printf 'address add fd00:50::1:%x/64 dev eth0\n' "$n"
      done
    } | ip -n "$1-attacker" -batch - &&
    ip -n "$1-attacker" link set eth0 up
}

# tools puts links to the programs of iptables variant $2 into folder $1.
tools() {
  for program in iptables ip6tables; do
    for part in '' -save -restore; do
      ln -s "/usr/sbin/xtables-$2-multi" "$1/$program$part" || return 1
    done
  done
}

# set_up builds igdd-bench into a new $folder, and igdd unless IGDD is a program already.
# At the end, clean_up removes the folder and the lab.
# shellcheck disable=SC2154 # lab.sh sets repo
set_up() {
  need_root
  need_go
  need ip:iproute2 iptables:iptables
  if [ -z "$IGDD" ]; then
    built=$("$repo/scripts/build.sh" native) || exit 1
    IGDD=$repo/${built##* }
  fi
  folder=$(mktemp -d) || exit 1
  trap clean_up EXIT
  trap 'exit 1' INT TERM HUP
  CGO_ENABLED=0 go build -C "$repo" -o "$folder/igdd-bench" ./cmd/igdd-bench || die 'cannot build igdd-bench'
}

# clean_up removes every namespace of this run, with the processes in it. Further
# signals do not interrupt it.
# shellcheck disable=SC2154 # the script sets lab
clean_up() {
  trap '' INT TERM HUP
  for namespace in $(ip netns list | cut -d ' ' -f 1 | grep "^$lab-"); do
    ip netns pids "$namespace" | xargs -r kill -9 2>/dev/null
    ip netns delete "$namespace"
  done
  rm -rf "$folder"
}
