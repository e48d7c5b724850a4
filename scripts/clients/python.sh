# shellcheck shell=sh
# shellcheck disable=SC2154 # the frame sets lan_root, lan_host and said
# miniupnpc's Python module, by UPnP. Deluge's plug-ins, Electrum and many
# scripts use it.

# shellcheck disable=SC2034 # the frame tests each
versions='both 1 2'

get() {
  from_debian python3-miniupnpc
}

python() {
  lan_says "$1" /usr/bin/python3 /mnt/drivers/python.py "$2" "$3"
}

exercise() {
  check 'addportmapping: TCP 40001' python "^('$lan_host', 8080, 'from Python', True, " add 40001
  check 'from the Internet, TCP 40001 reaches the client' call tcp 40001
  check 'deleteportmapping' python '^True None' delete 40001
  check 'from the Internet, TCP 40001 is closed' silent tcp 40001
  if [ "$1" = 1 ]; then
    check 'addanyportmapping is refused by version 1' python 'Invalid Action' any 40002
    check 'and opens nothing' silent tcp 40002
    return
  fi
  check 'addanyportmapping: TCP 40002' python '^40002' any 40002
  check 'from the Internet, TCP 40002 reaches the client' call tcp 40002
  check 'deleteportmappingrange' python '^True None' range 40002
  check 'from the Internet, TCP 40002 is closed' silent tcp 40002
}
