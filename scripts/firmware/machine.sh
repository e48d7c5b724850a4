# shellcheck shell=sh
# The machine that firmware.sh and bench.sh boot, to be sourced by them: qemu with
# its LAN and its WAN in network namespaces, and a console to run commands on. $box
# is its folder.
# shellcheck disable=SC2154 # the script and image.sh set $box, $lab, $qemu and $console

# The console and the programs on it are slow where others use the processor:
# these seconds end only what hangs.
patience=600

# wire makes the namespaces: $lab-box for the machine, $lab-lan and $lab-wan for
# a client and a host on the Internet.
wire() {
  unwire
  for side in box lan wan; do
    ip netns add "$lab-$side" && on $side ip link set lo up || return 1
  done
}

unwire() {
  for side in box lan wan; do
    [ -e "/run/netns/$lab-$side" ] || continue
    ip netns pids "$lab-$side" | xargs -r kill 2>/dev/null
    ip netns delete "$lab-$side"
  done
}

# plug moves the machine's two interfaces to their sides and sets up these. The
# interfaces live as long as qemu.
plug() {
  for side in lan wan; do
    until_true on box ip link show $side >/dev/null 2>&1 && on box ip link set $side netns "$lab-$side" name eth0 || return 1
  done
  on lan ip address add 192.168.50.10/24 dev eth0 &&
    on lan ip address add 192.168.50.11/24 dev eth0 &&
    on lan ip link set eth0 up &&
    on lan ip route add default via 192.168.50.1 &&
    on wan ip address add 11.22.33.1/24 dev eth0 &&
    on wan ip address add 11.22.33.2/24 dev eth0 &&
    on wan ip link set eth0 up
}

# disk_on starts the disk, in the machine's namespace, which ends with qemu. What
# was written stays in its cache until the machine flushes it, as in a real disk.
disk_on() {
  rm -f "$box/disk.socket"
  ip netns exec "$lab-box" nbdkit --foreground --unix "$box/disk.socket" --filter=exitlast --filter=cache file "$box/disk" \
    cache=writeback cache-min-block-size=4K >"$box/disk.log" 2>&1 &
  disk_pid=$!
  until_true [ -S "$box/disk.socket" ]
}

# power_on starts the machine, with further arguments for qemu, and waits until
# it has booted. The kernel must not judge the timer by how fast it ticks: that
# depends on what else this machine does.
power_on() {
  rm -f "$box/console" "$box/in" "$box/out"
  disk_on || return 1
  # shellcheck disable=SC2086 # $qemu is a command with arguments
  ip netns exec "$lab-box" $qemu -accel tcg -m 128 -nographic -nodefaults -no-user-config \
    -kernel "$box/kernel" -initrd "$box/initrd" -append "console=$console quiet panic=-1 no_timer_check" \
    -serial "file:$box/boot.log" \
    -netdev tap,id=wan,ifname=wan,script=no,downscript=no -device virtio-net-pci,romfile=,netdev=wan \
    -netdev tap,id=lan,ifname=lan,script=no,downscript=no -device virtio-net-pci,romfile=,netdev=lan,mac=52:54:00:00:00:02 \
    -drive "file=nbd:unix:$box/disk.socket,if=none,id=kd,format=raw,cache=writeback" -device virtio-blk-pci,drive=kd \
    -device virtio-rng-pci -device virtio-serial-pci -device virtconsole,chardev=console \
    -chardev "socket,id=console,path=$box/console,server=on,wait=off" "$@" >"$box/qemu.log" 2>&1 &
  machine_pid=$!
  until_true [ -S "$box/console" ] && attach && plug && await
}

# attach opens the console as the descriptors 7, to write, and 8, to read.
attach() {
  mkfifo "$box/in" "$box/out" || return 1
  socat "UNIX-CONNECT:$box/console" STDIO <"$box/in" >"$box/out" &
  exec 7>"$box/in" 8<"$box/out"
}

# await waits until the machine has booted, and prints the seconds that its
# kernel counts by then.
await() {
  timeout $patience sed -u -n '/^@@READY /{s///p;q}' <&8 | grep .
}

# guest runs a command on the machine: its output, its exit status.
guest() {
  printf '%s' "$*" | base64 -w 0 >&7
  echo >&7
  answer=$(timeout $patience sed -u '/^@@EXIT /q' <&8)
  case $answer in
  *'@@EXIT '*) ;;
  *) die "the machine does not answer: $*: $answer" ;;
  esac
  printf '%s' "${answer%@@EXIT *}"
  return "${answer##*@@EXIT }"
}

# off waits for the end of the machine, whose process has no executable then.
off() {
  seconds=0
  while [ -e "/proc/$machine_pid/exe" ]; do
    [ $((seconds += 1)) -le $patience ] || return 1
    sleep 1
  done
}

# cut_power ends the machine and its disk without warning. What the machine had
# not written is lost, and so is what it had not flushed to the disk.
cut_power() {
  kill -9 "$disk_pid" "$machine_pid"
  wait "$disk_pid" "$machine_pid" 2>/dev/null
  exec 7>&- 8<&-
}
