# shellcheck shell=sh
# The UPnP code of Tendermint, which came from Taipei-Torrent as btcd's did.

# shellcheck source=go/lib.sh disable=SC2154
. "$clients/go/lib.sh"

get() {
  from_go tendermint
}

exercise() {
  holds tendermint
}
