# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154 # the other parts and lab.sh set and use the variables
# The router of test-astlinux.sh, to be sourced by it: its root file system, made
# of AstLinux's skeleton and packages above this machine's programs, and how it
# is switched on and off.
#
# It is a process id, mount, host name and network namespace, and its first
# process is busybox's init, which runs AstLinux's own inittab, /etc/rc and
# runlevels. What needs the real kernel or hardware is left out:
#
#	modules, udev, clock, kernel log    programs that do nothing take their place,
#	                                    and crond's, which Debian's busybox lacks
#	partitions (/mnt/kd, unionfs)       a folder that outlives the router is /mnt/kd
#	pppd                                a program that waits; the test makes ppp0
#	/etc/rc.modules                     removed: it only loads modules and waits
#	services that are no part of the    their packages are not there, and /etc/rc
#	skeleton (dnsmasq, lighttpd, …)     passes over them, as on a smaller image;
#	                                    the web interface's PHP runs by php-cli
#
# The versions of busybox, bash, iptables and PHP are this machine's. VLANs need
# a kernel with 802.1q.

# applets are the programs that AstLinux takes from busybox, as far as its
# scripts depend on it.
applets='init reboot ash awk cut grep head hostname ipcalc killall logger ps sed sleep start-stop-daemon sysctl tail tr udhcpc usleep wc which'

# idle are the programs that do nothing: what they are for is this machine's.
idle='modprobe udevd udevadm klogd hwclock e2fsck crond'

# power_on is the router's first process: it makes the root, and becomes its init.
power_on() {
  root=$work/power/root
  router_root && exec chroot "$root" /sbin/init
}

router_root() {
  mkdir -p "$work/power" && mount -t tmpfs scratch "$work/power" &&
    mkdir "$root" "$work/power/changes" "$work/power/work" &&
    mount -t overlay -o "lowerdir=/,upperdir=$work/power/changes,workdir=$work/power/work" scratch "$root" &&
    skeleton && packages && debian_programs && busybox_programs && stand_ins && daemon_files && kernel_files
}

# skeleton copies AstLinux's target skeleton; folders that this machine's root
# has as links stay links.
skeleton() {
  tar -C "$tree/project/astlinux/target_skeleton" --exclude=./dev --exclude=./proc --exclude=./sys \
    --exclude=./tmp --exclude=./root --exclude=./home --exclude=./opt --exclude=./usr/lib -cf - . |
    tar -x --keep-directory-symlink --no-same-owner -C "$root" &&
    rm "$root/etc/rc.modules"
}

# packages installs what the recipes of iptables, arnofw, pppd and webinterface do.
packages() {
  aif=$tree/package/arnofw/aif fw=arno-iptables-firewall
  install -m 755 "$tree/package/iptables/iptables.init" "$root/etc/init.d/iptables" &&
    ln -sfn /tmp/etc/$fw "$root/etc/$fw" && install -m 755 "$aif/bin/$fw" "$root/usr/sbin/$fw" &&
    cp -R "$aif/share/$fw" "$root/usr/share/" && cp -R "$aif/etc/$fw" "$root/stat/etc/" &&
    cp "$tree/package/arnofw/arnofw.wrapper" "$root/usr/share/$fw/astlinux.shim" &&
    cp "$tree/package/arnofw/arnofw.serial" "$root/stat/etc/$fw/serial" &&
    install -m 755 "$tree"/package/pppd/pppoe/pppoe-* "$root/usr/sbin/" &&
    mkdir -p "$root/stat/var/www" "$root/usr/lib/pppd" && touch "$root/usr/lib/pppd/pppoe.so" &&
    rm -rf "$root/etc/ppp" && ln -sfn /tmp/etc/ppp "$root/etc/ppp" &&
    cp -R "$tree/package/webinterface/altweb/." "$root/stat/var/www/"
}

# debian_programs adds programs of AstLinux that this machine need not have.
debian_programs() {
  for folder in $debian; do
    tar -C "$folder" --exclude=./etc -cf - . | tar -x --keep-directory-symlink -C "$root" || return 1
  done
}

busybox_programs() {
  for applet in $applets; do
    for folder in bin sbin; do
      ln -sf "$busybox" "$root/usr/$folder/$applet" || return 1
    done
  done
  ln -sf bash "$root/usr/bin/sh"
}

# iptables_programs makes links to the programs of one back end.
iptables_programs() {
  for tool in iptables ip6tables; do
    for part in '' -save -restore; do
      ln -sf "xtables-$IPT-multi" "$root/usr/sbin/$tool$part" || return 1
    done
  done
}

# program writes the program $1 of the router; standard input is its text.
program() {
  rm -f "$root/usr/bin/$1" "$root/usr/sbin/$1"
  cat >"$root/usr/sbin/$1" && chmod 755 "$root/usr/sbin/$1"
}

# stand_ins writes the programs for what a namespace does not have.
stand_ins() {
  iptables_programs || return 1
  for name in $idle; do
    printf '#!/bin/sh\n' | program "$name" || return 1
  done
  rm -f "$root/usr/sbin/findfs"
  program blkid <<'TEXT' && program getty <<'TEXT2' && program pppd <<'TEXT3' && mount_program && syslogd_program
#!/bin/sh
echo '/dev/sda2: LABEL="ASTURW" UUID="3d3cec3a-8cf0-11e0-98ee-001a6bd2d07b" TYPE="ext4"'
TEXT
#!/bin/sh
# Init starts this when /etc/rc has ended.
touch /tmp/booted
exec sleep 1000000
TEXT2
#!/bin/bash
(exec -a "pppd $*" sleep 1000000) >/dev/null 2>&1 &
TEXT3
}

# mount_program passes over what kernel_files has mounted already.
mount_program() {
  mv "$root/usr/bin/mount" "$root/usr/bin/mount.real" &&
    program mount <<'TEXT'
#!/bin/sh
case "$*" in
'-t proc '* | '-t sysfs '*) exit 0 ;;
esac
exec /usr/bin/mount.real "$@"
TEXT
}

# syslogd_program leaves out the rotation of logs, which Debian's busybox lacks.
syslogd_program() {
  program syslogd <<TEXT
#!/bin/sh
exec $busybox syslogd
TEXT
}

# daemon_files installs igdd's program, and its files or AstLinux's own script
# as the recipe of miniupnpd does.
daemon_files() {
  install -m 755 "$daemon" "$root/usr/sbin/miniupnpd" && ln -sfn miniupnpd "$root/usr/sbin/miniupnpctl" || return 1
  if [ "$script" = igdd ]; then
    cp -dR "$repo/rootfs-overlay/." "$root"
    return
  fi
  install -m 755 "$tree/package/miniupnpd/miniupnpd.init" "$root/etc/init.d/miniupnpd" &&
    ln -sf /tmp/etc/miniupnpd.conf "$root/etc/miniupnpd.conf" &&
    ln -sf ../../init.d/miniupnpd "$root/etc/runlevels/default/S54miniupnpd" &&
    ln -sf ../../init.d/miniupnpd "$root/etc/runlevels/default/K09miniupnpd"
}

# kernel_files mounts what the kernel gives: of its settings, those of this
# network namespace alone can be written.
kernel_files() {
  for folder in dev run tmp root; do
    mount -t tmpfs scratch "$root/$folder" || return 1
  done
  mount --bind "$work/kd" "$root/mnt/kd" &&
    mount -t proc proc "$root/proc" && mount --bind "$root/proc/sys" "$root/proc/sys" &&
    mount -o remount,bind,ro "$root/proc/sys" && mount --bind /proc/sys/net "$root/proc/sys/net" &&
    { [ ! -e "$root/proc/sysrq-trigger" ] || mount --bind /dev/null "$root/proc/sysrq-trigger"; } &&
    echo 'astimg=astlinux.run astlinux=genx86_64-vm' >"$work/power/cmdline" &&
    mount --bind "$work/power/cmdline" "$root/proc/cmdline" &&
    mount --rbind /sys "$root/sys" && device_files
}

device_files() {
  mknod -m 666 "$root/dev/null" c 1 3 && mknod -m 666 "$root/dev/zero" c 1 5 &&
    mknod -m 666 "$root/dev/random" c 1 8 && mknod -m 666 "$root/dev/urandom" c 1 9 &&
    mknod -m 666 "$root/dev/ptmx" c 5 2 && mknod -m 666 "$root/dev/tty" c 5 0 &&
    ln -s /proc/self/fd "$root/dev/fd" &&
    touch "$root/dev/console" && mount --bind "$work/console" "$root/dev/console"
}

# router runs a command on the router, for two minutes at most.
router() {
  nsenter --target "$router_pid" --net --mount --uts --pid --root --wd \
    env -i PATH=/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin \
    timeout -k 5 120 "$@" </dev/null
}

# boot switches the router on, and waits for the end of /etc/rc. The provider
# leases it address $1, or does not serve DHCP.
boot() {
  ip netns add "$lab-router" && ip -n "$lab-router" link set lo up && links_up || return 1
  [ -z "$1" ] || dhcp_up "$1"
  ip netns exec "$lab-router" unshare --mount --uts --pid --fork --kill-child \
    "$0" power "$box" "$script" "$tree" "$daemon" >"$work/power.log" 2>&1 &
  power=$!
  within 10 first_process && within 120 booted
}

first_process() {
  router_pid=$(pgrep -P "$power") && [ "$(cat "/proc/$router_pid/comm")" = init ]
}

booted() {
  [ -e "/proc/$router_pid/root/tmp/booted" ]
}

# shut_down has init run AstLinux's shutdown, as for a reboot, and waits until
# nothing of the router is left. It fails if that takes too long.
shut_down() {
  dhcp_down
  router reboot
  clean=0
  within 60 has_ended "$power" || { clean=1 && kill -s KILL "$router_pid"; }
  wait "$power" 2>/dev/null
  ip netns delete "$lab-router"
  return $clean
}

# has_ended succeeds when process $1 is no more than a number.
has_ended() {
  ! grep -qs '^State:[[:space:]]*[A-Y]' "/proc/$1/status"
}
