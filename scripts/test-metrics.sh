#!/bin/sh
#
# Tests what the daemon offers for monitoring with Debian's Prometheus tools: promtool
# checks the metrics of a running daemon and the alerting rules, and node_exporter passes
# the metrics on. All of it runs in namespaces of its own. Prints only what is wrong.

. "$(dirname "$0")/lab.sh"

rules=$repo/rootfs-overlay/usr/share/doc/igdd/monitoring/alerts.yml

# complain counts what is wrong, and says it.
complain() {
  wrong=$((wrong + 1))
  echo "$1"
}

# holds complains unless the command after the text $1 succeeds.
holds() {
  text=$1
  shift
  said=$("$@" 2>&1) || complain "$text: $said"
}

# settings prints those of the daemon.
settings() {
  cat <<END
ext_ifname=wan0
listening_ip=lan0
enable_natpmp=yes
enable_upnp=yes
http_port=5000
lease_file=$box/leases/upnp.leases
control_socket=$box/ctl
allow 1024-65535 192.168.50.0/24 1-65535
deny 0-65535 0.0.0.0/0 0-65535
END
}

# links makes a router's network: $1 is the device, $2 its address.
links() {
  ip link add "$1" type veth peer name "$1-far" &&
    ip link set "$1" up && ip link set "$1-far" up && ip address add "$2" dev "$1"
}

ctl() {
  "$box/miniupnpd" ctl -s "$box/ctl" "$@"
}

# start starts the daemon, which has its own folder for what is at /run elsewhere.
start() {
  mount -t tmpfs run /run && mkdir "$box/leases" && ip link set lo up && echo 1 >/proc/sys/net/ipv4/ip_forward &&
    links wan0 11.22.33.44/24 && links lan0 192.168.50.1/24 && settings >"$box/miniupnpd.conf" &&
    "$box/miniupnpd" -f "$box/miniupnpd.conf" -P "$box/pid" && until_true ctl status
}

# has succeeds when the file $1 has a line that the pattern $2 matches.
has() {
  grep -E "$2" "$1" || {
    echo "no line matches $2"
    return 1
  }
}

# faultless succeeds when promtool has nothing to say about the metrics.
faultless() {
  "$promtool" check metrics <"$box/igdd.prom" >"$box/faults" 2>&1 && [ ! -s "$box/faults" ] && return
  cat "$box/faults"
  return 1
}

# names prints which metrics the text on standard input has series of.
names() {
  grep '^igdd_' | sed -E 's/[{ ].*//; s/_(bucket|sum|count)$//' | sort -u
}

exported() {
  busybox wget -q -O "$box/exported" http://127.0.0.1:9100/metrics
}

# test_metrics checks the metrics of a daemon that a client has asked for a port.
test_metrics() {
  holds 'the daemon starts' start
  holds 'a client maps a port' ctl selftest
  holds 'metrics are printed' ctl metrics
  ctl metrics >"$box/igdd.prom"
  holds 'promtool check metrics' faultless
  holds 'requests are counted' has "$box/igdd.prom" '^igdd_requests_total\{origin="natpmp",operation="open"\} [1-9]'
  holds 'the firewall is healthy' has "$box/igdd.prom" '^igdd_firewall_healthy\{family="ipv4"\} 1$'
  holds 'the process is measured in the sandbox' has "$box/igdd.prom" '^igdd_process_resident_memory_bytes [1-9]'
  holds 'open files are counted in the sandbox' has "$box/igdd.prom" '^igdd_process_open_fds [1-9]'
}

# test_exporter demands that node_exporter, with its own metrics beside them, passes all
# of them on as they are.
test_exporter() {
  mkdir "$box/textfile" && mv "$box/igdd.prom" "$box/textfile/igdd.prom"
  "$exporter" --web.listen-address=127.0.0.1:9100 --collector.disable-defaults \
    --collector.textfile --collector.textfile.directory="$box/textfile" >"$box/exporter.log" 2>&1 &
  holds 'node_exporter answers' until_true exported
  holds 'it could read the file' has "$box/exported" '^node_textfile_scrape_error 0$'
  holds 'the age of the file is known' has "$box/exported" '^node_textfile_mtime_seconds\{file=".*igdd\.prom"\} [1-9]'
  holds 'no metric collides with its own' without_errors "$box/exporter.log"
  names <"$box/textfile/igdd.prom" >"$box/printed.names"
  names <"$box/exported" >"$box/exported.names"
  holds 'it passes all metrics on' diff "$box/printed.names" "$box/exported.names"
}

without_errors() {
  ! grep level=error "$1"
}

test_rules() {
  holds 'promtool check rules' "$promtool" check rules "$rules"
  holds 'promtool test rules' "$promtool" test rules "$repo/scripts/alerts_test.yml"
}

case $1 in
inside)
  box=$2 promtool=$3 exporter=$4 wrong=0
  test_rules
  test_metrics
  test_exporter
  [ $wrong = 0 ]
  ;;
*)
  need_root
  need_go
  need ip:iproute2 iptables:iptables busybox:busybox unshare:util-linux
  prometheus=$("$repo/scripts/debian.sh" prometheus) || exit 1
  exporter=$("$repo/scripts/debian.sh" prometheus-node-exporter) || exit 1
  box=$(mktemp -d) || exit 1
  trap 'rm -rf "$box"' EXIT
  (cd "$repo" && CGO_ENABLED=0 go build -o "$box/miniupnpd" ./cmd/miniupnpd) || die 'cannot build the daemon'
  # The processes of the tests live in namespaces of their own and end with them.
  unshare --net --mount --pid --fork --kill-child --mount-proc "$0" inside "$box" \
    "$prometheus/usr/bin/promtool" "$exporter/usr/bin/prometheus-node-exporter"
  ;;
esac
