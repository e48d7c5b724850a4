# shellcheck shell=sh
# The NAT package of AvalancheGo, for TCP: goupnp's code, driven in another way.

# shellcheck source=go/lib.sh disable=SC2154
. "$clients/go/lib.sh"

get() {
  from_go avalanche
}

exercise() {
  hold avalanche
  check 'avalanche finds the router and maps' prints mapped
  check 'it reads the external address' prints "external $wan_address"
  opened TCP 8080
  check 'it asks again' renew
  release
  check 'it deletes it' prints unmapped
  closed TCP 8080 "$outer"
}
