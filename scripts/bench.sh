#!/bin/sh
#
# Measures igdd and Debian's miniupnpd-iptables in one lab of network namespaces,
# and prints Markdown tables with the figures of both and how many times better
# igdd is; what is on the way goes to standard error. This machine's own network
# and firewall are not touched.
#
#	scripts/bench.sh [--quick] [--nft] [--only ROW]
#
# Debian's miniupnpd-iptables supports iptables-legacy only: with --nft igdd is
# measured alone. A whole run takes about half an hour, most of it the starts of
# miniupnpd with many mappings; a quick one, with one round of each row, takes six
# minutes. ROW may also be the name of a group of rows; an unknown one lists them
# all. IGDD=FILE measures that program instead of this tree's, but for ARM.
#
# Both programs also start in an emulated ARM machine, as firmware.sh boots it. Where
# it cannot be had, those rows say so.
#
# The last table is what an honest client gets while another machine of the LAN floods
# the router; --only fairness has many more floods and takes ten minutes. The neighbour
# table is the kernel's for all its namespaces, and some floods fill it: nothing else
# should use the network meanwhile.

. "$(dirname "$0")/lab.sh"
. "$(dirname "$0")/bench-lab.sh"
. "$repo/scripts/firmware/image.sh"
. "$repo/scripts/firmware/machine.sh"

# describe_machine prints what the figures depend on.
describe_machine() {
  echo "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores," \
    "Linux $(uname -r), $("$folder/iptables" --version), files on $(stat -f -c %T "$folder")," \
    "$(cat /proc/sys/net/ipv4/neigh/default/gc_thresh3) neighbours at most," \
    "load $(cut -d ' ' -f 1 /proc/loadavg) before; $("$IGDD" --version | sed -n '1s/^miniupnpd/igdd/p')${theirs:+, $("$theirs" --version | head -n 1)}"
}

# boot_guest boots an emulated ARM machine with both programs, in the namespaces
# $lab-arm-…, and leaves its console at $folder/arm/console.
boot_guest() (
  lab=$lab-arm box=$folder/arm
  machine armv7
  need busybox:busybox socat:socat "${qemu%% *}:$qemu_package" nbdkit:nbdkit modprobe:kmod cpio:cpio mke2fs:e2fsprogs
  # shellcheck disable=SC2119 # the machine needs no further arguments
  built=$("$repo/scripts/build.sh" armv7) && tree=$(debian_root) && mkdir "$box" && make_root "$tree" "$box/root" &&
    install -m 755 "$tree/usr/sbin/miniupnpd" "$box/root/usr/sbin" && install -m 755 "$repo/${built##* }" "$box/root/usr/sbin/igdd" &&
    make_boot "$tree" && wire && power_on >"$box/uptime" && ip -n "$lab-lan" address add 192.168.50.64/24 dev eth0
)

variant=legacy options='' only=''
while [ $# -gt 0 ]; do
  case $1 in
  --quick) options="$options -quick" ;;
  --nft) variant=nft ;;
  --only) [ $# -gt 1 ] && only=$2 && options="$options -only $2" && shift ;;
  *) die 'usage: scripts/bench.sh [--quick] [--nft] [--only ROW]' ;;
  esac || die '--only needs the name of a row'
  shift
done
lab=igbench-$$
set_up
[ $variant = nft ] || theirs=$("$repo/scripts/debian.sh" miniupnpd-iptables)/usr/sbin/miniupnpd || exit 1
tools "$folder" $variant || die "no $variant variant of iptables"
for name in "$lab" "$lab-igdd" "$lab-miniupnpd"; do
  links "$name" || die 'cannot make the lab: this machine must allow network namespaces'
done
attacker "$lab" || die 'cannot add a hostile host: the kernel must have macvlan'
describe_machine
# Its iptables is the legacy one.
case $variant:$only in
legacy: | legacy:arm | legacy:start-arm*)
  options="$options -guest $folder/arm/console"
  boot_guest >&2 || echo "bench.sh: no ARM machine could be booted" >&2
  ;;
esac
# In the background, so that a signal need not wait for the end of a row.
# shellcheck disable=SC2086 # a list of options
PATH=$folder:$PATH ip netns exec "$lab-lan" "$folder/igdd-bench" -lab "$lab" -folder "$folder" \
  -ours "$IGDD" ${theirs:+-theirs "$theirs"} $options &
wait $!
