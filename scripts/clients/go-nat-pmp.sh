# shellcheck shell=sh
# github.com/jackpal/go-nat-pmp, which most Go programs use for NAT-PMP.

# shellcheck source=go/lib.sh disable=SC2154
. "$clients/go/lib.sh"

get() {
  from_go go-nat-pmp
}

exercise() {
  holds go-nat-pmp
}
