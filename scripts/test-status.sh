#!/bin/sh
#
# Tests the page of leases under every shell, and with busybox's programs too:
# lease files in, rows out. Prints only what is wrong.

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

test_nothing() {
  for leases in '' '\n' 'junk'; do
    expect "nothing: '$leases'" "$leases" ''
    holds 'No active NAT-PMP/PCP or UPnP leases'
  done
  case='no file'
  rm "$root/var/db/upnp.leases"
  run
  holds 'No active NAT-PMP/PCP or UPnP leases'
}

test_answer() {
  expect answer 'TCP:8080:192.168.50.10:80:0:web' '8080|TCP|192.168.50.10|80|never|web'
  holds "Content-Type: text/html; charset=utf-8$(printf '\r')"
  holds "Content-Security-Policy: default-src 'none'"
  holds '1 in force at 2023-11-14 22:13:20'
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
  holds '7 in force'
  expect 'all expired' 'TCP:2:192.168.50.10:1:1:x
TCP:3:192.168.50.10:1:1700000000:x' ''
  holds 'No active NAT-PMP/PCP or UPnP leases'
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
  holds '200 in force'
}

# test_shell runs all cases under shell $1, with the folder $2 to work in.
test_shell() {
  shell=$1 wrong=0
  mkdir "$2" && scratch_root "$2" /bin/true && mkdir "$root/fixture" || exit 1
  programs=/fixture:/usr/bin:/bin
  if [ "$1" = 'busybox ash' ]; then
    for applet in awk cat sed sort tr wc; do
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

case $1 in
inside)
  test_shells "$2"
  ;;
*)
  need_root
  need busybox:busybox dash:dash bash:bash
  box=$(mktemp -d) || exit 1
  trap 'rm -rf "$box"' EXIT
  unshare --mount --pid --fork --kill-child --mount-proc "$0" inside "$box"
  ;;
esac
