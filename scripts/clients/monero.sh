# shellcheck shell=sh
# Monero's daemon, by UPnP.

get() {
  from_debian monero
}

exercise() {
  lan_start monerod --stagenet --non-interactive --data-dir=/tmp/monero --p2p-bind-port=18080 --igd=enabled --rpc-ssl=disabled --log-level=1
  opened TCP 18080
  check 'it is up' within 30 lan_logged 'core RPC server started ok'
  before=$(external TCP 18080)
  check 'it ends' lan_stop
  closed TCP 18080 "$before"
}
