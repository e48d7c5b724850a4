# shellcheck shell=sh
# shellcheck disable=SC2154 # the frame sets lan_root, lan_host and said
# What two consoles that use the same port find out about the router: coturn's
# turnutils_natdiscovery (RFC 5780) and the older stun (RFC 3489). Each run has a server
# of its own, which the router has seen no flows to. stun asks from port 3074 how the NAT
# maps, and from 3075 how it filters.

# The servers' ports. Each has the next one, too.
stun_ports='3500 3502 3504 3506'

get() {
  from_debian coturn stun-client
}

exercise() {
  on wan ip address add 11.22.33.2/24 dev eth0
  for port in $stun_ports; do
    stun_server "$port"
  done
  check 'the STUN servers listen' within 30 stun_servers
  plays 192.168.50.10 3500 3502
  check 'the first console has its own port' [ "$mapped" = 3074 ]
  plays 192.168.50.11 3504 3506
  check 'the second console has another port' [ "${mapped:-3074}" != 3074 ]
}

# stun_server starts a server on port $1.
stun_server() {
  ip netns exec "$lab-wan" chroot "$lan_root" turnserver -n -S --no-cli --no-tls --no-dtls --listening-port="$1" \
    -L 11.22.33.1 -L 11.22.33.2 --pidfile="/tmp/turn-$1.pid" -l "/tmp/turn-$1.log" >"$lan_root/tmp/turn-$1.out" 2>&1 &
}

# stun_servers succeeds when the servers listen on both addresses.
stun_servers() {
  for port in $stun_ports; do
    for address in 11.22.33.1 11.22.33.2; do
      on wan ss -Hlun "src $address:$port" | grep -q . || return 1
    done
  done
}

# plays maps UDP ports 3074 and 3075 of the console at $1, and has both programs find out
# what its NAT is, by the servers on ports $2 and $3.
plays() {
  mapped=$(natpmp_port "$1" 3074)
  check "$1 has its port 3074 mapped" [ "${mapped:-0}" -gt 0 ]
  check "$1 has its port 3075 mapped" [ "$(natpmp_port "$1" 3075)" -gt 0 ]
  check 'its NAT filters independently of the endpoint' \
    finds 'Endpoint Independent Filtering' turnutils_natdiscovery -f -p "$2" -L "$1" -l 3074 11.22.33.1
  check 'its NAT maps independently of the endpoint' \
    finds 'Endpoint Independent Mapping' turnutils_natdiscovery -m -p "$2" -L "$1" -l 3074 11.22.33.1
  check 'stun finds the same' \
    finds 'Independent Mapping, Independent Filter' stun "11.22.33.1:$3" -v -i "$1" -p 3074
}

# finds succeeds if a program prints $1, and that its port is seen as the mapped one.
finds() {
  lan_says "$@" && echo "$lan_said" | grep "11.22.33.44:$mapped"
}
