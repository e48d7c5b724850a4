#!/bin/sh
#
# Shows port mapping end to end: a router with an AstLinux-style rc.conf, a client
# that maps ports by NAT-PMP and by UPnP, and packets that arrive. Everything runs
# in network namespaces; this machine's own network and files are not touched.
#
#	scripts/demo.sh           show it and clean up
#	scripts/demo.sh --keep    keep the lab running
#	scripts/demo.sh --down    remove a lab that --keep left running

. "$(dirname "$0")/lab.sh"

# upnp runs miniupnpc's client on the LAN client with the options after $1,
# and prints the lines that match $1; it fails if there are none.
upnp() {
  about=$1
  shift
  on lan timeout 20 upnpc "$@" 2>&1 | grep -e "$about"
}

# leases prints the file that the status page reads, as that page shows it.
leases() {
  row='%-6s  %-8s  %-13s  %-5s  %-19s  %s\n'
  # shellcheck disable=SC2059 # the format is above
  printf "$row" Public Protocol 'Local IPv4' Port Expires Description
  router cat /var/db/upnp.leases | while IFS=: read -r protocol public address port expires text; do
    # shellcheck disable=SC2059
    printf "$row" "$public" "$protocol" "$address" "$port" "$(date -d "@$expires" '+%F %T')" "$text"
  done
}

# rules prints the daemon's chains and rules in the router's firewall.
rules() {
  router iptables-save 2>/dev/null | grep MINIUPNPD
}

# gone succeeds when nothing of the daemon is left on the router; it prints what
# is left.
gone() {
  ! { rules; processes; on gw ss -Hlntu; } | grep .
}

# processes prints the router's processes that are called miniupnpd.
processes() {
  for pid in $(ip netns pids igdd-gw); do
    [ "$(cat "/proc/$pid/comm")" != miniupnpd ] || echo "process $pid"
  done
}

# play runs the demo in the lab.
play() {
  title 'A router with this rc.conf:'
  show rc_conf
  rc_conf | router tee /etc/rc.conf >/dev/null
  title 'The resulting configuration (miniupnpd -t):'
  show router miniupnpd -t
  check 'a LAN client offers TCP 8080 and UDP 9000' serve
  check 'from the Internet, TCP 40080 is closed' silent tcp 40080
  check 'from the Internet, UDP 40090 is closed' silent udp 40090

  title 'At boot the daemon starts, and the client maps ports by NAT-PMP:'
  check '/etc/init.d/miniupnpd init' router /etc/init.d/miniupnpd init
  check 'TCP 40080 to its port 8080, for an hour' ask 40080 8080 tcp 3600
  check 'UDP 40090 to its port 9000, for an hour' ask 40090 9000 udp 3600
  check 'from the Internet, TCP 40080 reaches the client' call tcp 40080
  check 'from the Internet, UDP 40090 reaches the client' call udp 40090
  title 'Another program maps a port by UPnP:'
  check 'upnpc -s finds the router' upnp 'Found valid IGD' -s
  check 'upnpc -a: TCP 40070 to its port 8080' upnp 'is redirected to' -e demo -a 192.168.50.10 8080 40070 tcp 600
  check 'upnpc -l lists it' upnp '40070->192.168.50.10:8080' -l
  check 'from the Internet, TCP 40070 reaches the client' call tcp 40070
  check 'upnpc -d deletes it' upnp 'returned : 0' -d 40070 tcp
  check 'from the Internet, TCP 40070 is closed' silent tcp 40070
  title 'The rules in the firewall:'
  show rules
  title 'The leases on the status page:'
  show leases

  title 'Deleting, restarting, stopping:'
  check 'the client deletes UDP 40090' ask 40090 9000 udp 0
  check 'from the Internet, UDP 40090 is closed' silent udp 40090
  check 'restart' router /etc/init.d/miniupnpd restart
  check 'from the Internet, TCP 40080 still reaches the client' call tcp 40080
  [ "$keep" = no ] || return 0
  check 'stop' router /etc/init.d/miniupnpd stop
  check 'from the Internet, TCP 40080 is closed' silent tcp 40080
  check 'no process, socket, chain or rule is left' gone
  check 'the leases stay, for the next start' router grep -q '^TCP:40080:' /mnt/kd/upnp.leases
}

# tell_how says how to use the lab that is kept.
tell_how() {
  cat <<END

The lab is still running. To use it:
  ip netns exec igdd-lan natpmpc -a 40022 22 tcp 60
  ip netns exec igdd-wan socat - TCP4:$wan_address:40080
  nsenter -t $router_pid --net --mount --root --wd /bin/sh    (a shell on the router)
  tail -f /proc/$router_pid/root/var/log/messages             (its syslog)
To remove it: scripts/demo.sh --down
END
}

keep=no
case $* in
'') ;;
--keep) keep=yes ;;
--down) need_root && lab_down && exit ;;
*) die 'usage: scripts/demo.sh [--keep | --down]' ;;
esac
need_root
need_go
need update-ca-certificates:ca-certificates ip:iproute2 iptables:iptables busybox:busybox \
  natpmpc:natpmpc upnpc:miniupnpc socat:socat
built=$("$repo/scripts/build.sh" native) || exit 1
checks=0 failed=0
[ $keep = yes ] || trap lab_down EXIT
trap 'exit 1' INT TERM
lab_up "$repo/${built##* }" || die 'cannot make the lab: this machine must allow network namespaces, mounts and iptables'
play
echo
if [ $failed -gt 0 ]; then
  title "Its log:"
  show router cat /var/log/messages
  echo "$failed of $checks checks FAILED"
else
  echo "All $checks checks passed."
fi
[ $keep = no ] || tell_how
[ $failed = 0 ]
