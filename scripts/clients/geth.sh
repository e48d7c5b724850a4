# shellcheck shell=sh
# The NAT package of go-ethereum, by what its option --nat takes.

# shellcheck source=go/lib.sh disable=SC2154
. "$clients/go/lib.sh"

get() {
  from_go geth
}

exercise() {
  holds geth any
  holds geth upnp
  holds geth pmp
}
