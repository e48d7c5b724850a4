# shellcheck shell=sh
# gitlab.com/NebulousLabs/go-upnp, by which Sia and its kin ask.

# shellcheck source=go/lib.sh disable=SC2154
. "$clients/go/lib.sh"

get() {
  from_go nebulous
}

play() {
  holds nebulous
}
