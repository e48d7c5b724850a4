#!/bin/sh
#
# Tests the page of leases under every shell, and with busybox's programs too:
# lease files or a daemon's answers in, rows out. Prints only what is wrong.

. "$(dirname "$0")/lab.sh"

# complain counts what is wrong, and says it.
complain() {
  wrong=$((wrong + 1))
  printf '%s: %s: %s\n' "$shell" "$case" "$1"
}

# run runs the script, with a clock that stands still.
run() {
  # shellcheck disable=SC2016,SC2086 # the inner shell expands it; "busybox ash" is two words
  page=$(chroot "$root" env -i PATH="$programs" TZ=UTC0 $shell -c '
    date() { if [ "$1" = +%s ]; then echo 1700000000; else echo 2023-11-14 22:13:20; fi; }
    . /usr/share/igdd/www/cgi-bin/index.cgi' 2>&1)
}

# show_page runs the script on the lease file that standard input gives.
show_page() {
  cat >"$root/var/db/upnp.leases"
  run
}

# daemon makes a miniupnpctl that prints the file of its command, and fails where
# there is none; as the real one it ends with 4 when something is wrong.
daemon() {
  cat >"$root/fixture/miniupnpctl" <<'END'
#!/bin/sh
[ "$1" = --json ] && cat "/fixture/$2.json" || exit 1
! grep -q '"healthy": false' "/fixture/$2.json" || exit 4
END
  chmod +x "$root/fixture/miniupnpctl"
  answer status '{ "schema": 1, "external_address": "11.22.33.44", "firewall": { "healthy": true, "repairs": 0 } }'
  answer list '[]'
}

# answer is the daemon's answer $2 to the command $1.
answer() {
  printf '%s\n' "$2" >"$root/fixture/$1.json"
}

# no_daemon takes the daemon away.
no_daemon() {
  rm -f "$root/fixture/miniupnpctl" "$root/fixture/"*.json
}

# expect_list shows the page for the mappings $2, and compares its rows with $3.
expect_list() {
  case=$1
  answer list "$2"
  run
  [ "$(rows)" = "$3" ] || complain "rows '$(rows)', want '$3'"
}

# rows prints the table's rows as text, their cells apart.
rows() {
  printf '%s\n' "$page" | sed -n -e '/<th role=rowheader/!d' -e 's/<\/t[hd]>/|/g' -e 's/<[^>]*>//g' -e 's/|$//p'
}

# expect shows the page for the lease file $2, a format of printf, and compares
# its rows with $3.
expect() {
  case=$1
  # shellcheck disable=SC2059
  show_page <<END
$(printf "$2")
END
  [ "$(rows)" = "$3" ] || complain "rows '$(rows)', want '$3'"
}

# holds complains unless the page has the text $1.
holds() {
  case $page in
  *"$1"*) ;;
  *) complain "the page lacks '$1'" ;;
  esac
}

# lacks complains if the page has the text $1.
lacks() {
  case $page in
  *"$1"*) complain "the page has '$1'" ;;
  esac
}

test_nothing() {
  for leases in '' '\n' 'junk'; do
    expect "nothing: '$leases'" "$leases" ''
    holds 'No active NAT-PMP/PCP or UPnP leases'
  done
  case='no file'
  rm "$root/var/db/upnp.leases"
  run
  holds 'No active NAT-PMP/PCP or UPnP leases'
  holds 'because the daemon did not answer'
}

test_answer() {
  expect answer 'TCP:8080:192.168.50.10:80:0:web' '8080|TCP|192.168.50.10|80|never|web'
  holds "Content-Type: text/html; charset=utf-8$(printf '\r')"
  holds "Content-Security-Policy: default-src 'none'"
  holds '1 lease at 2023-11-14 22:13:20'
  [ "$(printf '%s\n' "$page" | grep -c '^<!DOCTYPE html>')" = 1 ] || complain 'not one document'
  case $page in
  *http:* | *https:* | *src=* | *url\(* | *@import*) complain 'the page needs something from elsewhere' ;;
  esac
}

test_order() {
  expect 'by number' 'TCP:8080:192.168.50.10:1:0:c
UDP:443:192.168.50.10:1:0:b
TCP:22:192.168.50.10:1:0:a
TCP:443:192.168.50.10:1:0:b
TCP:51413:192.168.50.10:1:0:d' '22|TCP|192.168.50.10|1|never|a
443|TCP|192.168.50.10|1|never|b
443|UDP|192.168.50.10|1|never|b
8080|TCP|192.168.50.10|1|never|c
51413|TCP|192.168.50.10|1|never|d'
}

# The clock says 1700000000.
test_expiry() {
  expect expiry 'TCP:1:192.168.50.10:1:0:x
TCP:2:192.168.50.10:1:1:x
TCP:3:192.168.50.10:1:1700000000:x
TCP:4:192.168.50.10:1:1700000001:x
TCP:5:192.168.50.10:1:1700000060:x
TCP:6:192.168.50.10:1:1700003599:x
TCP:7:192.168.50.10:1:1700003600:x
TCP:8:192.168.50.10:1:1700086399:x
TCP:9:192.168.50.10:1:1700604800:x' '1|TCP|192.168.50.10|1|never|x
4|TCP|192.168.50.10|1|2023-11-14 22:13:21 in less than a minute|x
5|TCP|192.168.50.10|1|2023-11-14 22:14:20 in 1 min|x
6|TCP|192.168.50.10|1|2023-11-14 23:13:19 in 59 min|x
7|TCP|192.168.50.10|1|2023-11-14 23:13:20 in 1 h 0 min|x
8|TCP|192.168.50.10|1|2023-11-15 22:13:19 in 23 h 59 min|x
9|TCP|192.168.50.10|1|2023-11-21 22:13:20 in 7 d 0 h|x'
  holds '7 leases, 2 expired at'
  expect 'all expired' 'TCP:2:192.168.50.10:1:1:x
TCP:3:192.168.50.10:1:1700000000:x' ''
  holds 'No active NAT-PMP/PCP or UPnP leases, 2 expired at'
}

# Clients choose the descriptions.
test_description() {
  # shellcheck disable=SC2016 # no shell may expand it
  expect descriptions 'TCP:1:192.168.50.10:1:0:<script>alert(1)</script>
TCP:2:192.168.50.10:1:0:&lt;
TCP:3:192.168.50.10:1:0:"\047><
TCP:4:192.168.50.10:1:0:NAT-PMP:40080:tcp
TCP:5:192.168.50.10:1:0:$(reboot)`reboot`
TCP:6:192.168.50.10:1:0:\\0074b\\076\\n\\c
TCP:7:192.168.50.10:1:0:100%%s%%n
TCP:8:192.168.50.10:1:0:a\033[31m\007\177b
TCP:9:192.168.50.10:1:0:\303\274\342\202\254
TCP:10:192.168.50.10:1:0:a\377<
TCP:11:192.168.50.10:1:0:
TCP:12:192.168.50.10:1:0' "1|TCP|192.168.50.10|1|never|&lt;script&gt;alert(1)&lt;/script&gt;
2|TCP|192.168.50.10|1|never|&amp;lt;
3|TCP|192.168.50.10|1|never|&quot;&#39;&gt;&lt;
4|TCP|192.168.50.10|1|never|NAT-PMP:40080:tcp
5|TCP|192.168.50.10|1|never|"'$(reboot)`reboot`
6|TCP|192.168.50.10|1|never|\0074b\076\n\c
7|TCP|192.168.50.10|1|never|100%s%n
8|TCP|192.168.50.10|1|never|a[31mb
9|TCP|192.168.50.10|1|never|ü€
'"$(printf '10|TCP|192.168.50.10|1|never|a\377&lt;')
11|TCP|192.168.50.10|1|never|
12|TCP|192.168.50.10|1|never|"
}

test_junk() {
  expect junk '# a comment: with: four: colons: in it
TCP:80:192.168.50.10:80
tcp:80:192.168.50.10:80:0:x
<b>:80:192.168.50.10:80:0:x
TCP:0:192.168.50.10:80:0:x
TCP:65536:192.168.50.10:80:0:x
TCP:80x:192.168.50.10:80:0:x
TCP:-80:192.168.50.10:80:0:x
TCP:80:<i>:80:0:x
TCP:80:fd00::1:80:0:x
TCP:80:192.168.50.10:http:0:x
TCP:80:192.168.50.10:80:soon:x
TCP:80:192.168.50.10:80::x
TCP:1:192.168.50.10:1:0:x' '1|TCP|192.168.50.10|1|never|x'
}

test_many() {
  case='200 leases'
  show_page <<END
$(seq -f 'UDP:%.0f:192.168.50.10:4000:0:one of many' 1200 -1 1001)
END
  [ "$(rows | sed 's/|.*//')" = "$(seq 1001 1200)" ] || complain 'not all rows, or not in order'
  holds '200 leases'
}

# mapping prints a mapping as miniupnpctl does: "TCP" or "UDP", port, and further
# fields, each with a comma before it.
mapping() {
  printf '{"schema":1,"protocol":"%s","external_port":%s,"client":"192.168.50.10","client_port":80%s}' "$1" "$2" "$3"
}

# plain are the fields of a mapping that is in force and has no end.
plain=',"origins":["PCP"],"description":"x","enabled":true,"remaining_seconds":null,"packets":7,"bytes":9'

test_daemon() {
  daemon
  expect_list 'one of each kind' '[{"schema":1,"protocol":"TCP","external_port":8080,"client":"192.168.50.10","client_port":80,"mac":"02:00:00:00:00:01","host_name":"laptop","origins":["NAT-PMP","UPnP"],"description":"web","enabled":true,"remaining_seconds":7260,"packets":12,"bytes":900},
 {"schema":1,"protocol":"UDP","external_port":443,"client":"192.168.50.11","client_port":444,"gone":true,"origins":["PCP"],"description":"","enabled":true,"dormant":true,"dormant_reason":"its host has left","remaining_seconds":null,"packets":null,"bytes":null},
 {"schema":1,"protocol":"UDP","external_port":445,"client":"192.168.50.11","client_port":446,"origins":["UPnP"],"description":"off","enabled":false,"remaining_seconds":30,"packets":0,"bytes":0},
 {"schema":1,"protocol":"TCP","external_port":22,"pinhole":true,"client":"2001:db8::10","client_port":22,"host_name":"laptop","origins":["PCP"],"description":"ssh","remote":["198.51.100.0/24","203.0.113.7/32 port 5"],"enabled":true,"remaining_seconds":null,"packets":3,"bytes":9}]' \
    '443|UDP|192.168.50.11 gone|444|PCP|never expires|–| dormant: its host has left
445|UDP|192.168.50.11|446|UPnP|less than a minute|0|off disabled
8080|TCP|laptop 192.168.50.10|80|NAT-PMP, UPnP|2 h 1 min|12|web
22|TCP|laptop 2001:db8::10|PCP|never expires|3|ssh only from 198.51.100.0/24, 203.0.113.7/32 port 5'
  holds '2 in force, 1 dormant, 1 disabled at 2023-11-14 22:13:20'
  holds 'From the running daemon.'
  holds '<dt>External address</dt><dd>11.22.33.44</dd>'
  lacks 'not healthy'
  lacks 'Blocked by the operator'
  expect_list 'nothing is mapped' '[]' ''
  holds 'No active NAT-PMP/PCP or UPnP leases at'
}

test_order_of_daemon() {
  expect_list 'by number' "[$(mapping UDP 51413 "$plain"),
 $(mapping UDP 443 "$plain"),
 $(mapping TCP 443 "$plain"),
 $(mapping TCP 22 "$plain")]" "$(for row in '22|TCP' '443|TCP' '443|UDP' '51413|UDP'; do
    echo "$row|192.168.50.10|80|PCP|never expires|7|x"
  done)"
}

test_time_left() {
  while read -r seconds want; do
    expect_list "$seconds seconds" \
      "[$(mapping TCP 1 ',"origins":["PCP"],"description":"","enabled":true,"remaining_seconds":'"$seconds")]" \
      "1|TCP|192.168.50.10|80|PCP|$want|–|"
  done <<'END'
1 less than a minute
59 less than a minute
60 1 min
3599 59 min
3600 1 h 0 min
86399 23 h 59 min
604800 7 d 0 h
END
}

# expect_hostile shows a mapping whose description is $1 in JSON, and the name of its
# host too, and expects $2 in HTML.
expect_hostile() {
  expect_list "$1" "[$(mapping TCP 1 ',"host_name":"'"$1"'","origins":["PCP"],"description":"'"$1"'","enabled":true')]" \
    "1|TCP|$2 192.168.50.10|80|PCP|never expires|–|$2"
}

# Clients choose descriptions and the names of their hosts.
test_hostile() {
  expect_hostile '\u003cscript\u003ealert(1)\u003c/script\u003e' '&lt;script&gt;alert(1)&lt;/script&gt;'
  expect_hostile '<script>' '&lt;script&gt;'
  expect_hostile '\u003c/style\u003e\u0026lt;' '&lt;/style&gt;&amp;lt;'
  expect_hostile "\\\"'>\\\\x" '&quot;&#39;&gt;\x'
  expect_hostile '\\u003cb\\\\\"' '\u003cb\\&quot;'
  expect_hostile '\",\"external_port\":1,\"x' '&quot;,&quot;external_port&quot;:1,&quot;x'
  expect_hostile '}] [{' '}] [{'
  expect_hostile 'a\n\t\r\b\f\u001b[31m\u0007\u2028b' 'a[31mb'
  expect_hostile '\ufffd ü€ 🙂' '� ü€ 🙂'
  # shellcheck disable=SC2016 # no shell may expand it
  expect_hostile '$(reboot)`reboot`%s & 100%' '$(reboot)`reboot`%s &amp; 100%'
  expect_hostile 'mapping 9 - list' 'mapping 9 - list'
  case='one word'
  word=$(seq -s x 1 500)
  answer list "[$(mapping TCP 1 ',"origins":["PCP"],"description":"'"$word"'","enabled":true')]"
  run
  holds "<bdi>$word</bdi>"
}

test_blocks() {
  daemon
  answer blocks '[{"schema":1,"id":2,"protocol":"UDP","first_port":3074,"last_port":3080,"since":"2023-11-14T22:13:20Z","until":null,"remaining_seconds":null,"hits":0,"last_hit":null},
 {"schema":1,"id":1,"host":"\u003cb\u003e","macs":["02:00:00:00:00:01","02:00:00:00:00:02"],"first_port":22,"last_port":22,"since":"2023-11-14T23:13:20+01:00","until":"2023-11-15T00:13:20+01:00","remaining_seconds":3600,"hits":41,"last_hit":"2023-11-14T23:13:20+01:00"},
 {"schema":1,"id":3,"host":"192.168.50.11","since":"2023-11-14T23:13:20+01:00","until":null,"remaining_seconds":null,"hits":1,"last_hit":null}]'
  expect_list blocks "[$(mapping TCP 1 "$plain")]" '1|TCP|192.168.50.10|80|PCP|never expires|7|x
1|&lt;b&gt;|TCP, UDP|22|2023-11-14 23:13:20|1 h 0 min|41
2|every host|UDP|3074–3080|2023-11-14 22:13:20 UTC|forever|0
3|192.168.50.11|TCP, UDP|all|2023-11-14 23:13:20|forever|1'
  holds '1 in force, 3 blocked at 2023-11-14 22:13:20'
  holds 'Blocked by the operator'
  expect_list 'only blocks' '[]' "$(rows | grep -v '^1|TCP|')"
  holds 'No active NAT-PMP/PCP or UPnP leases, 3 blocked at'
  answer blocks '[]'
  expect_list 'no blocks' '[]' ''
  lacks 'Blocked by the operator'
  rm "$root/fixture/blocks.json"
}

test_trouble() {
  case=trouble
  answer status '{
  "schema": 1,
  "note": "<none>",
  "uplinks": [
    {
      "name": "eth0",
      "up": true,
      "addresses": [
        "11.22.33.44/24",
        "11.22.33.45/24"
      ]
    },
    { "name": "eth3", "up": false, "note": "there is no <eth3>" },
    { "name": "ppp0", "up": false }
  ],
  "lans": [ { "name": "eth1", "up": true } ],
  "firewall": {
    "healthy": false,
    "trouble": "rule \"-j <DROP>\" comes first"
  },
  "helper": "ended",
  "leases": "no space"
}'
  answer list '[]'
  run
  holds '<dt>External address</dt><dd>none (&lt;none&gt;)</dd>'
  holds '<dt>Uplink eth0</dt><dd>up, 11.22.33.44/24, 11.22.33.45/24</dd>'
  holds '<dt>Uplink eth3</dt><dd>there is no &lt;eth3&gt;</dd>'
  holds '<dt>Uplink ppp0</dt><dd>down</dd>'
  lacks eth1
  holds 'The firewall is not healthy: rule &quot;-j &lt;DROP&gt;&quot; comes first'
  holds 'The helper process is not healthy: ended'
  holds 'Leases are not saved: no space'
}

# Without an answer, or without all of it, the file counts.
test_no_answer() {
  daemon
  rm "$root/fixture/list.json"
  expect 'no list' 'TCP:8080:192.168.50.10:80:0:web' '8080|TCP|192.168.50.10|80|never|web'
  holds 'because the daemon did not answer'
  printf '#!/bin/sh\nexec sleep 600\n' >"$root/fixture/miniupnpctl"
  expect 'hangs' 'TCP:8080:192.168.50.10:80:0:web' '8080|TCP|192.168.50.10|80|never|web'
  no_daemon
}

# test_shell runs all cases under shell $1, with the folder $2 to work in.
test_shell() {
  shell=$1 wrong=0
  mkdir "$2" && scratch_root "$2" /bin/true && mkdir "$root/fixture" || exit 1
  programs=/fixture:/usr/bin:/bin
  if [ "$1" = 'busybox ash' ]; then
    for applet in awk cat sed sleep sort tr; do
      ln -s "$(command -v busybox)" "$root/fixture/$applet"
    done
  fi
  test_nothing
  test_answer
  test_order
  test_expiry
  test_description
  test_junk
  test_many
  test_daemon
  test_order_of_daemon
  test_time_left
  test_hostile
  test_blocks
  test_trouble
  test_no_answer
  [ "$wrong" = 0 ]
}

# test_shells runs them under all shells side by side, in the folder $1.
test_shells() {
  jobs=
  for shell in 'busybox ash' dash 'bash --posix'; do
    test_shell "$shell" "$1/${shell%% *}" &
    jobs="$jobs $!"
  done
  result=0
  for job in $jobs; do
    wait "$job" || result=1
  done
  exit $result
}

# browser shows the page in Chromium, with the folder $1 to work in, where the binary of
# the daemon is, too.
browser() {
  mkdir "$1/browser" && scratch_root "$1/browser" "$1/miniupnpd" && mkdir "$root/fixture" "$root/tmp/home" || exit 1
  ip link add eth0 type veth peer name eth1 &&
    ip address add 11.22.33.44/24 dev eth0 && ip address add 192.168.50.1/24 dev eth1 || exit 1
  for link in lo eth0 eth1; do
    ip link set $link up || exit 1
  done
  daemon
  rc_conf >"$root/tmp/etc/rc.conf"
  ln -sf /mnt/kd/upnp.leases "$root/var/db/upnp.leases"
  cp "$repo/scripts/browse.py" "$root/fixture"
  chroot "$root" env -i PATH=/fixture:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp/home sh -c '
    busybox httpd -p 127.0.0.1:80 -h /usr/share/igdd/www && exec /fixture/browse.py'
}

# namespaces runs a function of this script in namespaces of its own.
namespaces() {
  unshare --mount --net --pid --fork --kill-child --mount-proc "$0" "$@"
}

case $1 in
test_shells | browser)
  "$@"
  ;;
*)
  need_root
  need busybox:busybox dash:dash bash:bash
  box=$(mktemp -d) || exit 1
  trap 'rm -rf "$box"' EXIT
  namespaces test_shells "$box" || exit 1
  command -v chromium >/dev/null || {
    echo 'no Chromium: the browser tests did not run'
    exit
  }
  need_go
  need chromedriver:chromium-driver python3:python3 ip:iproute2 iptables:iptables
  CGO_ENABLED=0 go build -C "$repo" -o "$box/miniupnpd" ./cmd/miniupnpd && namespaces browser "$box"
  ;;
esac
