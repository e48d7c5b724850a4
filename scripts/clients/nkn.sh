# shellcheck shell=sh
# github.com/nknorg/go-nat, by NAT-PMP.

# shellcheck source=go/lib.sh disable=SC2154
. "$clients/go/lib.sh"

get() {
  from_go nkn
}

exercise() {
  lapses nkn
}
