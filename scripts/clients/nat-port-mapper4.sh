# shellcheck shell=sh
# nat-port-mapper 4 for Node.js, by UPnP and by NAT-PMP. js-libp2p uses it. By UPnP
# it deletes nothing, because it names no protocol: its leases last an hour.

get() {
  needs_npm && from_npm @achingbrain/nat-port-mapper@4.0.5
}

exercise() {
  hold pmp
  closed TCP 8080 8080
  closed UDP 9000 9000
  hold upnp
}

# hold has it hold two ports by protocol $1 for a while.
hold() {
  lan_start node /mnt/drivers/nat-port-mapper4.mjs "$1"
  opened TCP 8080
  check 'from the Internet, its service answers' call tcp 8080
  opened UDP 9000
  check "$1: it ends" lan_stop
}
