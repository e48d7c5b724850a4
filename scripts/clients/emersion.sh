# shellcheck shell=sh
# github.com/emersion/go-upnp-igd, an older relative of Syncthing's code.

# shellcheck source=go/lib.sh disable=SC2154
. "$clients/go/lib.sh"

get() {
  from_go emersion
}

exercise() {
  holds emersion
}
