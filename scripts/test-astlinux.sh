#!/bin/sh
#
# Goes through a router's life on AstLinux: its own skeleton, Arno firewall with
# plugins, init scripts, failover and web interface, booted by its own inittab
# and /etc/rc in namespaces, with clients in two LANs and a DMZ, two uplinks and
# an Internet. Once with AstLinux's own /etc/init.d/miniupnpd (rows "astlinux")
# and once with that of rootfs-overlay (rows "igdd"). After each step it knocks
# from the Internet, compares kernel, lease file and miniupnpctl, and looks at the
# status page. Prints a row for each step; why one failed goes to standard error.
#
#	scripts/test-astlinux.sh TREE [astlinux|igdd]
#
# TREE is a copy of AstLinux's source tree (github.com/astlinux-project/astlinux);
# nothing in it is built or changed. The environment may set
#
#	IPT     the iptables back end: legacy (the default, and AstLinux's) or nft
#	IGDD    the daemon to test, instead of one built from this checkout
#
# It needs root, and leaves the machine's own network and files alone.

. "$(dirname "$0")/lab.sh"
parts=$repo/scripts/astlinux
# shellcheck source=astlinux/net.sh
. "$parts/net.sh"
# shellcheck source=astlinux/router.sh
. "$parts/router.sh"
# shellcheck source=astlinux/check.sh
. "$parts/check.sh"
# shellcheck source=astlinux/life.sh
. "$parts/life.sh"
# shellcheck disable=SC2034 # lab.sh and the parts use it
lab=astlinux
IPT=${IPT:-legacy}
busybox=$(command -v busybox)

# inside runs in mount and process namespaces of its own, which end with it: the
# names of the network namespaces and all mounts belong to this run only.
inside() {
  mount -t tmpfs scratch "$work" && mkdir -p /run/netns && mount -t tmpfs names /run/netns || exit 1
  steps=0 failed=0 omitted=0
  printf '| %-8s | %-44s | result |\n| --- | --- | --- |\n' script step
  for script in $scripts; do
    new_life || die 'cannot make the network: this machine must allow network namespaces and mounts'
    life
    end_life
  done
  printf '\n%s of %s steps ok, %s FAILED, %s left out (iptables: %s)\n' $((steps - failed)) $steps $failed $omitted "$IPT"
  [ $failed = 0 ]
}

# new_life makes all that a router starts with: an empty /mnt/kd, a console, of
# which a file keeps what is printed, and neighbours.
new_life() {
  pressed=6000 reflector=3399 neighbours=
  mkdir "$work/kd" && mkfifo "$work/console" || return 1
  cat <>"$work/console" >"$work/console.log" &
  neighbours=$!
  hosts_up
}

end_life() {
  # shellcheck disable=SC2086 # a list of processes
  kill $neighbours
  ip -all netns delete
  rm -rf "${work:?}"/*
}

# start builds the daemon, and runs the test inside.
start() {
  run=
  box=$(mktemp -d) && mkdir "$box/work" || exit 1
  trap 'rm -rf "$box"' EXIT
  trap stop INT TERM HUP
  daemon=${IGDD:-$box/miniupnpd}
  [ -n "$IGDD" ] || (cd "$repo" && CGO_ENABLED=0 go build -o "$daemon" ./cmd/miniupnpd) || die 'cannot build the daemon'
  unshare --mount --pid --fork --kill-child --mount-proc "$0" inside "$box" "$scripts" "$tree" "$daemon" &
  run=$!
  wait $run
}

# stop ends the test: unshare ignores signals, so what it started is killed.
stop() {
  [ -z "$run" ] || { pkill -KILL -P "$run" && wait "$run"; }
  exit 1
}

needs() {
  need_root
  [ -n "$IGDD" ] || need_go
  need update-ca-certificates:ca-certificates ip:iproute2 iptables:iptables busybox:busybox bash:bash \
    /usr/bin/python3:python3 upnpc:miniupnpc php:php-cli openssl:openssl pgrep:procps nsenter:util-linux
}

# debian_folders prints the folders of Debian's packages with programs of AstLinux.
debian_folders() {
  for package in ifplugd libdaemon0 fping ipset libipset13; do
    "$repo/scripts/debian.sh" $package || return 1
  done
}

mode=$1
case $mode in
inside | power)
  # What the outer call found out: the folder to work in, the init scripts, the
  # tree and the daemon.
  box=$2 scripts=$3 script=$3 tree=$4 daemon=$5
  work=$box/work
  ;;
esac
case $mode in
inside)
  inside
  ;;
power)
  debian=$(debian_folders) && power_on
  ;;
*)
  case $#:$2 in
  1: | 2:astlinux | 2:igdd) ;;
  *) die 'usage: scripts/test-astlinux.sh TREE [astlinux|igdd]' ;;
  esac
  tree=$(cd "$1" && pwd) && scripts=${2:-astlinux igdd} || exit 1
  [ -d "$tree/project/astlinux/target_skeleton" ] || die "$1 is no tree of AstLinux"
  needs && debian_folders >/dev/null || exit 1
  start
  ;;
esac
