#!/bin/sh
#
# Boots a small firmware image with the program and the files of rootfs-overlay,
# in the way of AstLinux, and does there what a user would: its LAN and its WAN
# are network namespaces with real clients and packets in them. The processor is
# emulated, this machine's network and files are not touched.
#
#	scripts/firmware.sh [amd64 | arm64 | armv7]

. "$(dirname "$0")/lab.sh"
. "$repo/scripts/firmware/image.sh"
. "$repo/scripts/firmware/machine.sh"

# make_image makes what the machine boots, and measures it.
make_image() {
  tree=$(debian_root) || die "cannot get Debian's packages"
  make_root "$tree" "$box/root" || die 'cannot make the root file system'
  bare=$(squashed "$box/root")
  install -m 755 "$tree/usr/sbin/miniupnpd" "$box/root/usr/sbin"
  debians=$(squashed "$box/root")
  install_ours "$box/root" "$program"
  ours=$(squashed "$box/root")
  pack "$box/root" "$box/initrd" && cp "$tree"/boot/vmlinuz-* "$box/kernel" && make_disk "$box/disk"
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
  answer=$(on lan socat -t 10 - UDP4:192.168.50.1:5351,readbytes=60 <"$box/request" | od -A n -v -t x1 -w60 | tr -d ' ')
  echo "$answer"
  [ "$(echo "$answer" | cut -c 1-8,85-88)" = "02810000$(printf %04x "$1")" ]
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

# answers succeeds when a call ends with the client's greeting, sooner or later.
answers() {
  until_true call "$@" >/dev/null 2>&1 || call "$@"
}

# reached succeeds when all three mappings let packets through.
reached() {
  answers tcp 40080 && answers udp 40090 && answers tcp 40081
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

# expiry prints the time at which the lease of TCP 40080 ends.
expiry() {
  guest 'sed -n "s/^TCP:40080:[^:]*:[^:]*:\([0-9]*\):.*/\1/p" /mnt/kd/upnp.leases'
}

# kept succeeds when the lease of TCP 40080 ends no sooner than it should, and
# within its hour: a machine without a clock cannot know how long it was off.
kept() {
  now=$(expiry)
  echo "it ends at $now, should at $ends"
  [ "$now" -ge $((ends - 60)) ] && [ "$now" -le $(($(date +%s) + 3600)) ]
}

# restarted runs a service's script anew, which must end well.
restarted() {
  guest "service $1 restart"
}

# rebooted restarts the machine by its own means.
rebooted() {
  guest reboot
  await
}

play() {
  title "An image for $arch:"
  figure "read-only image, without miniupnpd" "$bare" octets
  figure "Debian's miniupnpd adds" $((debians - bare)) octets
  figure "ours adds, with page and documentation" $((ours - bare)) octets
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

  title 'Services restart:'
  check 'service miniupnpd restart' restarted miniupnpd
  check 'from the Internet, all three reach the client' reached
  check 'service iptables restart' restarted iptables
  check 'from the Internet, all three reach the client' reached
  check '1000 more mappings' crowd
  figure "the daemon's memory, with them" "$(memory)" kB
  check 'the page of leases shows the last of them' page_shows 40080 21000

  title 'The machine restarts:'
  start=$(date +%s)
  check 'reboot' rebooted
  figure 'by the clock on the wall' $(($(date +%s) - start)) s
  check 'the service runs' guest 'service miniupnpd status'
  check 'from the Internet, all three reach the client' reached
  check 'UPnP: a mapping two seconds before a power cut' upnp_map 40082 8080
  ends=$(expiry)
  # A lease is on the disk UPNP_SAVE_DELAY after the answer.
  guest sleep 2
  cut_power
  title 'After a power cut, without a clock:'
  boot -rtc base=1970-01-01T00:00:00
  check 'it is 1970' guest "date | grep 1970"
  check 'from the Internet, all three reach the client' reached
  check 'and so does the newest one' answers tcp 40082
  check 'the time comes from the Internet' guest "date -s @$(date +%s)"
  check 'from the Internet, all three reach the client' reached
  check 'the lease ends when it would have' kept

  title 'It shuts down:'
  check 'poweroff' guest poweroff
  check 'the machine is off' off
  check 'the disk is clean' e2fsck -f -n "$box/disk"
}

case $#:$1 in
0:) arch=amd64 ;;
1:*) arch=$1 ;;
*) die 'usage: scripts/firmware.sh [amd64 | arm64 | armv7]' ;;
esac
machine "$arch"
need_root
need_go
need update-ca-certificates:ca-certificates ip:iproute2 busybox:busybox natpmpc:natpmpc upnpc:miniupnpc socat:socat \
  "${qemu%% *}:$qemu_package" nbdkit:nbdkit modprobe:kmod cpio:cpio mke2fs:e2fsprogs mksquashfs:squashfs-tools
built=$("$repo/scripts/build.sh" "$arch") || exit 1
program=$repo/${built##* }
lab=igdd-fw-$arch checks=0 failed=0
box=$(mktemp -d) || exit 1
trap 'unwire; rm -rf "$box"' EXIT
trap 'exit 1' INT TERM
make_image || die 'cannot make the image'
wire || die 'this machine must allow network namespaces'
play
echo
if [ $failed -gt 0 ]; then
  title "What the machine's console said:"
  show cat "$box/boot.log"
  echo "$failed of $checks checks FAILED"
else
  echo "All $checks checks passed."
fi
[ $failed = 0 ]
