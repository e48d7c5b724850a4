# shellcheck shell=sh
# The portmapper of Tailscale, for UDP: each of its protocols alone, and all of
# them where the router's settings leave one.

# shellcheck source=go/lib.sh disable=SC2154
. "$clients/go/lib.sh"

get() {
  from_go tailscale
}

exercise() {
  finds 'pcp=true pmp=true upnp=true' pcp pmp upnp
  finds 'pcp=false pmp=true upnp=false' pmp
  finds 'pcp=false pmp=false upnp=true' upnp
  set_up UPNP_ENABLE_NATPMP
  finds 'pcp=false pmp=false upnp=true' pcp pmp upnp
  set_up UPNP_ENABLE_UPNP
  finds 'pcp=true pmp=true upnp=false' pcp pmp upnp
  new_nonces
}

# set_up starts the daemon with the default settings, but for one that is "no".
set_up() {
  check "the daemon starts with $1=no" without "$1"
}

without() {
  { rc_conf both && echo "$1=no"; } | router tee /etc/rc.conf >/dev/null &&
    router /etc/init.d/miniupnpd restart
}

# uses checks that the portmapper, using the protocols behind $1, sees those of
# the router that $1 says, and that what it maps works.
uses() {
  found=$1
  shift
  hold tailscale "$@"
  check "tailscale $* probes: $found" prints "probe $found"
  check 'it maps' prints mapped
  check 'it reads the external address' prints "external $wan_address"
  opened UDP 9000
}

# finds checks as uses does, and that the mapping ends when it is closed.
finds() {
  uses "$@"
  release
  check 'it deletes it' prints unmapped
  closed UDP 9000 "$outer"
}

# new_nonces checks PCP alone. Each request of the portmapper has another nonce,
# so a mapping outlives it, but the next one may have the port again.
new_nonces() {
  uses 'pcp=true pmp=false upnp=false' pcp
  release
  check 'it ends' prints unmapped
  outer_udp=$outer
  uses 'pcp=true pmp=false upnp=false' pcp
  check 'it has the port that the last one had' [ "$outer" = "$outer_udp" ]
  release
}
