# shellcheck shell=sh
# shellcheck disable=SC2154 # the frame sets lan_root, lan_host and said
# miniupnpc's command line client, by UPnP: searches for version 1, and calls
# the actions of version 2 as well.

# shellcheck disable=SC2034 # the frame tests each
versions='both 1 2'

get() {
  from_debian miniupnpc
}

upnpc() {
  wanted=$1
  shift
  lan_says "$wanted" upnpc "$@"
}

exercise() {
  check 'upnpc -s finds the router' upnpc 'ExternalIPAddress = 11.22.33.44' -s
  check 'upnpc -a: TCP 40001' upnpc 'is redirected to internal 192.168.50.10:8080' -e 'a game' -a "$lan_host" 8080 40001 tcp 600
  check 'from the Internet, TCP 40001 reaches the client' call tcp 40001
  check 'upnpc -l lists it' upnpc "40001->192.168.50.10:8080  'a game'" -l
  check 'upnpc -r: UDP 40002' upnpc 'is redirected to internal 192.168.50.10:9000' -r 9000 40002 udp
  check 'from the Internet, UDP 40002 reaches the client' call udp 40002
  check 'upnpc -d deletes TCP 40001' upnpc 'returned : 0' -d 40001 tcp
  check 'from the Internet, TCP 40001 is closed' silent tcp 40001
  check 'upnpc -d deletes UDP 40002' upnpc 'returned : 0' -d 40002 udp
  check 'from the Internet, UDP 40002 is closed' silent udp 40002
  if [ "$1" = 1 ]; then
    check 'upnpc -n is refused by version 1' upnpc 'failed with code 401' -n "$lan_host" 8080 40003 tcp 600
    check 'and opens nothing' silent tcp 40003
    return
  fi
  any_port
  pinhole
}

any_port() {
  check 'upnpc -n: any port, TCP 40003 if free' upnpc '11.22.33.44:40003 TCP is redirected to internal 192.168.50.10:8080' -n "$lan_host" 8080 40003 tcp 600
  check 'from the Internet, TCP 40003 reaches the client' call tcp 40003
  check 'upnpc -L lists it' upnpc 'TCP 40003->192.168.50.10:8080' -L
  check 'upnpc -N deletes TCP 40000 to 41000' lan upnpc -N 40000 41000 tcp
  check 'from the Internet, TCP 40003 is closed' silent tcp 40003
}

# pinhole asks over IPv6, where the router is found in the link-local group.
pinhole() {
  check 'upnpc -6 -S: the firewall, and that it can be opened' upnpc 'Inbound Pinhole Allowed: Yes' -6 -S
  check 'upnpc -6 -A: a pinhole to TCP 8080' upnpc 'Pinhole ID = ' -6 -A '' 0 2001:db8:50::10 8080 tcp 600
  uid=$(echo "$said" | sed -n 's/.*Pinhole ID = \([0-9]*\).*/\1/p')
  check 'from the Internet, it reaches the client' knock TCP 2001:db8:50::10 8080 8080
  check 'upnpc -6 -C asks after it' upnpc 'IsWorking = Yes' -6 -C "${uid:-0}"
  check 'upnpc -6 -K counts its packets' upnpc 'PinholePackets = [1-9]' -6 -K "${uid:-0}"
  check 'upnpc -6 -D closes it' upnpc 'returned : 0' -6 -D "${uid:-0}"
  check 'from the Internet, it is closed' no_knock TCP 2001:db8:50::10 8080 8080
}
