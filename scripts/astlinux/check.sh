# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154 # the other parts and lab.sh set and use the variables
# What test-astlinux.sh checks after each step, to be sourced by it.

# within waits for a command to succeed, for $1 seconds at most; then it prints
# what the command said.
within() {
  until_then=$(($(date +%s) + $1))
  shift
  until "$@" >"$work/within" 2>&1; do
    [ "$(date +%s)" -lt "$until_then" ] || { cat "$work/within" && return 1; }
    sleep 0.2
  done
}

# step runs the function $2 as the step called $1, and prints its row.
step() {
  wrong='' steps=$((steps + 1))
  $2
  if [ -z "$wrong" ]; then
    row "$1" ok
  else
    failed=$((failed + 1))
    row "$1" "FAILED: $wrong"
    tell_why "$1" >&2
  fi
}

# left_out prints the row of a step that cannot be done here, and why.
left_out() {
  omitted=$((omitted + 1))
  row "$1" "left out: $2"
}

row() {
  printf '| %-8s | %-44s | %s |\n' "$script" "$1" "$2"
}

# expect runs a command and notes the text $1 and what the command said if it
# fails.
expect() {
  text=$1
  shift
  "$@" >"$work/said" 2>&1 && return
  said=$(tr '\n|' ' /' <"$work/said")
  wrong="$wrong${wrong:+; }$text${said:+: $said}"
}

# tell_why prints what is in the firewall and the log after the step $1 failed.
tell_why() {
  echo "--- $script, $1: the router's state"
  router iptables-save -t nat
  router iptables -S FORWARD
  router iptables -S POST_FORWARD_CHAIN
  router iptables -S MINIUPNPD
  router ip6tables -S MINIUPNPD
  router ip -o address
  router ip route
  router miniupnpd ctl list
  router miniupnpd ctl status
  cat "$work/kd/upnp.leases"
  router grep -h miniupnpd /var/log/messages | tail -n 40
  router grep -h wan-failover /var/log/messages | tail -n 10
} 2>&1

# host runs a command of host.py on a host.
host() {
  on_host=$1
  shift
  ip netns exec "$lab-$on_host" timeout 20 /usr/bin/python3 "$parts/host.py" "$@"
}

# answers succeeds if a knock from the Internet at address $2, port $3 ($1: tcp
# or udp), is answered by host $4; $5 is the far host's own address.
answers() {
  answer=$(host far knock "$1" "$2" "$3" ${5:+"$5"} 2>&1)
  echo "$answer"
  [ "${answer%% *}" = "$4" ]
}

# arrives notes an error unless such a knock arrives, soon.
arrives() {
  expect "$1 $2 port $3 does not reach $4" within 10 answers "$@"
}

# closed notes an error if anybody answers at address $2, port $3 ($1: tcp or
# udp).
closed() {
  expect "$1 $2 port $3 is open" is_silent "$@"
}

is_silent() {
  ! host far knock "$1" "$2" "$3" 2>/dev/null
}

# kernel_nat, kernel_filter, leases, list and page print mappings, one a line:
# protocol, external port, client, port; the filter table has no external port.
kernel_nat() {
  router iptables -t nat -S MINIUPNPD 2>/dev/null | awk '
    /-j DNAT/ {
      for (i = 1; i < NF; i++) option[$i] = $(i + 1)
      split(option["--to-destination"], to, ":")
      print option["-p"], option["--dport"], to[1], to[2]
    }' | sort
}

kernel_filter() {
  router "$1" -S MINIUPNPD 2>/dev/null | awk '
    /-j ACCEPT/ {
      for (i = 1; i < NF; i++) option[$i] = $(i + 1)
      sub("/.*", "", option["-d"])
      print option["-p"], option["-d"], option["--dport"]
    }' | sort -u
}

leases() {
  awk -F: 'NF > 4 { print tolower($1), $2, $3, $4 }' "$work/kd/upnp.leases" | sort
}

# list prints what miniupnpctl lists, as far as the lines match the pattern $1.
list() {
  listed=$(router miniupnpd ctl list 2>&1) || { echo "$listed" && return 1; }
  echo "$listed" | awk -v pattern="$1" 'NR > 1 && $0 ~ pattern { print tolower($1), $2, $3, $4 }' | sort
}

# awake prints what is listed and has rules.
awake() {
  list '' >"$work/listed" && list '[(]dormant[)]' | grep -vxF -f - "$work/listed"
}

# kernel_outbound prints the rules that give packets a mapping's port.
kernel_outbound() {
  router iptables -t nat -S | grep -e '-j MASQUERADE --to-ports'
}

family4() { grep -v ' [^ ]*:[^ ]* '; }
family6() { grep ' [^ ]*:[^ ]* '; }
inner() { cut -d' ' -f1,3,4 | sort -u; }

# same compares the texts $2 and $4, which are called $1 and $3.
same() {
  [ "$2" = "$4" ] || { echo "$1 [$2] is not $3 [$4]" && return 1; }
}

# is_kept succeeds while the lease file has what miniupnpctl lists.
is_kept() {
  same 'lease file' "$(leases)" list "$(list '' | family4)"
}

# is_agreed succeeds while kernel, lease file and miniupnpctl hold the same
# mappings.
is_agreed() {
  is_kept && awake4=$(awake | family4) &&
    same 'nat table' "$(kernel_nat)" list "$awake4" &&
    same 'filter table' "$(kernel_filter iptables)" list "$(echo "$awake4" | inner)" &&
    same ip6tables "$(kernel_filter ip6tables)" list "$(awake | family6 | inner)"
}

# agrees notes an error unless they do, and the status page shows them.
agrees() {
  expect 'no agreement' within 10 is_agreed
  shows
}

# is_bare succeeds while the kernel holds nothing of the daemon's, and prints
# what it does hold.
is_bare() {
  rules=$(kernel_nat && kernel_filter iptables && kernel_filter ip6tables && kernel_outbound)
  echo "$rules"
  [ -z "$rules" ]
}

# php runs the PHP code $1 on the router as the web interface does, from its
# folder, with the further arguments.
php() {
  code="\$_SERVER['PHP_SELF'] = '/admin/status.php'; \$_SERVER['REQUEST_METHOD'] = 'GET'; $1"
  shift
  # shellcheck disable=SC2016 # the router's shell expands it
  router sh -c 'cd /stat/var/www/admin && exec php -d display_errors=0 -d error_reporting=0 -r "$0" -- "$@"' "$code" "$@"
}

# page reads the status page.
page() {
  # shellcheck disable=SC2016 # PHP's variables
  php '$STATUS_AUTH = true; $COMMON = "../common/"; require $COMMON . "status.inc";' |
    sed -n '/NAT-PMP\/PCP and UPnP) Leases/,/<\/pre>/p' | sed -n 's/<td>\(.*\)<\/td>/\1/p' |
    sed 's/<\/td><td>/ /g' | awk 'NR > 1 && $4 ~ /^[0-9]+$/ { print tolower($2), $1, $3, $4 }' | sort
}

is_shown() {
  same 'status page' "$(page)" 'lease file' "$(leases)"
}

shows() {
  expect 'wrong status page' within 5 is_shown
}

# is_stopped succeeds if no miniupnpd runs on the router.
is_stopped() {
  ! router pidof miniupnpd
}
