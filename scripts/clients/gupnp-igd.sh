# shellcheck shell=sh
# GUPnP IGD, by UPnP. Pidgin, Empathy and other programs with libnice use it.

get() {
  from_debian gir1.2-gupnpigd-1.0 python3-gi
}

exercise() {
  lan_start /usr/bin/python3 /mnt/drivers/gupnp-igd.py
  opened TCP 8080
  outer=$(external TCP 8080)
  check 'from the Internet, its service answers' call tcp "${outer:-0}"
  check 'it deletes the port' lan_stop
  closed TCP 8080 "$outer"
}
