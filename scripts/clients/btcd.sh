# shellcheck shell=sh
# btcd, a Bitcoin node, by UPnP version 1. It asks for its own port, for the host
# of its own name instead of an address, every quarter of an hour.

# shellcheck source=go/lib.sh disable=SC2154
. "$clients/go/lib.sh"

get() {
  GOBIN=$cache/go CGO_ENABLED=0 go install github.com/btcsuite/btcd@v0.24.2
}

play() {
  on lan chroot "$lan_root" env HOME=/home/client /mnt/clients/go/btcd --upnp --simnet --nodnsseed --norpc >"$lan_root/tmp/btcd.log" 2>&1 </dev/null &
  opened TCP 18555
}
