# shellcheck shell=sh
# github.com/anacrolix/upnp, which the torrent client of that name uses.

# shellcheck source=go/lib.sh disable=SC2154
. "$clients/go/lib.sh"

get() {
  from_go anacrolix
}

exercise() {
  holds anacrolix
}
