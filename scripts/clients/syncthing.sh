# shellcheck shell=sh
# Debian's Syncthing, by UPnP and NAT-PMP.

get() {
  from_debian syncthing
}

exercise() {
  lan_start syncthing serve --no-browser --no-restart --home=/tmp/syncthing
  opened TCP 22000
  check 'it ends' lan_stop
}
