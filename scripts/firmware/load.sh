# shellcheck shell=sh
# Clients that ask the machine of firmware.sh for ports all the time, and what
# must be left of that after a power cut, to be sourced by it. $box is its folder.
# shellcheck disable=SC2154 # firmware.sh sets $box, $lab and $repo

# The delays in milliseconds after which a change is on the disk: those of the
# lease store, 200 ms and for renewals 2 s, and what three writes take on a slow
# machine: the one under way, the pause of that length, and the next one.
grace=3000

# wishes prints 10,000 requests of the protocol $1 for its 20 ports, drawn by the
# seed $2. A line has the mapping, PROTOCOL:PORT:ADDRESS:PORT, the lifetime in
# seconds, 0 to delete it, and the request as a format for printf.
wishes() {
  awk -v protocol="$1" -v seed="$2" '
    function octets(number, size, text) {
      for (text = ""; size > 0; size--) {
        text = sprintf("\\%03o", number % 256) text
        number = int(number / 256)
      }
      return text
    }
    function mapped(address) { return octets(0, 10) "\\377\\377" address }
    function argument(name, value) { return "<" name ">" value "</" name ">" }
    function action(name, arguments) {
      body = "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body><u:" name " xmlns:u=\"" \
        service "\">" arguments "</u:" name "></s:Body></s:Envelope>"
      return "POST /ctl/IPConn HTTP/1.1\\r\\nHost: 192.168.50.1:5000\\r\\nConnection: close\\r\\nSOAPAction: \"" \
        service "#" name "\"\\r\\nContent-Length: " length(body) "\\r\\n\\r\\n" body
    }
    function upnp(port, lifetime, key) {
      key = argument("NewRemoteHost", "") argument("NewExternalPort", port) argument("NewProtocol", "TCP")
      if (lifetime == 0)
        return action("DeletePortMapping", key)
      return action("AddPortMapping", key argument("NewInternalPort", port) argument("NewInternalClient", client) \
        argument("NewEnabled", 1) argument("NewPortMappingDescription", "load") argument("NewLeaseDuration", lifetime))
    }
    function natpmp(port, lifetime) {
      return "\\000\\002" octets(0, 2) octets(port, 2) octets(lifetime ? port : 0, 2) octets(lifetime, 4)
    }
    function pcp(port, lifetime) {
      return "\\002\\001" octets(0, 2) octets(lifetime, 4) mapped("\\300\\250\\062\\012") octets(7, 12) "\\021" \
        octets(0, 3) octets(port, 2) octets(lifetime ? port : 0, 2) mapped(octets(0, 4))
    }
    BEGIN {
      service = "urn:schemas-upnp-org:service:WANIPConnection:1"
      client = "192.168.50.10"
      srand(seed + length(protocol)) # another sequence for each
      for (i = 0; i < 10000; i++) {
        lifetime = rand() < 0.25 ? 0 : 1800 + int(3600 * rand())
        port = int(20 * rand())
        if (protocol == "natpmp")
          print "TCP:" (port += 41000) ":" client ":" port, lifetime, natpmp(port, lifetime)
        else if (protocol == "pcp")
          print "UDP:" (port += 42000) ":" client ":" port, lifetime, pcp(port, lifetime)
        else
          print "TCP:" (port += 43000) ":" client ":" port, lifetime, upnp(port, lifetime)
      }
    }'
}

# The responses are read by their lengths. Each of these functions sends its
# input, and fails unless the machine does what was asked; a mapping that does not
# exist counts as deleted.
ask_natpmp() {
  [ "$(socat -t 5 - UDP4:192.168.50.1:5351,readbytes=16 | od -A n -t x1 -j 2 -N 2)" = ' 00 00' ]
}

ask_pcp() {
  [ "$(socat -t 5 - UDP4:192.168.50.1:5351,readbytes=60 | od -A n -t x1 -j 3 -N 1)" = ' 00' ]
}

ask_upnp() {
  socat -t 5 - TCP4:192.168.50.1:5000,shut-none | grep -q -e '^HTTP/1.1 200' -e '<errorCode>714<'
}

# load asks by the protocol $1, with the seed $2, until it is ended. Each request
# is noted before it is sent and after it was granted: the time in milliseconds,
# "ask" or "got", the mapping, and when it ends in seconds, 0 if it is deleted.
load() {
  wishes "$1" "$2" | while read -r mapping lifetime request; do
    end=$(((lifetime > 0) * $(date +%s) + lifetime))
    echo "$(date +%s%3N) ask $mapping $end"
    # shellcheck disable=SC2059 # the format is the request
    ! printf "$request" | "ask_$1" || echo "$(date +%s%3N) got $mapping $end"
  done
}

# note_saved begins new ledgers. What is saved already was granted long ago.
note_saved() {
  saved | awk -F : '{ print 0, "got", $1 ":" $2 ":" $3 ":" $4, $5 }' >"$box/ledger.saved"
  for protocol in natpmp pcp upnp; do
    : >"$box/ledger.$protocol"
  done
}

# load_up starts a client of each protocol, with the seed $1.
load_up() {
  note_saved
  loads=
  for protocol in natpmp pcp upnp; do
    # shellcheck disable=SC2016 # the inner shell expands it
    setsid ip netns exec "$lab-lan" sh -c '. "$1/scripts/firmware/load.sh" && load "$2" "$3"' - "$repo" $protocol "$1" \
      >"$box/ledger.$protocol" 2>/dev/null &
    loads="$loads $!"
  done
}

# load_down ends the clients, each of which leads a process group.
load_down() {
  for leader in $loads; do
    kill -s KILL -- "-$leader" 2>/dev/null
    wait "$leader" 2>/dev/null
  done
}

# saved prints the lease file.
saved() {
  guest cat /mnt/kd/upnp.leases
}

# whole fails unless each line of the lease file is a lease.
whole() {
  ! saved | grep -v -x -E '(TCP|UDP):[0-9]+:192\.168\.50\.[0-9]+:[0-9]+:[0-9]+:[^:]*'
}

# agreed fails unless kernel, table and lease file have the same mappings.
agreed() {
  saved | cut -d : -f 1-4 | sort >"$box/in.file"
  guest miniupnpctl list | awk 'NR > 1 { print $1 ":" $2 ":" $3 ":" $4 }' | sort >"$box/in.table"
  guest iptables -t nat -S MINIUPNPD |
    sed -n 's/.* -p \([a-z]*\) .*--dport \([0-9]*\) -j DNAT --to-destination \(.*\)/\1:\2:\3/p' | tr tcpud TCPUD | sort >"$box/in.kernel"
  diff "$box/in.file" "$box/in.table" && diff "$box/in.file" "$box/in.kernel"
}

# survived fails unless the lease file is what the clients were granted until the
# power cut at $1, in milliseconds, apart from the last $grace: then a change may
# be missing. A lease may end 5 s beside its time, and later by what the machine
# cannot know: how long it was off, until $2 in seconds. The age of the oldest
# change that is missing, in milliseconds, is left in $box/missing.
survived() {
  saved >"$box/leases"
  awk -v cut="$1" -v now="$2" -v grace=$grace -v missing="$box/missing" '
    function is(found, wanted) {
      return found ? wanted && found >= wanted - 5 && found <= wanted + now - cut / 1000 + 5 : !wanted
    }
    FILENAME ~ /leases$/ {
      split($0, field, ":")
      mapping = field[1] ":" field[2] ":" field[3] ":" field[4]
      found[mapping] = field[5]
      count[mapping] += 0
      next
    }
    {
      i = ++count[$3]
      at[$3, i] = $1; verb[$3, i] = $2; end[$3, i] = $4
      if ($2 == "got" && $1 <= cut - grace)
        certain[$3] = i
    }
    END {
      for (mapping in count) {
        state = -1
        for (i = certain[mapping] + 0; i <= count[mapping]; i++)
          if (is(found[mapping] + 0, end[mapping, i] + 0))
            state = i
        if (state < 0) {
          failed = 1
          print mapping, "ends at", found[mapping] + 0 "; cut at", cut
          for (i = 1; i <= count[mapping]; i++)
            print " ", at[mapping, i], verb[mapping, i], end[mapping, i]
        }
        for (i = state + 1; state >= 0 && i <= count[mapping]; i++)
          if (verb[mapping, i] == "got" && cut - at[mapping, i] > oldest)
            oldest = cut - at[mapping, i]
      }
      print oldest + 0 >missing
      exit failed
    }' "$box/ledger.saved" "$box/ledger.natpmp" "$box/ledger.pcp" "$box/ledger.upnp" "$box/leases"
}

# granted prints how many requests the clients were granted; it fails if one
# protocol granted none.
granted() {
  for protocol in natpmp pcp upnp; do
    grep -q ' got ' "$box/ledger.$protocol" || { echo "no request by $protocol was granted" && return 1; }
  done
  cat "$box/ledger.natpmp" "$box/ledger.pcp" "$box/ledger.upnp" | grep -c ' got '
}

# quiet fails if the daemon has logged an error or a warning since the boot.
quiet() {
  ! guest "grep -E '[a-z]+[.](emerg|alert|crit|err|warn) miniupnpd' /var/log/messages"
}
