# shellcheck shell=sh
# nat-port-mapper 1 for Node.js, by UPnP. js-libp2p used it. Its NAT-PMP
# asks for port 0, whatever it is told, which no router can give.

get() {
  needs_npm && from_npm @achingbrain/nat-port-mapper@1.0.13
}

exercise() {
  lan_start node /mnt/drivers/nat-port-mapper1.mjs
  opened TCP 8080
  check 'from the Internet, its service answers' call tcp 8080
  opened UDP 9000
  check 'it deletes the ports' lan_stop
  closed TCP 8080 8080
  closed UDP 9000 9000
}
