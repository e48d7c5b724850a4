# shellcheck shell=sh
# github.com/libp2p/go-nat, by both versions of UPnP. By NAT-PMP it finds no
# router, because go-netroute 0.4, which go-libp2p brings, cannot look up 0.0.0.0.

# shellcheck source=go/lib.sh disable=SC2154
. "$clients/go/lib.sh"

get() {
  from_go go-nat
}

exercise() {
  for type in 'UPNP (IG1-IP1)' 'UPNP (IG2-IP2)'; do
    holds go-nat "$type"
  done
}
