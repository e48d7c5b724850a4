#!/bin/sh
#
# Tests the init script under every shell that runs it somewhere: each verb in
# a scratch root, with a stand-in for the daemon, and then what the daemon
# itself leaves in the firewall. Prints only what is wrong.

. "$(dirname "$0")/lab.sh"

# stand_in prints a program that behaves like the daemon as far as the script
# can see. /tmp/fault in the root makes it fail with that text; /tmp/deaf makes
# it ignore signals; it takes the seconds in /tmp/slow to stop, and tells by
# which signal in /tmp/signal.
stand_in() {
  cat <<'END'
#!/bin/sh
echo "$*" >>/tmp/calls
if [ -f /tmp/fault ]; then
  cat /tmp/fault >&2
  exit 1
fi
end() {
  kill $!
  [ ! -f /tmp/slow ] || sleep "$(cat /tmp/slow)"
  rm /var/run/miniupnpd.pid
  exit
}
{
  for signal in TERM USR2; do
    trap "echo $signal >/tmp/signal; end" $signal
  done
  [ ! -f /tmp/deaf ] || trap '' TERM USR2
  while :; do sleep 60 & wait; done
} >/dev/null 2>&1 &
echo $! >/var/run/miniupnpd.pid
END
}

# complain counts what is wrong, and says it.
complain() {
  wrong=$((wrong + 1))
  printf '%s: %s: %s\n' "$shell" "$case" "$1"
}

# expect runs the script with the verb $3 and compares its exit code with $1
# and what it prints with $2.
expect() {
  # shellcheck disable=SC2086 # "busybox ash" is two words, no verb is none
  got=$(chroot "$root" $shell /etc/init.d/miniupnpd $3 2>&1)
  code=$?
  [ "$code" = "$1" ] || complain "$3: exit $code, want $1"
  [ "$got" = "$2" ] || complain "$3: printed '$got', want '$2'"
}

# holds complains unless the command after the text $1 succeeds.
holds() {
  text=$1
  shift
  "$@" || complain "not so: $text"
}

# fresh starts the case called $1 with nothing started and the settings that
# standard input adds to those of a router with one LAN.
fresh() {
  case=$1
  rm -f "$root"/tmp/calls "$root"/tmp/fault "$root"/tmp/slow "$root"/tmp/deaf \
    "$root"/var/db/upnp.leases "$root"/mnt/kd/upnp.leases "$root"/run/miniupnpd.pid
  {
    echo 'EXTIF=eth0 INTIF=eth1 INTIP=192.168.50.1 INTNM=255.255.255.0'
    cat
  } >"$root/tmp/etc/rc.conf"
}

enabled='UPNP_ENABLE_NATPMP="yes" UPNP_LISTEN="INTIF"'
starting='Starting miniupnpd...'
stopping='Stopping miniupnpd...'
pidfile() { cat "$root/run/miniupnpd.pid"; }
signal() { cat "$root/tmp/signal"; }
running() { [ "$(cat "/proc/$1/comm" 2>/dev/null)" = "${2:-miniupnpd}" ] && [ -e "/proc/$1/exe" ]; }

test_usage() {
  fresh usage </dev/null
  for verb in '' reload --help; do
    expect 0 'Usage: start|stop|restart' "$verb"
  done
}

test_not_enabled() {
  while read -r settings; do
    fresh "not enabled: $settings" <<END
$settings
END
    for verb in init start restart stop; do
      expect 0 '' "$verb"
    done
    expect 3 'miniupnpd is stopped' status
    holds 'nothing was started' [ ! -e "$root/tmp/calls" ]
    holds 'no lease file was made' [ ! -e "$root/mnt/kd/upnp.leases" ]
  done <<'END'
UPNP_LISTEN="INTIF"
UPNP_ENABLE_NATPMP="no" UPNP_ENABLE_UPNP="no" UPNP_LISTEN="INTIF"
UPNP_ENABLE_NATPMP="Yes" UPNP_ENABLE_UPNP="1" UPNP_LISTEN="INTIF"
UPNP_ENABLE_UPNP="yes"
UPNP_ENABLE_UPNP="yes" UPNP_LISTEN="eth1 intif EXTIF"
UPNP_ENABLE_UPNP="yes" UPNP_LISTEN="INT2IF"
UPNP_ENABLE_UPNP="yes" UPNP_LISTEN="INTIF" INTIF="none"
UPNP_ENABLE_UPNP="yes" UPNP_LISTEN="INTIF" INTIF=""
UPNP_ENABLE_UPNP="yes" UPNP_LISTEN="INTIF" INTIP=""
UPNP_ENABLE_UPNP="yes" UPNP_LISTEN="INTIF" INTNM=""
END
}

test_enabled() {
  while read -r settings; do
    fresh "enabled: $settings" <<END
$settings
END
    expect 0 "$starting" start
    expect 0 "$stopping" stop
  done <<'END'
UPNP_ENABLE_UPNP="yes" UPNP_LISTEN="INTIF"
UPNP_ENABLE_NATPMP="yes" UPNP_LISTEN="nonsense INT2IF INTIF"
UPNP_ENABLE_NATPMP="yes" UPNP_LISTEN="DMZIF" DMZIF=eth3 DMZIP=10.5.5.1 DMZNM=255.255.255.252
UPNP_ENABLE_NATPMP="yes" UPNP_LISTEN="INT4IF" INT4IF=eth4 INT4IP=10.6.6.1 INT4NM=255.255.255.0
END
}

test_life() {
  fresh life <<END
$enabled
END
  expect 0 "$starting" init
  holds 'the daemon reads rc.conf' [ "$(cat "$root/tmp/calls")" = '-c /etc/rc.conf' ]
  holds 'the status page finds the leases' [ "$(readlink "$root/var/db/upnp.leases")" = /mnt/kd/upnp.leases ]
  holds 'the lease file exists' [ -f "$root/mnt/kd/upnp.leases" ]
  pid=$(pidfile)
  expect 0 "miniupnpd is running (process $pid)" status

  echo 'UDP:4001:192.168.50.10:4000:0:kept' >"$root/mnt/kd/upnp.leases"
  expect 0 "$stopping
$starting" restart
  holds 'restart ends the old process' [ ! -e "/proc/$pid/exe" ]
  holds 'restart leaves the ports open' [ "$(signal)" = USR2 ]
  holds 'restart starts a new one' running "$(pidfile)"
  holds 'restart keeps the leases' [ -s "$root/mnt/kd/upnp.leases" ]

  pid=$(pidfile)
  echo "UPNP_LISTEN='unterminated" >"$root/tmp/etc/rc.conf"
  expect 0 "miniupnpd is running (process $pid)" status
  expect 0 "$stopping" stop
  holds 'stop ends the process' [ ! -e "/proc/$pid/exe" ]
  holds 'stop closes the ports' [ "$(signal)" = TERM ]
  holds 'the pid file is gone' [ ! -e "$root/run/miniupnpd.pid" ]
  holds 'stop keeps the leases' [ -s "$root/mnt/kd/upnp.leases" ]
  expect 0 '' stop
  expect 3 'miniupnpd is stopped' status
}

test_switched_off() {
  fresh 'switched off' <<END
$enabled
END
  expect 0 "$starting" start
  pid=$(pidfile)
  : >"$root/tmp/etc/rc.conf"
  expect 0 "$stopping" restart
  holds 'restart ends the process' [ ! -e "/proc/$pid/exe" ]
  holds 'restart closes the ports' [ "$(signal)" = TERM ]
}

test_boot_and_shutdown() {
  fresh 'boot and shutdown' <<END
$enabled
END
  # shellcheck disable=SC2086 # "busybox ash" is two words
  chroot "$root" $shell /etc/runlevels/default/S54miniupnpd init >/dev/null
  holds 'the boot link starts it' running "$(pidfile)"
  # shellcheck disable=SC2086
  chroot "$root" $shell /etc/runlevels/default/K09miniupnpd stop >/dev/null
  holds 'the shutdown link stops it' [ ! -e "$root/run/miniupnpd.pid" ]
}

test_cannot_start() {
  fresh 'cannot start' <<END
$enabled
END
  echo 'miniupnpd: no such interface: eth1' >"$root/tmp/fault"
  for verb in init start restart; do
    expect 1 "$starting
miniupnpd: no such interface: eth1" "$verb"
  done
}

test_stale_pid_file() {
  sleep 60 &
  other_pid=$!
  for text in "$other_pid" "$other_pid
999" 4194304 '' garbage '../self'; do
    fresh "pid file left over: $text" <<END
$enabled
END
    printf '%s\n' "$text" >"$root/run/miniupnpd.pid"
    expect 3 'miniupnpd is stopped' status
    expect 0 "$stopping" stop
    holds 'the pid file is gone' [ ! -e "$root/run/miniupnpd.pid" ]
    holds 'the other program lives' running "$other_pid" sleep
  done
  kill "$other_pid"
}

# The C daemon does not truncate the file: an older, longer number leaves a tail.
test_pid_file_with_tail() {
  fresh 'pid file with a tail' <<END
$enabled
END
  expect 0 "$starting" start
  pid=$(pidfile)
  echo 999 >>"$root/run/miniupnpd.pid"
  expect 0 "miniupnpd is running (process $pid)" status
  expect 0 "$stopping" stop
  holds 'stop ends the process' [ ! -e "/proc/$pid/exe" ]
}

test_slow_stop() {
  fresh 'slow stop' <<END
$enabled
END
  echo 0.5 >"$root/tmp/slow"
  expect 0 "$starting" start
  pid=$(pidfile)
  expect 0 "$stopping" stop
  holds 'stop waits for the end' [ ! -e "/proc/$pid/exe" ]
}

# AstLinux's busybox sleeps whole seconds only.
test_whole_seconds() {
  fresh 'sleep takes whole seconds' <<END
$enabled
END
  sleeper=$root/usr/local/bin/sleep
  cat >"$sleeper" <<'END'
#!/bin/sh
case $1 in
*.*) echo "sleep: invalid number '$1'" >&2; exit 1 ;;
esac
exec /bin/sleep "$@"
END
  chmod 755 "$sleeper"
  echo 1 >"$root/tmp/slow"
  expect 0 "$starting" start
  expect 0 "$stopping" stop
  rm "$sleeper"
}

test_deaf() {
  fresh 'does not stop' <<END
$enabled
END
  touch "$root/tmp/deaf"
  expect 0 "$starting" start
  pid=$(pidfile)
  expect 1 "$stopping
miniupnpd: process $pid does not stop; end it with: kill -9 $pid" restart
  expect 0 "miniupnpd is running (process $pid)" status
  kill -9 "$pid"
}

# router_up makes the router: eth1 to a LAN client, which is process $client,
# and eth0 to nothing; iptables is the legacy one.
router_up() {
  unshare --net sleep 600 &
  client=$!
  until_true client_ready || return 1
  for tool in iptables ip6tables; do
    for part in '' -save -restore; do
      ln -sf xtables-legacy-multi "$root/usr/sbin/$tool$part" || return 1
    done
  done
  ip link set lo up &&
    ip link add eth0 type veth peer name wan netns "$client" &&
    ip link add eth1 type veth peer name lan netns "$client" &&
    ip address add 11.22.33.44/24 dev eth0 && ip address add 192.168.50.1/24 dev eth1 &&
    ip link set eth0 up && ip link set eth1 up &&
    lan ip address add 192.168.50.10/24 dev lan && lan ip link set lan up && lan ip link set wan up
}

client_ready() { [ "$(readlink "/proc/$client/ns/net")" != "$(readlink /proc/self/ns/net)" ]; }
lan() { nsenter --target "$client" --net "$@"; }
firewall() { chroot "$root" iptables -w "$@"; }

# arno makes the firewall as AstLinux has it when miniupnpd starts at boot, with
# the chains of Arno's plugin if $1 is plugin.
arno() {
  for table in nat filter; do
    firewall -t $table -F && firewall -t $table -X || return 1
  done
  firewall -t nat -N POST_NAT_PREROUTING_CHAIN && firewall -t nat -A PREROUTING -j POST_NAT_PREROUTING_CHAIN &&
    firewall -N POST_FORWARD_CHAIN && firewall -A FORWARD -j POST_FORWARD_CHAIN || return 1
  [ "$1" = plugin ] || return 0
  firewall -t nat -N MINIUPNPD && firewall -t nat -A POST_NAT_PREROUTING_CHAIN -i eth0 -j MINIUPNPD &&
    firewall -N MINIUPNPD && firewall -A POST_FORWARD_CHAIN -i eth0 ! -o eth0 -j MINIUPNPD
}

# ours prints what is in the firewall for miniupnpd: rules, jumps and chains.
ours() { chroot "$root" iptables-save | sed -n 's/ \[.*//; /MINIUPNPD/p'; }

# is_open succeeds while the rules of one mapping are in the firewall.
is_open() { [ "$(ours | grep -c '^-A MINIUPNPD ')" = 2 ]; }

# is_empty succeeds while no rules are in the daemon's chains.
is_empty() { ! ours | grep -q '^-A MINIUPNPD'; }

# is_closed fails while anything is in the firewall that was not there before
# miniupnpd.
is_closed() { [ "$(ours)" = "$before" ]; }

# verb runs the script with the verb $2, says nothing of what it prints, and
# compares its exit code with $1.
verb() {
  # shellcheck disable=SC2086 # "busybox ash" is two words
  chroot "$root" $shell /etc/init.d/miniupnpd "$2" >"$root/tmp/said" 2>&1
  code=$?
  [ "$code" = "$1" ] || complain "$2: exit $code, want $1: $(cat "$root/tmp/said")"
}

# opened starts the case called $1 with the daemon started and a port mapped.
opened() {
  fresh "$1, chains: $chains" <<END
$enabled
END
  arno "$chains" || complain 'no firewall'
  before=$(ours)
  verb 0 start
  holds 'the client gets a port' lan natpmpc -g 192.168.50.1 -a 4000 4000 tcp 3600 >/dev/null
  holds 'its rules are in the firewall' is_open
}

# crash kills the daemon.
crash() {
  pid=$(pidfile)
  kill -9 "$pid"
  until_true [ ! -e "/proc/$pid/exe" ]
}

# settings replaces rc.conf by standard input.
settings() { cat >"$root/tmp/etc/rc.conf"; }

# closes runs the script with the verb $2, and demands the exit code $1 and that
# nothing is left in the firewall.
closes() {
  verb "$@"
  holds "$2 closes the ports" is_closed
  holds "after $2 no pid file is left" [ ! -e "$root/run/miniupnpd.pid" ]
  verb 0 stop
}

test_rules_after_stop() {
  opened stop
  closes 0 stop
  opened 'stop while the firewall is busy'
  flock "$root/run/xtables.lock" sleep 5 &
  holder=$!
  until_true busy
  closes 0 stop
  wait "$holder"
}

busy() { ! flock --nonblock "$root/run/xtables.lock" true; }

test_rules_when_switched_off() {
  for verb in restart start init; do
    opened "switched off, then $verb"
    settings </dev/null
    closes 0 "$verb"
    opened "killed and switched off, then $verb"
    crash
    settings </dev/null
    closes 0 "$verb"
  done
}

test_rules_when_it_cannot_start() {
  opened 'restart with settings that cannot be used'
  echo EXTIF= >>"$root/tmp/etc/rc.conf"
  closes 1 restart
  opened 'killed, then start with settings that cannot be used'
  crash
  echo EXTIF= >>"$root/tmp/etc/rc.conf"
  closes 1 start
}

test_rules_after_crash() {
  opened 'killed, then stop'
  crash
  holds 'its rules are still there' is_open
  closes 0 stop
  for verb in restart start init; do
    opened "killed, then $verb"
    crash
    verb 0 "$verb"
    holds 'its rules are still there' is_open
    closes 0 stop
  done
}

# With a damaged record the daemon cannot know which chains are its own: it
# empties all of its names.
test_rules_after_damaged_record() {
  opened 'killed, the record is empty, then stop'
  crash
  : >"$root/run/miniupnpd.chains"
  verb 1 stop
  holds 'stop says that chains may be left' grep -q 'may be left' "$root/tmp/said"
  holds 'no rules are left' is_empty
  verb 0 stop
  opened 'killed, the record is a folder, then stop'
  crash
  rm "$root/run/miniupnpd.chains" && mkdir "$root/run/miniupnpd.chains"
  verb 1 stop
  holds 'no rules are left' is_empty
  rmdir "$root/run/miniupnpd.chains"
  verb 0 stop
}

# The web page stops, waits a second, and starts.
test_rules_after_restart() {
  opened 'restart'
  verb 0 restart
  holds 'the port is open' is_open
  closes 0 stop
  opened 'stop and init'
  verb 0 stop
  verb 0 init
  until_true is_open
  holds 'the port is open again' is_open
  closes 0 stop
}

# test_rules runs the cases with the daemon itself, file $1.
test_rules() {
  install -m 755 "$1" "$root/usr/sbin/miniupnpd"
  router_up || complain 'no router'
  for chains in plugin none; do
    test_rules_after_stop
    test_rules_when_switched_off
    test_rules_when_it_cannot_start
    test_rules_after_crash
    test_rules_after_damaged_record
    test_rules_after_restart
  done
}

# test_shell runs all cases under shell $1, with the folder $2 to work in and
# the daemon $3. It has a network of its own.
test_shell() {
  shell=$1 wrong=0
  mkdir "$2" && stand_in >"$2.daemon" && scratch_root "$2" "$2.daemon" || exit 1
  test_usage
  test_not_enabled
  test_enabled
  test_life
  test_switched_off
  test_boot_and_shutdown
  test_cannot_start
  test_stale_pid_file
  test_pid_file_with_tail
  test_slow_stop
  test_whole_seconds
  test_deaf
  test_rules "$3"
  [ "$wrong" = 0 ]
}

# test_shells runs them under all shells side by side, in the folder $1, which
# has the daemon.
test_shells() {
  jobs=
  for shell in 'busybox ash' dash 'bash --posix'; do
    unshare --net "$0" shell "$shell" "$1/${shell%% *}" "$1/miniupnpd" &
    jobs="$jobs $!"
  done
  result=0
  for job in $jobs; do
    wait "$job" || result=1
  done
  exit $result
}

case $1 in
inside)
  test_shells "$2"
  ;;
shell)
  test_shell "$2" "$3" "$4"
  ;;
*)
  need_root
  need_go
  need busybox:busybox dash:dash bash:bash ip:iproute2 iptables:iptables natpmpc:natpmpc flock:util-linux
  box=$(mktemp -d) || exit 1
  trap 'rm -rf "$box"' EXIT
  (cd "$repo" && CGO_ENABLED=0 go build -o "$box/miniupnpd" ./cmd/miniupnpd) || die 'cannot build the daemon'
  # The processes of the tests live in a namespace of their own and end with it.
  unshare --mount --pid --fork --kill-child --mount-proc "$0" inside "$box"
  ;;
esac
