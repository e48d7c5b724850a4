# shellcheck shell=sh
# libnatpmp's client, by NAT-PMP. miniupnpd's own documentation tests with it.

get() {
  from_debian natpmpc
}

exercise() {
  check 'natpmpc reads the external address' lan_says 'Public IP address : 11.22.33.44' natpmpc
  for ports in 'tcp 40001 8080' 'udp 40002 9000'; do
    # shellcheck disable=SC2086 # protocol, external and internal port
    set -- $ports
    check "natpmpc -a: $1 $2 to port $3" lan_says "Mapped public port $2" natpmpc -a "$2" "$3" "$1" 600
    check "from the Internet, $1 $2 reaches the client's service" call "$1" "$2"
    check "natpmpc -a with lifetime 0" lan_says 'Mapped public port' natpmpc -a "$2" "$3" "$1" 0
    check "from the Internet, $1 $2 is closed" silent "$1" "$2"
  done
}
