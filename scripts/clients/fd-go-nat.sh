# shellcheck shell=sh
# github.com/fd/go-nat, from which libp2p's came, by NAT-PMP.

# shellcheck source=go/lib.sh disable=SC2154
. "$clients/go/lib.sh"

get() {
  from_go fd-go-nat
}

exercise() {
  lapses fd-go-nat
}
