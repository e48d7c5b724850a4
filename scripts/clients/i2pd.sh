# shellcheck shell=sh
# i2pd, by UPnP. It deletes nothing when it ends.

get() {
  from_debian i2pd
}

exercise() {
  lan_start i2pd --datadir=/tmp/i2pd --upnp.enabled=true --port=12345 --reseed.urls=https://127.0.0.1:9/ --log=stdout --loglevel=debug
  opened TCP 12345
  opened UDP 12345
  check 'it ends' lan_stop
}
