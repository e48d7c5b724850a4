# shellcheck shell=sh
# lukechampine.com/upnp, which newer programs of Sia use: UPnP version 1.

# shellcheck source=go/lib.sh disable=SC2154
. "$clients/go/lib.sh"

get() {
  from_go lukechampine
}

exercise() {
  holds lukechampine
}
