# shellcheck shell=sh
# github.com/jackpal/go-nat-pmp, by which most Go programs ask by NAT-PMP.

# shellcheck source=go/lib.sh disable=SC2154
. "$clients/go/lib.sh"

get() {
  from_go go-nat-pmp
}

play() {
  holds go-nat-pmp
}
