# shellcheck shell=sh
# The NAT service of github.com/libp2p/go-libp2p, which renews by itself.

# shellcheck source=go/lib.sh disable=SC2154
. "$clients/go/lib.sh"

get() {
  from_go libp2p
}

# expires prints when the lease of TCP 8080 ends.
expires() {
  leases | awk -F: '$1 == "TCP" && $4 == 8080 { print $5 }'
}

prolonged() {
  [ "$(expires)" -gt "$1" ]
}

exercise() {
  asks libp2p || return 0
  check 'within 45 s it renews by itself' within 45 prolonged "$(expires)"
  check 'which changes nothing' stay
  release
  check 'it deletes them' prints unmapped
  closed TCP 8080 "$outer_tcp"
  closed UDP 9000 "$outer_udp"
}
