# shellcheck shell=sh
# The packages of Syncthing for UPnP and NAT-PMP.

# shellcheck source=go/lib.sh disable=SC2154
. "$clients/go/lib.sh"

# shellcheck disable=SC2034 # the frame tests each
versions='both 1 2'

get() {
  from_go syncthing-lib
}

exercise() {
  holds syncthing-lib upnp
  lapses syncthing-lib pmp
  [ "$1" = 1 ] || pinholes
}

# pinholes are asked for over IPv6, where the router is found in the site-local
# group, from each address that they are for.
pinholes() {
  hold syncthing-lib pinhole
  check 'syncthing-lib pinhole finds the router and asks' prints mapped
  check 'from the Internet, TCP 8080 reaches the client' knock TCP 2001:db8:50::10 8080 8080
  check 'from the Internet, UDP 9000 reaches the client' knock UDP 2001:db8:50::10 9000 9000
  check 'it asks again' renew
  release
  check 'TCP 8080 is closed when the lease ends' within 45 no_knock TCP 2001:db8:50::10 8080 8080
  check 'UDP 9000 is closed when the lease ends' within 45 no_knock UDP 2001:db8:50::10 9000 9000
}
