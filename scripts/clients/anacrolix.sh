# shellcheck shell=sh
# github.com/anacrolix/upnp, by which the torrent client of that name asks.

# shellcheck source=go/lib.sh disable=SC2154
. "$clients/go/lib.sh"

get() {
  from_go anacrolix
}

play() {
  holds anacrolix
}
