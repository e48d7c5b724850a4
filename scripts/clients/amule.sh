# shellcheck shell=sh
# shellcheck disable=SC2154 # the frame sets lan_root, lan_host and said
# aMule's daemon, by UPnP. Where the router answers over IPv6 as well, it asks
# over IPv6 for ports to its IPv4 address, and is refused.

# shellcheck disable=SC2034 # the frame sets it
ipv6=no

get() {
  from_debian amule-daemon
}

exercise() {
  mkdir -p "$lan_root/home/client/.aMule"
  cat >"$lan_root/home/client/.aMule/amule.conf" <<'END'
[eMule]
Port=4662
UDPPort=4672
UPnPEnabled=1
UPnPTCPPort=50000
[ExternalConnect]
UPnPECEnabled=0
AcceptExternalConnections=1
ECPassword=5ebe2294ecd0e0f08eab7690d2a6ee69
END
  lan_start amuled
  opened TCP 4662
  opened UDP 4672
  opened UDP 4665
  before=$(external TCP 4662)
  check 'it ends' lan_stop
  closed TCP 4662 "$before"
}
