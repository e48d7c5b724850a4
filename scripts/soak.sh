#!/bin/sh
#
# Has many clients use igdd by all protocols, while random faults happen to the router
# and the daemon: restarts of the firewall, bounces of the uplink and the LANs, other
# settings, kills, a stuck syslogd, a full disk. Each minute the kernel, the table, the
# lease file and miniupnpctl must agree, and have what clients were answered. This
# machine's own network, firewall and files are not touched.
#
#	scripts/soak.sh [--kills N] [--seed N] [MINUTES] [legacy|nft]
#
# Without more it takes 60 minutes with iptables-legacy. With --kills it kills the daemon
# N times instead, and checks after each start. Ends with 1 at the first difference, or
# if the daemon holds more memory, threads or files in the last third than in the second.
# The seed, which is printed first, gives the same faults and requests again.

. "$(dirname "$0")/lab.sh"

usage='usage: scripts/soak.sh [--kills N] [--seed N] [MINUTES] [legacy|nft]'
minutes=60 variant=legacy kills=0 seed=0
while [ $# -gt 0 ]; do
  case $1 in
  --kills) kills=$2 && shift ;;
  --seed) seed=$2 && shift ;;
  legacy | nft) variant=$1 ;;
  *) minutes=$1 ;;
  esac
  shift
done
for number in "$minutes" "$kills" "$seed"; do
  [ "$number" -ge 0 ] 2>/dev/null || die "$usage"
done
need_root
need_go
need ip:iproute2 iptables:iptables unshare:util-linux

folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
trap 'kill -9 $! 2>/dev/null; wait; exit 1' INT TERM HUP # unshare blocks other signals
cd "$repo/pkg/daemon" && go test -c -o "$folder/soak" . || exit 1
title '| time | faults | granted | deleted | refused | unanswered | read | events | mappings | agreed after | kB | kB of helpers | threads | files | state file, kB |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |'
# In namespaces of its own for processes and mounts, so that nothing outlives it.
# shellcheck disable=SC2016 # the inner shell expands it
TMPDIR=$folder unshare --mount --pid --fork --kill-child --mount-proc sh -c '
  mount -t tmpfs -o mode=755 run /run && { "$@" 2>&1; echo $? >"$0"; } |
  sed -un "/^=== /d; s/^ *[a-z]*_test.go:[0-9]*: //; p"' "$folder/status" \
  "$folder/soak" -test.v -test.timeout 0 -test.run '^TestSoak$' -soak "${minutes}m" -soak-variant "$variant" \
  -soak-kills "$kills" -soak-seed "$seed" &
wait $!
[ "$(cat "$folder/status")" = 0 ]
