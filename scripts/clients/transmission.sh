# shellcheck shell=sh
# Transmission, by NAT-PMP and UPnP.

get() {
  from_debian transmission-daemon
}

exercise() {
  lan_start transmission-daemon --foreground --portmap --peerport 51413 --config-dir /tmp/transmission --log-debug
  opened TCP 51413
  opened UDP 51413
  before=$(external TCP 51413)
  check 'it ends' lan_stop
  closed TCP 51413 "$before"
}
