#!/bin/sh
#
# Boots a small firmware image with the program and the files of rootfs-overlay,
# in the way of AstLinux, and does there what a user would: its LAN and its WAN
# are network namespaces with real clients and packets in them. The processor is
# emulated, this machine's network and files are not touched.
#
#	scripts/firmware.sh [--cuts N] [amd64 | arm64 | armv7]
#
# With --cuts it only cuts the power N times while clients ask for ports. SEED
# draws when, and what they ask; without it, the time does.

. "$(dirname "$0")/lab.sh"
. "$repo/scripts/firmware/image.sh"
. "$repo/scripts/firmware/machine.sh"
. "$repo/scripts/firmware/load.sh"

# make_image makes what the machine boots, and measures it.
make_image() {
  tree=$(debian_root) || die "cannot get Debian's packages"
  make_root "$tree" "$box/root" || die 'cannot make the root file system'
  bare=$(squashed "$box/root")
  install -m 755 "$tree/usr/sbin/miniupnpd" "$box/root/usr/sbin"
  debians=$(squashed "$box/root")
  install_ours "$box/root" "$program"
  ours=$(squashed "$box/root")
  make_boot "$tree"
}

# figure prints a number that was measured.
figure() {
  printf '      %-58s %8s %s\n' "$@"
}

# boot starts the machine and tells how long that took.
boot() {
  start=$(date +%s)
  power_on "$@" >"$box/uptime" || {
    show cat "$box/boot.log" "$box/qemu.log"
    die 'it does not boot'
  }
  figure 'until the last service was started, in its own time' "$(cat "$box/uptime")" s
  figure 'by the clock on the wall' $(($(date +%s) - start)) s
}

# upnp_map asks, as the LAN client, by UPnP for TCP port $1 to its port $2.
upnp_map() {
  on lan timeout "$patience" upnpc -e firmware -a 192.168.50.10 "$2" "$1" tcp 3600 | grep 'is redirected to'
}

# page_shows fails unless the page of leases, as the LAN sees it, has a row for
# each of these ports.
page_shows() {
  page=$(on lan timeout "$patience" busybox wget -q -O - http://192.168.50.1/)
  for port; do
    case $page in
    *"class=public>$port<"*) ;;
    *)
      echo "no row for $port"
      return 1
      ;;
    esac
  done
}

# settles succeeds when a command does, sooner or later.
settles() {
  until_true "$@" >/dev/null 2>&1 || "$@"
}

# answers succeeds when a call ends with the client's greeting, sooner or later.
answers() {
  settles call "$@"
}

# reached succeeds when all three mappings let packets through.
reached() {
  answers tcp 40080 && answers udp 40090 && answers tcp 40081
}

# note_consoles notes the ports that two consoles get for the same port of theirs.
note_consoles() {
  one=$(natpmp_port 192.168.50.10 3074) two=$(natpmp_port 192.168.50.11 3074)
}

# consoles_differ fails unless the first console has its own port, and the second
# another one.
consoles_differ() {
  echo "ports $one and $two"
  [ "$one" = 3074 ] && [ "${two:-3074}" != 3074 ]
}

# consoles_play fails unless all that a console sends from its port leaves by the one
# that it was granted. Each call asks hosts at another port, which the router has seen no
# flows to.
consoles_play() {
  mirror=$((30000 + $(date +%s) % 10000))
  mirror_up && leaves 192.168.50.10 "$one" && leaves 192.168.50.11 "$two"
}

# mirror_up has a host of the Internet, at two addresses, tell who asks where the question
# comes from.
mirror_up() {
  for far in 11.22.33.1 11.22.33.2; do
    # shellcheck disable=SC2016 # socat tells the shell below who asked
    ip netns exec "$lab-wan" socat "UDP4-RECVFROM:$mirror,bind=$far,fork" SYSTEM:'echo $SOCAT_PEERADDR $SOCAT_PEERPORT' >/dev/null 2>&1 &
  done
  until_true mirrored
}

mirrored() {
  [ "$(on wan ss -Hlun "sport = $mirror" | wc -l)" = 2 ]
}

# leaves fails unless what the console at $1 sends leaves by port $2.
leaves() {
  for far in 11.22.33.1 11.22.33.2; do
    seen=$(echo who | on lan socat -t 1 - "UDP4:$far:$mirror,bind=$1:3074" 2>&1)
    echo "$far sees $1 as $seen, which has port $2"
    [ "$seen" = "$wan_address $2" ] || return 1
  done
}

# crowd makes 1000 mappings by NAT-PMP, fifty at a time. That may still be too
# fast for a small machine: what is asked again is only renewed.
crowd() {
  # shellcheck disable=SC2059 # the format is the octets
  printf "$(awk 'BEGIN {
    for (i = 1; i <= 1000; i++)
      printf "\\000\\002\\000\\000\\%03o\\%03o\\%03o\\%03o\\000\\000\\016\\020",
        int((10000 + i) / 256), (10000 + i) % 256, int((20000 + i) / 256), (20000 + i) % 256
  }')" >"$box/requests"
  tries=0
  until [ "$(crowd_size)" = 1000 ]; do
    if [ $((tries += 1)) -gt 50 ]; then
      echo "$(crowd_size) mappings"
      return 1
    fi
    for part in $(seq 0 19); do
      dd "if=$box/requests" bs=600 count=1 "skip=$part" status=none | on lan socat -u -b 12 - UDP4:192.168.50.1:5351
    done
    sleep 1
  done
}

crowd_size() {
  guest 'grep -c "^TCP:2[0-9]*:192.168.50.10:1[0-9]*:" /mnt/kd/upnp.leases'
}

# memory prints the daemon's resident memory in kB.
memory() {
  # shellcheck disable=SC2016 # the guest expands it
  guest 'sed -n "s/^VmRSS:[^0-9]*\([0-9]*\) kB/\1/p" /proc/$(cat /var/run/miniupnpd.pid)/status'
}

# confined fails if a shell or a file with secrets is in the daemon's root folder.
confined() {
  # shellcheck disable=SC2016 # the guest expands it
  guest 'root=/proc/$(cat /var/run/miniupnpd.pid)/root
    [ -d $root/usr ] && [ ! -e $root/bin/sh ] && [ ! -e $root/bin/busybox ] && [ ! -e $root/etc/shadow ] && [ ! -e $root/etc/rc.conf ]'
}

# clock prints the time of the clock $1, in seconds: right, 1970, or the distance
# from the right one in words of date.
clock() {
  case $1 in
  right) date +%s ;;
  1970) echo 0 ;;
  *) date -d "$1" +%s ;;
  esac
}

# boot_at starts the machine with the clock $1.
boot_at() {
  boot -rtc "base=$(date -u -d "@$(clock "$1")" +%Y-%m-%dT%H:%M:%S)"
}

# set_clock sets the machine's clock as a time server would.
set_clock() {
  guest "date -s @$(clock "$1")"
}

# is_clock succeeds when the machine has the clock $1, to a minute.
is_clock() {
  away=$(($(guest date +%s) - $(clock "$1")))
  echo "it is $away s ahead"
  [ "$away" -gt -60 ] && [ "$away" -lt 60 ]
}

# left prints for how many seconds TCP 40080 will be mapped: by the table and,
# if the machine's clock has been set, by the lease file. A clock before 2024 has
# not.
left() {
  # shellcheck disable=SC2016 # the guest expands it
  guest 'miniupnpctl --json list | sed -n "s/.*\"external_port\":40080,.*\"remaining_seconds\":\([0-9]*\).*/\1/p"
    now=$(date +%s)
    [ "$now" -lt 1704067200 ] || awk -F : -v "now=$now" "/^TCP:40080:/ { print \$5 - now }" /mnt/kd/upnp.leases'
}

# epochs prints the epochs that NAT-PMP and PCP tell.
epochs() {
  printf '\0\0' | on lan socat -t 10 - UDP4:192.168.50.1:5351,readbytes=12 | od -A n -t u4 --endian=big -j 4 -N 4
  {
    octets 1 2 0 0 0
    octets 4 0
    mapped_address 192.168.50.10
  } >"$box/request"
  on lan socat -t 10 - UDP4:192.168.50.1:5351,readbytes=24 <"$box/request" | od -A n -t u4 --endian=big -j 8 -N 4
}

# near succeeds when two numbers of seconds differ by up to 5.
near() {
  [ $(($1 - $2)) -ge -5 ] && [ $(($1 - $2)) -le 5 ]
}

# all_near fails unless each line of the text $2, and there is one, is a number
# that differs from $1 by up to 5.
all_near() {
  [ -n "$2" ] || return 1
  for number in $2; do
    [ $((number - $1)) -ge -5 ] && [ $((number - $1)) -le 5 ] || return 1
  done
}

# note_times notes what steady compares.
note_times() {
  noted=$(date +%s) lease=$(left | head -n 1) epoch=$(epochs | head -n 1)
}

# steady fails unless the lease of TCP 40080 and both epochs go on as they should
# after the time of note_times, whatever the clock shows.
steady() {
  passed=$(($(date +%s) - noted)) leases=$(left) epochs=$(epochs)
  echo "after $passed s the lease of $lease s has: $leases; the epoch, then $epoch, is: $epochs"
  all_near $((lease - passed)) "$leases" && all_near $((epoch + passed)) "$epochs"
}

# young fails unless both epochs have begun since the boot.
young() {
  epochs=$(epochs) up=$(guest 'cut -d . -f 1 /proc/uptime')
  echo "the machine runs for $up s, the epoch is: $epochs"
  [ -n "$epochs" ] || return 1
  for now in $epochs; do
    [ "$now" -le "$up" ] || return 1
  done
}

# restarted runs a service's script anew, which must end well.
restarted() {
  guest "service $1 restart"
}

# boot_id prints the BOOTID that a search by SSDP finds.
boot_id() {
  printf '%s\r\n' 'M-SEARCH * HTTP/1.1' 'HOST: 192.168.50.1:1900' 'MAN: "ssdp:discover"' 'ST: upnp:rootdevice' '' |
    on lan socat -t 0.5 - UDP4:192.168.50.1:1900 | tr -d '\r' | sed -n '/^BOOTID/{s/.*: *//p;q}'
}

# found succeeds when a search by SSDP finds the machine.
found() {
  boot_id | grep -q .
}

# grown fails unless the BOOTID is greater than $1.
grown() {
  id=$(boot_id)
  echo "BOOTID $id, before $1"
  [ "$id" -gt "$1" ]
}

# measure prints how large the image is.
measure() {
  title "An image for $arch:"
  figure "read-only image, without miniupnpd" "$bare" octets
  figure "Debian's miniupnpd adds" $((debians - bare)) octets
  figure "ours adds, with page and documentation" $((ours - bare)) octets
}

# cut_and_boot cuts the power $1 seconds after clients have begun to ask, with
# the seed $2, and starts the machine with the clock $3.
cut_and_boot() {
  title "A power cut after $1 s of requests, then a boot with the clock: $3"
  check 'a search by SSDP finds the machine' settles found
  id=$(boot_id)
  load_up "$2"
  sleep "$1"
  cut=$(date +%s%3N)
  cut_power
  load_down
  check 'clients of all protocols were granted ports' granted
  boot_at "$3"
  check "the clock: $3" is_clock "$3"
  [ "$3" = right ] || check 'the time comes from the Internet' set_clock right
  check 'the lease file is whole' whole
  check 'it has what was granted until then' settles survived "$cut" "$(date +%s)"
  check 'kernel, table and lease file agree' settles agreed
  check 'a new epoch has begun' young
  check 'the BOOTID of SSDP has grown' settles grown "$id"
  check 'there is no error in the log' quiet
  figure 'requests granted' "$(granted)" ''
  figure 'the oldest change that was lost, before the cut' "$(cat "$box/missing")" ms
}

# cuts prints for $1 power cuts the seconds until then, a seed and a clock.
cuts() {
  figure 'the seed of requests and power cuts' "$seed" ''
  awk -v count="$1" -v seed="$seed" 'BEGIN {
    split("1970 +10years -10years right", clock, " ")
    srand(seed)
    for (i = 0; i < count; i++)
      printf "%.3f %d %s\n", 4 + 4 * rand(), 1e6 * rand(), clock[i % 4 + 1]
  }' >"$box/cuts"
  while read -r seconds draw time <&9; do
    cut_and_boot "$seconds" "$draw" "$time"
  done 9<"$box/cuts"
}

play() {
  measure
  title 'It boots:'
  boot
  check 'the service runs' guest 'service miniupnpd status'
  check 'the status page of AstLinux would see the process' guest 'ps -o comm | grep -qx miniupnpd'
  check 'the daemon sees neither a shell nor passwords' confined
  figure "the daemon's memory, idle" "$(memory)" kB
  check 'a LAN client offers TCP 8080 and UDP 9000' serve
  check 'from the Internet, TCP 40080 is closed' silent tcp 40080

  title 'Clients ask for ports:'
  check 'NAT-PMP: TCP 40080 to port 8080' ask 40080 8080 tcp 3600
  check 'PCP: UDP 40090 to port 9000' pcp_map 40090 9000
  check 'UPnP: TCP 40081 to port 8080' upnp_map 40081 8080
  check 'from the Internet, all three reach the client' reached
  check 'the page of leases shows them' page_shows 40080 40081 40090

  title 'Two consoles use the same port:'
  note_consoles
  check 'each gets another port of the router' consoles_differ
  check 'it is the one that its packets leave by' settles consoles_play

  title 'Services restart:'
  check 'service miniupnpd restart' restarted miniupnpd
  check 'from the Internet, all three reach the client' reached
  check "the consoles' packets leave by their ports" settles consoles_play
  check 'service iptables restart' restarted iptables
  check 'from the Internet, all three reach the client' reached
  check "the consoles' packets leave by their ports" settles consoles_play

  cuts 2
  check 'from the Internet, all three reach the client' reached

  title 'The clock is set while it serves:'
  note_times
  for step in +10years right -10years right; do
    check "the clock: $step" set_clock "$step"
    check 'leases and epochs go on' settles steady
  done
  check 'from the Internet, all three reach the client' reached

  title 'The machine restarts, with a clock ten years back:'
  check '1000 more mappings' crowd
  figure "the daemon's memory, with them" "$(memory)" kB
  check 'the page of leases shows the last of them' page_shows 40080 21000
  note_saved
  check 'poweroff' guest poweroff
  check 'the machine is off' off
  off_at=$(date +%s%3N)
  boot_at -10years
  check 'the service runs' guest 'service miniupnpd status'
  check 'from the Internet, all three reach the client' reached
  check "the consoles' packets leave by their ports" settles consoles_play
  check 'the time comes from the Internet' set_clock right
  check 'it has what was granted' settles survived "$off_at" "$(date +%s)"

  title 'It shuts down:'
  check 'poweroff' guest poweroff
  check 'the machine is off' off
  check 'the disk is clean' e2fsck -f -n "$box/disk"
}

# play_cuts cuts the power $1 times.
play_cuts() {
  title 'It boots:'
  boot
  cuts "$1"
}

usage='usage: scripts/firmware.sh [--cuts N] [amd64 | arm64 | armv7]'
plan=play
if [ "$1" = --cuts ]; then
  [ "$2" -gt 0 ] 2>/dev/null || die "$usage"
  plan="play_cuts $2"
  shift 2
fi
[ $# -le 1 ] || die "$usage"
arch=${1:-amd64}
machine "$arch"
need_root
need_go
need update-ca-certificates:ca-certificates ip:iproute2 busybox:busybox natpmpc:natpmpc upnpc:miniupnpc socat:socat \
  "${qemu%% *}:$qemu_package" nbdkit:nbdkit modprobe:kmod cpio:cpio mke2fs:e2fsprogs mksquashfs:squashfs-tools
built=$("$repo/scripts/build.sh" "$arch") || exit 1
program=$repo/${built##* }
lab=igdd-fw-$arch checks=0 failed=0 seed=${SEED:-$(date +%s)}
box=$(mktemp -d) || exit 1
trap 'unwire; rm -rf "$box"' EXIT
trap 'exit 1' INT TERM
make_image || die 'cannot make the image'
wire || die 'this machine must allow network namespaces'
$plan
echo
if [ $failed -gt 0 ]; then
  title "What the machine's console said:"
  show cat "$box/boot.log"
  echo "$failed of $checks checks FAILED"
else
  echo "All $checks checks passed."
fi
[ $failed = 0 ]
