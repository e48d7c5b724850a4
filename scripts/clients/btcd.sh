# shellcheck shell=sh
# btcd, a Bitcoin node, by UPnP version 1. It asks for its own port, for the host
# of its own name instead of an address, every quarter of an hour.

# shellcheck source=go/lib.sh disable=SC2154
. "$clients/go/lib.sh"

get() {
  GOBIN=$cache/go CGO_ENABLED=0 go install github.com/btcsuite/btcd@v0.24.2
}

exercise() {
  lan_start /mnt/clients/go/btcd --upnp --simnet --nodnsseed --norpc
  opened TCP 18555
  check 'it ends' lan_stop
  closed TCP 18555 "$outer"
}
