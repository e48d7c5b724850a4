#!/bin/sh
#
# Tests the example of rootfs-overlay/usr/share/doc/igdd/astlinux-status.md with PHP: what
# it shows of lists that the tool might print, and of the daemon's own in the lab of
# demo.sh. Everything runs in namespaces.

. "$(dirname "$0")/lab.sh"

recipe=$repo/rootfs-overlay/usr/share/doc/igdd/astlinux-status.md

# example prints the page of the recipe, with AstLinux's function that it calls.
example() {
  # shellcheck disable=SC2016 # PHP's variables
  printf '%s\n' '<?php function putHtml($arg) { echo $arg, PHP_EOL; } date_default_timezone_set("UTC");'
  awk '/^```/ { inside = /^```php/; next } inside' "$recipe"
}

# page runs the example on the router, and fails if PHP complains.
page() {
  router php -d error_reporting=-1 -d display_errors=stderr /example.php 2>"$box/complaints" >"$box/page" &&
    ! grep . "$box/complaints"
}

# rows prints the cells of the table without its heading, apart by |, and with T for
# times.
rows() {
  page && grep -A 100 statusdatatable "$box/page" | sed -n -e '/^<tr><td>/!d' -e '/Public Port/d' \
    -e 's/<\/td><td>/|/g' -e 's/<\/\{0,1\}t[rd]>//g' -e 's/|[0-9-]* [0-9:]*|/|T|/' -e p
}

# are compares the rows with what standard input has.
are() {
  cat >"$box/want"
  rows >"$box/got" && diff "$box/want" "$box/got"
}

# tool makes the tool print standard input and exit with status $1.
tool() {
  router tee /list >/dev/null && printf '#!/bin/sh\ncat /list\nexit %s\n' "$1" | router tee /usr/sbin/miniupnpctl >/dev/null &&
    router chmod 755 /usr/sbin/miniupnpctl
}

# leases writes standard input as the leases file.
leases() {
  router tee /var/db/upnp.leases >/dev/null
}

says_none() {
  page && grep -q 'No Active NAT-PMP/PCP or UPnP Leases' "$box/page" && ! grep '<tr>' "$box/page"
}

# has_text succeeds when the page has the text $1.
has_text() {
  page && { grep -F "$1" "$box/page" || ! cat "$box/page"; }
}

# lists tests lists that the tool might print.
lists() {
  title 'Lists of all kinds:'
  router rm -f /usr/sbin/miniupnpctl
  leases </dev/null
  check 'neither tool nor leases' says_none
  router rm -f /var/db/upnp.leases
  check 'nor the file' says_none
  echo '[]' | tool 0
  check 'an empty list' says_none
  kinds | tool 0
  check 'every kind of mapping, by port' are <<'END'
443|TCP|2001:db8::20|server|443|never|PCP, UPnP IPv6|web [from 2001:db8:9::/48, 203.0.113.9/32 port 99]
4000|UDP|192.168.50.10|laptop (gone)|4000|T|NAT-PMP (not in force: no LAN has the target&#039;s network)|NAT-PMP 4000 UDP
8080|TCP|192.168.50.11||80|never|UPnP (disabled)|&lt;script&gt;&quot;&#039;&amp;amp;??ü€?x??
END
  leases <<'END'
TCP:8080:192.168.50.10:80:0:a:b:c
UDP:90:192.168.50.10:90:4102444800:<b>'
TCP:91:192.168.50.10:91:1
junk
END
  check 'a list wins over the leases' has_text 'PCP, UPnP IPv6'
  for fault in 1 2 124; do
    kinds | tool $fault
    check "exit status $fault: the leases" from_leases
  done
  echo '[{"cut' | tool 0
  check 'a list that is cut off: the leases' from_leases
  printf 'TCP:1:192.168.50.10:1:0:a\377<\033\n' | leases
  printf '1|TCP|192.168.50.10||1|never||a\357\277\275&lt;?\n' >"$box/octets"
  router rm /usr/sbin/miniupnpctl
  check 'invalid octets, without the tool' are <"$box/octets"
}

from_leases() {
  are <<'END'
90|UDP|192.168.50.10||90|T||&lt;b&gt;&#039;
91|TCP|192.168.50.10||91|expired||
8080|TCP|192.168.50.10||80|never||a:b:c
END
}

# kinds prints a list with every field.
kinds() {
  cat <<'END'
[{"schema":1,"protocol":"TCP","external_port":8080,"client":"192.168.50.11","client_port":80,"origins":["UPnP"],"description":"<script>\"'&amp;\u001b\u0000ü€\u202ex\u200b\u2028","enabled":false,"remaining_seconds":null,"packets":null,"bytes":null},
 {"schema":1,"protocol":"UDP","external_port":4000,"client":"192.168.50.10","client_port":4000,"mac":"02:00:00:00:00:01","host_name":"laptop","gone":true,"origins":["NAT-PMP"],"description":"NAT-PMP 4000 UDP","enabled":true,"dormant":true,"dormant_reason":"no LAN has the target's network","remaining_seconds":3600,"packets":null,"bytes":null},
 {"schema":1,"protocol":"TCP","external_port":443,"pinhole":true,"client":"2001:db8::20","client_port":443,"host_name":"server","origins":["PCP","UPnP"],"description":"web","remote":["2001:db8:9::/48","203.0.113.9/32 port 99"],"enabled":true,"remaining_seconds":null,"packets":1,"bytes":100}]
END
}

upnp_add() {
  on lan timeout 20 upnpc -u http://192.168.50.1:5000/rootDesc.xml -e "$1" -a 192.168.50.10 8080 "$2" tcp "$3" | grep 'is redirected'
}

# daemon tests what the daemon's own list comes to.
daemon() {
  title "The daemon's own list:"
  router ln -sf miniupnpd /usr/sbin/miniupnpctl
  echo "4102444800 $(on lan cat /sys/class/net/eth0/address) 192.168.50.10 laptop *" | router tee /var/db/dnsmasq.leases >/dev/null
  check 'the daemon starts' router /etc/init.d/miniupnpd init
  check 'without mappings' says_none
  check 'a mapping by NAT-PMP' ask 40080 8080 tcp 3600
  check 'one by PCP' pcp_map 40091 9001
  # upnpc puts the text into its XML as it is.
  check 'one by UPnP with a hostile description' upnp_add "&lt;script&gt;a:b|&apos;&quot;&amp;amp;" 40070 0
  check 'the rows' are <<'END'
40070|TCP|192.168.50.10|laptop|8080|never|UPnP|&lt;script&gt;a:b|&#039;&quot;&amp;amp;
40080|TCP|192.168.50.10|laptop|8080|T|NAT-PMP|NAT-PMP 40080 TCP
40091|UDP|192.168.50.10|laptop|9001|T|PCP|PCP MAP 40091 UDP
END
  ip -n igdd-gw address delete 192.168.50.1/24 dev eth1
  check 'dormant without the LAN' until_true has_text '(not in force: '
  check 'the daemon stops' router /etc/init.d/miniupnpd stop
  check 'what it left in the file' has_text '<td>40091</td>'
}

if [ "$1" != --apart ]; then
  need_root
  exec unshare --mount --pid --fork --kill-child --mount-proc "$0" --apart
fi
need_go
need update-ca-certificates:ca-certificates ip:iproute2 iptables:iptables busybox:busybox php:php-cli natpmpc:natpmpc upnpc:miniupnpc socat:socat
built=$("$repo/scripts/build.sh" native) || exit 1
checks=0 failed=0
box=$(mktemp -d) || exit 1
trap 'lab_down; rm -rf "$box"' EXIT
trap 'exit 1' INT TERM
mkdir -p /run/netns && mount -t tmpfs names /run/netns && mount -t tmpfs scratch /run/lock && lab_folder=/run/lock/lab || exit 1
lab_up "$repo/${built##* }" || die 'cannot make the lab: this machine must allow network namespaces, mounts and iptables'
rc_conf | router tee /etc/rc.conf >/dev/null
example | router tee /example.php >/dev/null
lists
daemon
echo
if [ $failed -gt 0 ]; then
  echo "$failed of $checks checks FAILED"
  exit 1
fi
echo "All $checks checks passed."
