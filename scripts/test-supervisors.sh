#!/bin/sh
#
# Tries what starts miniupnpd again when it has been killed: monit, busybox init and
# systemd, each as the first process of a router in namespaces, or on one, with its
# file in rootfs-overlay/usr/share/doc/igdd. Clients map ports by NAT-PMP, PCP and
# UPnP. Then the daemon, its helper process or both are killed, and it prints after
# how many seconds the service is back.
#
#	scripts/test-supervisors.sh [TREE]
#
# TREE is a copy of AstLinux's source tree: with it, monit is tried as AstLinux runs
# it, once with AstLinux's own init script of miniupnpd.
#
# The environment may name the SUPERVISORS to try: monit, monit-astlinux, init, systemd.
#
# It needs root, and leaves the machine's own network and files alone. For systemd it
# makes a control group, and removes it again.

. "$(dirname "$0")/lab.sh"

patience=60 # seconds; they end only what hangs
documents=$repo/rootfs-overlay/usr/share/doc/igdd
ports='40080 40081 40090'

# The router.

# router_root makes the root of a router whose supervisor is $1 in folder $2.
router_root() {
  scratch_root "$2" "$3" && sysctls && devices && settings "$1" || return 1
  install -m 755 /dev/stdin "$root/usr/local/sbin/told" <<'END'
#!/bin/sh
echo "$UPNP_EVENT $UPNP_EXTERNAL_PORT" >>/run/told
END
  for tool in iptables ip6tables; do
    for part in '' -save -restore; do
      ln -sf xtables-legacy-multi "$root/usr/sbin/$tool$part" || return 1
    done
  done
  case $1 in
  systemd) units ;;
  monit*) inittab </dev/null && monit "$1" ;;
  init) inittab <"$documents/inittab" ;;
  esac
}

# sysctls hides from a supervisor what is not the router's alone.
sysctls() {
  mount -t sysfs -o ro sysfs "$root/sys" && mount -o bind,ro "$root/proc/sys" "$root/proc/sys"
}

devices() {
  mknod -m 666 "$root/dev/zero" c 1 5 && mknod -m 666 "$root/dev/full" c 1 7 &&
    mknod -m 666 "$root/dev/random" c 1 8 && mknod -m 666 "$root/dev/tty" c 5 0
}

# settings writes rc.conf. Under systemd, leases have another folder, and the daemon
# another /tmp.
settings() {
  conf=$root/tmp/etc/rc.conf
  if [ "$1" = systemd ]; then
    rm "$root/etc/rc.conf"
    conf=$root/etc/rc.conf
  fi
  cat >"$conf" <<'END'
EXTIF="eth0"
INTIF="eth1"
INTIP="192.168.50.1"
INTNM="255.255.255.0"
UUID="5d0a8a3c-6f0b-4d53-9f83-2f1f6b1c4c70"
UPNP_LISTEN="INTIF"
UPNP_ENABLE_NATPMP="yes"
UPNP_ENABLE_UPNP="yes"
UPNP_NOTIFY_CMD="/usr/local/sbin/told"
MONIT_SERVER="yes"
MONIT_CHECK_INTERVAL="3"
END
  [ "$1" != systemd ] || echo 'UPNP_LEASE_FILE="/var/lib/miniupnpd/upnp.leases"' >>"$conf"
}

# inittab writes that of the router: a syslogd, and what standard input adds.
inittab() {
  {
    echo '::respawn:/bin/busybox syslogd -n -O /var/log/messages'
    cat
  } >"$root/etc/inittab"
}

# units gives systemd the unit of miniupnpd and those that it needs, and no others of
# this machine.
units() {
  mkdir "$root/etc/units" && cp "$documents/igdd.service" "$root/etc/units" || return 1
  for unit in basic.target sysinit.target network.target shutdown.target sockets.target \
    systemd-journald.service systemd-journald.socket systemd-journald-dev-log.socket; do
    cp "/lib/systemd/system/$unit" "$root/etc/units" || return 1
  done
  mkdir "$root/etc/units/basic.target.wants" &&
    ln -s ../igdd.service ../systemd-journald.service "$root/etc/units/basic.target.wants" &&
    rm -rf "$root/var/log/journal" && mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
}

# monit installs Debian's monit with the stanza for miniupnpd.
monit() {
  folder=$("$repo/scripts/debian.sh" monit) && install -m 755 "$folder/usr/bin/monit" "$root/usr/sbin/monit" &&
    mkdir -p "$root/mnt/kd/monit/monit.d" && cp "$documents/monit.conf" "$root/mnt/kd/monit/monit.d/miniupnpd.conf" &&
    rm -rf "$root/etc/monit" && ln -s /tmp/etc/monit "$root/etc/monit" || return 1
  if [ -z "$tree" ]; then
    mkdir "$root/tmp/etc/monit" && install -m 600 /dev/stdin "$root/tmp/etc/monit/monitrc" <<'END'
set daemon 3
set idfile /mnt/kd/monit/monit.id
set httpd port 2812 address 127.0.0.1 allow 127.0.0.1
include /mnt/kd/monit/monit.d/*.conf
END
    return
  fi
  ln -sf bash "$root/usr/bin/sh" && echo astlinux-test >"$root/etc/astlinux-release" &&
    ln -sf "$(command -v busybox)" "$root/usr/bin/ipcalc" &&
    install -m 755 "$tree/package/monit/monit.init" "$root/etc/init.d/monit" || return 1
  [ "$1" != monit-astlinux ] || install -m 755 "$tree/package/miniupnpd/miniupnpd.init" "$root/etc/init.d/miniupnpd"
}

# boot becomes the first process of the router, whose firewall is there before.
boot() {
  router_root "$1" "$2" "$3" || exit 1
  router() { chroot "$root" "$@"; }
  router_firewall || exit 1
  case $1 in
  systemd) set -- env container=igdd SYSTEMD_UNIT_PATH=/etc/units SYSTEMD_GENERATOR_PATH=/nonexistent \
    setpriv --bounding-set -sys_time,-sys_module,-sys_boot,-syslog /lib/systemd/systemd --unit=basic.target ;;
  *) set -- busybox init ;;
  esac
  exec chroot "$root" "$@" </dev/null >"$box/console" 2>&1
}

# power_on boots the router.
power_on() {
  lab_links && mkdir "$box/router" || return 1
  in_group ip netns exec igdd-gw unshare --mount --uts --pid --cgroup --fork --kill-child "$0" boot "$box" "$daemon" "$tree" "$supervisor" 2>/dev/null &
  machine=$!
  eventually booted || return 1
  case $supervisor in
  monit*) router /etc/init.d/miniupnpd init && monit_start ;;
  esac
}

# in_group runs a command in a control group of its own, which systemd needs.
in_group() {
  # shellcheck disable=SC2016 # the inner shell expands it
  exec sh -c '[ -z "$0" ] || echo 0 >"$0/cgroup.procs"; exec "$@"' "$group" "$@"
}

booted() {
  router_pid=$(cat "/proc/$machine/task/$machine/children") && router_pid=${router_pid%% *}
  case $supervisor in
  systemd) router systemctl is-active miniupnpd basic.target | grep -q '^active' ;;
  *) [ -S "/proc/$router_pid/root/dev/log" ] ;;
  esac
}

power_off() {
  kill -9 "$router_pid"
  wait "$machine" 2>/dev/null
  umount "$box/router" 2>/dev/null
  rmdir "$box/router" && ip -all netns delete
}

monit_start() {
  if [ -n "$tree" ]; then
    router /etc/init.d/monit init
  else
    router monit -c /etc/monit/monitrc -p /var/run/monit.pid -s /var/db/monit.state
  fi
}

# stop stops the service as its administrator does.
stop() {
  case $supervisor in
  monit*) router monit -c /etc/monit/monitrc stop miniupnpd ;;
  init)
    router sed -i /miniupnpd/d /etc/inittab && router kill -HUP 1 && router /etc/init.d/miniupnpd stop
    ;;
  systemd) router systemctl stop igdd ;;
  esac
}

# restart restarts the service as its administrator does.
restart() {
  case $supervisor in
  monit) router monit -c /etc/monit/monitrc restart miniupnpd ;;
  systemd) router systemctl restart igdd ;;
  esac
}

# start starts it again after a stop, or with other settings.
start() {
  case $supervisor in
  monit*) router monit -c /etc/monit/monitrc start miniupnpd ;;
  init) router sh -c 'cat >>/etc/inittab && kill -HUP 1' <"$documents/inittab" ;;
  systemd) router systemctl start igdd ;;
  esac
}

# log prints what the daemon has logged.
log() {
  case $supervisor in
  systemd) router journalctl -q -t miniupnpd ;;
  *) router cat /var/log/messages ;;
  esac
}

# The service.

# hundredths prints the time in hundredths of a second.
hundredths() {
  read -r uptime _ </proc/uptime
  echo "${uptime%.*}${uptime#*.}"
}

# eventually waits for a command to succeed.
eventually() {
  deadline=$(($(hundredths) + patience * 100))
  until "$@" >/dev/null 2>&1; do
    [ "$(hundredths)" -lt $deadline ] || return 1
    sleep 0.05
  done
}

daemon_pid() { cat "/proc/$router_pid/root/run/miniupnpd.pid" 2>/dev/null; }
helper_pid() { router pgrep -x igdd-helper; }
answers() { on lan timeout 1 natpmpc; }
epoch() { answers | sed -n 's/^epoch = //p'; }

# is_new succeeds when another daemon than process $1 answers, with a helper.
is_new() {
  pid=$(daemon_pid) && [ "$pid" != "$1" ] && answers >/dev/null && [ -n "$(helper_pid)" ]
}

# killed kills $1, which is daemon, helper or both, waits until the service is back,
# and keeps how long that took if it is the longest time.
killed() {
  old=$(daemon_pid) began=$(hundredths)
  case $1 in
  daemon) router kill -9 "$old" ;;
  helper) router kill -9 "$(helper_pid)" ;;
  both) router kill -9 "$old" "$(helper_pid)" ;;
  esac
  eventually is_new "$old" || return 1
  took=$(($(hundredths) - began))
  [ "$took" -le "$(cat "$box/longest")" ] || echo "$took" >"$box/longest"
}

# back checks that the service comes back each time when $1 is killed $2 times, and
# prints how long that took at most.
back() {
  echo 0 >"$box/longest"
  check "killed $2 times: $1" repeat "$2" killed "$1"
  longest=$(cat "$box/longest")
  printf '      %-58s %4d.%02d s\n' 'back after, at most' $((longest / 100)) $((longest % 100))
}

# repeat runs a command $1 times.
repeat() {
  left=$1
  shift
  while [ $((left -= 1)) -ge 0 ]; do
    "$@" || return 1
  done
}

upnp_map() {
  on lan timeout $patience upnpc -e test -a 192.168.50.10 "$2" "$1" tcp 3600 | grep 'is redirected to'
}

# reached succeeds when all three mappings let packets through.
reached() { eventually call tcp 40080 && eventually call udp 40090 && eventually call tcp 40081; }

kernel() { router iptables-save -t nat | sed -n 's/^-A MINIUPNPD .*--dport \([0-9]*\) .*/\1/p' | sort; }
table() { router miniupnpctl list | awk 'NR > 1 { print $2 }' | sort; }
file() { router sh -c 'sed -n "s/^[A-Z]*:\([0-9]*\):.*/\1/p" /mnt/kd/upnp.leases /var/lib/miniupnpd/upnp.leases 2>/dev/null' | sort; }

# agreed succeeds when kernel, table and lease file have these ports and no others.
agreed() {
  want=$(echo "$ports" | tr ' ' '\n')
  for view in kernel table file; do
    got=$($view)
    [ "$got" = "$want" ] && continue
    echo "the $view has: $(echo "$got" | tr '\n' ' ')"
    return 1
  done
}

# kept succeeds when nothing is lost.
kept() { reached && settled; }

# settled is agreed, sooner or later.
settled() {
  eventually agreed || agreed
}

# goes_on succeeds when the epoch is as old as at $1 hundredths, when it was $2.
goes_on() {
  passed=$((($(hundredths) - $1) / 100)) now=$(epoch)
  echo "the epoch was $2, and is $now after $passed s"
  [ "$now" -ge $(($2 + passed - 2)) ] && [ "$now" -le $(($2 + passed + 2)) ]
}

# packets prints the counter of the rule for TCP 40080, which begins anew if the rule
# is made anew.
packets() { router iptables-save -c -t nat | sed -n 's/^\[\([0-9]*\):.*--dport 40080 .*/\1/p'; }

# restarted succeeds when the rules are left in place during a restart.
restarted() {
  reached || return 1
  old=$(daemon_pid) before=$(packets)
  restart && eventually is_new "$old" || return 1
  after=$(packets)
  echo "the rule counted $before packets before, $after after it"
  [ "$before" -gt 0 ] && [ "$after" -ge "$before" ]
}

# supervisor_pid prints the process that starts the daemon.
supervisor_pid() {
  case $supervisor in
  monit*) router pgrep -x monit ;;
  *) echo 1 ;;
  esac
}

# ended_meanwhile kills the daemon while its supervisor is suspended, until a short
# lease has ended.
ended_meanwhile() {
  ask 40099 8081 tcp 3 >/dev/null && eventually has_short || return 1
  signal_supervisor STOP && router kill -9 "$(daemon_pid)" && sleep 4
  old=$(daemon_pid) left=$(kernel)
  signal_supervisor CONT
  case $left in
  *40099*) ;;
  *) return 1 ;;
  esac
  eventually is_new "$old" && settled
}

has_short() { file | grep -q 40099; }

# signal_supervisor sends the supervisor a signal. That of the first process comes from outside.
signal_supervisor() {
  case $supervisor in
  monit*) router kill "-$1" "$(supervisor_pid)" ;;
  *) kill "-$1" "$router_pid" ;;
  esac
}

# edit changes the uplink in the settings to $1.
edit() {
  router sh -c "sed -i --follow-symlinks 's/^EXTIF=.*/EXTIF=\"$1\"/' /etc/rc.conf
    [ ! -f /tmp/etc/miniupnpd.conf ] || sed -i 's/^ext_ifname=.*/ext_ifname=$1/' /tmp/etc/miniupnpd.conf"
}

# is_closed succeeds when no rule of the daemon's is left, and no jump.
is_closed() { [ -z "$(kernel)" ] && ! router iptables-save | grep -q -e '-j MINIUPNPD'; }

starts() { log | grep -c 'cannot start'; }

# patient succeeds when the daemon is not started over and over with settings that
# are invalid: in ten seconds, more than one start in a second is too many.
patient() {
  edit '' && router kill -9 "$(daemon_pid)" && eventually is_closed || return 1
  before=$(starts)
  sleep 10
  tries=$(($(starts) - before))
  echo $tries >"$box/tries"
  [ $tries -le 10 ]
}

# stopped succeeds when no daemon is started for ten seconds, and nothing is open.
stopped() {
  eventually is_closed || return 1
  sleep 10
  is_closed && ! router pgrep -x miniupnpd
}

serves() { eventually is_new none; }

# is_confined succeeds when the daemon has found nothing that its sandbox lacks.
is_confined() { ! log | grep 'sees files'; }

life() {
  check 'it boots, and the service answers' serves
  check 'the daemon has its own root folder' is_confined
  check 'NAT-PMP: TCP 40080 to port 8080' ask 40080 8080 tcp 3600
  check 'PCP: UDP 40090 to port 9000' pcp_map 40090 9000
  check 'UPnP: TCP 40081 to port 8080' upnp_map 40081 8080
  # The settings that AstLinux's own script writes name no such program.
  [ "$supervisor" = monit-astlinux ] ||
    check 'the notification program runs' eventually router grep -q 'opened 40081' /run/told
  check 'from the Internet, all three reach the client' kept
  at=$(hundredths) was=$(epoch)
  for case in 'daemon 1' 'helper 1' 'both 1' 'daemon 10'; do
    back "${case% *}" "${case#* }"
    check 'nothing is lost' kept
  done
  check 'a lease that ends meanwhile is closed' ended_meanwhile
  case $supervisor in
  monit | systemd) check 'restarted: the ports stay open' restarted ;;
  esac
  check 'the epoch goes on' goes_on "$at" "$was"
  check 'invalid settings: closed, and no hot loop' patient
  printf '      %-58s %4d\n' 'starts in ten seconds' "$(cat "$box/tries")"
  edit eth0
  [ "$supervisor" = init ] || start >/dev/null 2>&1
  check 'valid settings: nothing is lost' kept
  check 'it is stopped' stop
  check 'it stays stopped, and nothing is open' stopped
  start
  check 'it is started again: nothing is lost' kept
}

# inside runs in mount and process namespaces of its own, which end with it.
inside() {
  mount -t tmpfs scratch "$box" && mkdir -p /run/netns && mount -t tmpfs names /run/netns || exit 1
  checks=0 failed=0
  for supervisor in $supervisors; do
    title "$supervisor:"
    power_on || die 'cannot make the router: this machine must allow namespaces and mounts'
    serve
    life
    power_off
  done
  echo
  echo "$((checks - failed)) of $checks checks passed."
  [ $failed = 0 ]
}

# outside builds the daemon and runs the test inside.
outside() {
  need_root
  need_go
  need update-ca-certificates:ca-certificates ip:iproute2 iptables:iptables busybox:busybox bash:bash socat:socat \
    natpmpc:natpmpc upnpc:miniupnpc pgrep:procps setpriv:util-linux /lib/systemd/systemd:systemd
  "$repo/scripts/debian.sh" monit >/dev/null || exit 1
  box=$(mktemp -d) && mkdir "$box/work" || exit 1
  run=
  trap 'remove_group; rm -rf "$box"' EXIT
  trap interrupted INT TERM HUP
  (cd "$repo" && CGO_ENABLED=0 go build -o "$box/miniupnpd" ./cmd/miniupnpd) || die 'cannot build the daemon'
  make_group
  unshare --mount --pid --fork --kill-child --mount-proc "$0" inside "$box/work" "$box/miniupnpd" "$tree" "$group" &
  run=$!
  wait $run
}

# interrupted ends the test: unshare ignores signals, so what it started is killed.
interrupted() {
  [ -z "$run" ] || { pkill -KILL -P "$run" && wait "$run"; }
  exit 1
}

# make_group makes the control group of systemd.
make_group() {
  group=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
  [ -n "$group" ] || die 'needs a cgroup2 file system, for systemd'
  group=$group/igdd-test-$$
  mkdir "$group" || die "cannot make a control group: $group"
}

remove_group() {
  [ ! -d "$group" ] || find "$group" -depth -type d -exec rmdir {} +
}

case $1 in
inside | boot)
  # What the outer call found out: the folder to work in, the daemon, AstLinux's
  # tree if there is one, the control group, or the supervisor.
  mode=$1 box=$2 daemon=$3 tree=$4
  ;;
*)
  mode=outside tree=
  case $#:$1 in
  0:) ;;
  1:*)
    tree=$(cd "$1" && pwd) || exit 1
    [ -d "$tree/package/monit" ] || die "$1 is no tree of AstLinux"
    ;;
  *) die 'usage: scripts/test-supervisors.sh [TREE]' ;;
  esac
  ;;
esac
supervisors=${SUPERVISORS:-monit${tree:+ monit-astlinux} init systemd}
case $mode in
inside) group=$5 && inside ;;
boot) boot "$5" "$box/router" "$daemon" ;;
outside) outside ;;
esac
