# shellcheck shell=sh
# lukechampine.com/upnp, by which Sia's newer programs ask: UPnP version 1.

# shellcheck source=go/lib.sh disable=SC2154
. "$clients/go/lib.sh"

get() {
  from_go lukechampine
}

play() {
  holds lukechampine
}
