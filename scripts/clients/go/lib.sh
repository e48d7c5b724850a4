# shellcheck shell=sh
# shellcheck disable=SC2154 # the variables are those of scripts/test-clients.sh

# What the clients written in Go share: each has a folder here, and package hold
# says what its program reads and prints.

# from_go builds the program of folder $1 into the cache.
from_go() {
  CGO_ENABLED=0 go build -C "$clients/go" -buildvcs=false -o "$cache/go/$1" "./$1"
}

# hold starts program $1 with the arguments behind it on the LAN client. It lives
# until release closes its standard input, our descriptor 3. The host keeps one
# address: with two, several libraries search from each, ask for the one that
# heard an answer first, and connect from the other.
hold() {
  on lan ip address flush dev eth0 to 192.168.50.11
  hold_log=$lan_root/tmp/$(echo "$*" | tr -c '[:alnum:]\n' -).log
  holder=/mnt/clients/go/$1
  shift
  rm -f "$work/hold" && mkfifo "$work/hold" || return 1
  on lan chroot "$lan_root" env HOME=/home/client "$holder" "$@" <"$work/hold" >"$hold_log" 2>&1 &
  exec 3>"$work/hold"
}

release() {
  exec 3>&-
}

# prints waits for the program to print line $1.
prints() {
  within 15 grep -qx "$1" "$hold_log" || {
    cat "$hold_log"
    return 1
  }
}

# renew has the program ask for its mappings again; one that has ended already
# is no reason for us to end.
renew() {
  (
    trap '' PIPE
    echo >&3
  ) 2>/dev/null
  prints renewed
}

# asks checks that program $1 with the arguments behind it gets TCP 8080 and UDP
# 9000, that they work, and that it may ask again.
asks() {
  hold "$@"
  check "$* finds the router and maps" prints mapped
  grep -qx mapped "$hold_log" || return 1
  check 'it reads the external address' prints "external $wan_address"
  opened TCP 8080
  outer_tcp=$outer
  opened UDP 9000
  outer_udp=$outer
  check 'it asks again' renew
  check 'which changes nothing' stay
}

stay() {
  [ "$(external TCP 8080)" = "$outer_tcp" ] && [ "$(external UDP 9000)" = "$outer_udp" ]
}

# holds checks as asks does, and that the program deletes its mappings.
holds() {
  asks "$@" || return 0
  release
  check 'it deletes them' prints unmapped
  closed TCP 8080 "$outer_tcp"
  closed UDP 9000 "$outer_udp"
}

# lapses checks as asks does, and that the leases, which end soon, end.
lapses() {
  asks "$@" || return 0
  release
  check 'the leases of both end' within 45 none_left
  closed TCP 8080 "$outer_tcp"
  closed UDP 9000 "$outer_udp"
}

none_left() {
  no_external TCP 8080 && no_external UDP 9000
}
