#!/bin/sh
#
# Attacks igdd by what makes a daemon keep most, under a hard limit of 48 MB of memory
# for it and its child processes: fat requests beyond every quota, connections and
# subscriptions that nobody reads, and floods. Prints a table: the requests of each attack
# (of those by HTTP, what was granted) on a daemon that has just started; after it, whether
# the daemon lives and serves honest clients, and its memory; the peak of all; how often
# the neighbour table had no room, whoever filled it. Ends with 1 if it died or did not
# serve. This machine's own network and firewall are not touched.
#
#	scripts/attack-memory.sh [legacy|nft] [TEXT]
#
# TEXT chooses the attacks that contain it. IGDD=FILE attacks that program instead of
# this tree's. Some floods fill the neighbour table, which is the kernel's for all its
# namespaces: nothing else should use the network meanwhile.

. "$(dirname "$0")/lab.sh"
. "$(dirname "$0")/bench-lab.sh"

limit=48M

# limited_group makes the control group, of whichever version has the memory
# controller, and sets memory to its folder. The processes in it share the limit.
limited_group() {
  memory=/sys/fs/cgroup/memory/$lab
  if [ -d "${memory%/*}" ]; then
    mkdir "$memory" && echo $limit >"$memory/memory.limit_in_bytes" || return 1
    # Without an account of swap there is no such file.
    [ ! -e "$memory/memory.memsw.limit_in_bytes" ] || echo $limit >"$memory/memory.memsw.limit_in_bytes"
    return
  fi
  memory=/sys/fs/cgroup/$lab
  grep -qw memory /sys/fs/cgroup/cgroup.controllers && echo +memory >/sys/fs/cgroup/cgroup.subtree_control &&
    mkdir "$memory" && echo $limit >"$memory/memory.max" || return 1
  [ ! -e "$memory/memory.swap.max" ] || echo 0 >"$memory/memory.swap.max"
}

# leave removes the lab and then the control group, whose processes were in the lab.
leave() {
  clean_up
  [ ! -d "$memory" ] || until_true rmdir "$memory" 2>/dev/null
}

variant=${1:-legacy} memory=''
case $#:$variant in
[012]:legacy | [012]:nft) ;;
*) die 'usage: scripts/attack-memory.sh [legacy|nft] [TEXT]' ;;
esac
lab=igattack-$$
set_up
trap leave EXIT
tools "$folder" "$variant" || die "no $variant variant of iptables"
links "$lab" || die 'cannot make the lab: this machine must allow network namespaces'
attacker "$lab" || die 'cannot add a hostile host: the kernel must have macvlan'
limited_group || die 'cannot limit memory: there must be a control group with the memory controller'
title "# $("$folder/iptables" --version), $("$IGDD" --version | head -n 1), $limit"
# ip netns exec hides /sys/fs/cgroup, but not this process's. In the background, so that a
# signal need not wait for the end.
PATH=$folder:$PATH ip netns exec "$lab-lan" \
  "$folder/igdd-bench" -lab "$lab" -folder "$folder" -ours "$IGDD" -attack "/proc/$$/root$memory" -only "$2" &
wait $!
