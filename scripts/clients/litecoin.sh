# shellcheck shell=sh
# Litecoin's daemon, by UPnP. Bitcoin Core's was the same until its version 29.

get() {
  from_debian litecoind
}

exercise() {
  check 'its program knows -upnp' lan_says '-upnp' litecoind -help
  lan_start litecoind -regtest -upnp=1 -listen=1 -port=19444 -bind=0.0.0.0 -dnsseed=0 -disablewallet -datadir=/tmp -printtoconsole -debug=net
  opened TCP 19444
  before=$(external TCP 19444)
  check 'it ends' lan_stop
  closed TCP 19444 "$before"
}
