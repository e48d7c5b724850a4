# shellcheck shell=sh
# Net::UPnP for Perl, by UPnP.

get() {
  from_debian libnet-upnp-perl
}

net_upnp() {
  lan_says "$1" perl /mnt/drivers/net-upnp.pl "$2"
}

exercise() {
  check 'it adds TCP 40001' net_upnp '^1 11.22.33.44' add
  check 'from the Internet, TCP 40001 reaches the client' call tcp 40001
  check 'it lists it' net_upnp '^40001 192.168.50.10:8080' list
  check 'it deletes TCP 40001' net_upnp '^1' delete
  check 'from the Internet, TCP 40001 is closed' silent tcp 40001
}
