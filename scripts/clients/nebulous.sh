# shellcheck shell=sh
# gitlab.com/NebulousLabs/go-upnp, which Sia and related programs use.

# shellcheck source=go/lib.sh disable=SC2154
. "$clients/go/lib.sh"

get() {
  from_go nebulous
}

exercise() {
  holds nebulous
}
