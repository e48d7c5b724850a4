# shellcheck shell=sh
# github.com/huin/goupnp, which most Go programs use for UPnP.

# shellcheck source=go/lib.sh disable=SC2154
. "$clients/go/lib.sh"

# shellcheck disable=SC2034 # the frame tests each
versions='both 1 2'

get() {
  from_go goupnp
}

exercise() {
  [ "$1" = 2 ] || holds goupnp 1
  [ "$1" = 1 ] || holds goupnp 2
  [ "$1" = 1 ] || holds goupnp any
  pinholes "$1"
}

pinholes() {
  hold goupnp pinhole
  if [ "$1" = 1 ]; then
    check 'goupnp pinhole finds no such service' prints '.* no gateway found'
    return
  fi
  check 'goupnp pinhole is refused over IPv4' prints '.*<errorCode>606</errorCode>.*'
  release
  hold goupnp pinhole 2001:db8:50::1
  check 'goupnp pinhole asks over IPv6' prints mapped
  check 'from the Internet, TCP 8080 reaches the client' knock TCP 2001:db8:50::10 8080 8080
  check 'from the Internet, UDP 9000 reaches the client' knock UDP 2001:db8:50::10 9000 9000
  check 'it asks again' renew
  release
  check 'it deletes them' prints unmapped
  check 'from the Internet, TCP 8080 is closed' no_knock TCP 2001:db8:50::10 8080 8080
  check 'from the Internet, UDP 9000 is closed' no_knock UDP 2001:db8:50::10 9000 9000
}
