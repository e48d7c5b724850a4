# shellcheck shell=sh
# sbbi's UPNPLib for Java, by UPnP. Games and p2pool use it.

get() {
  from_debian libupnp-java default-jdk-headless
}

upnplib() {
  wanted=$1
  shift
  lan_says "$wanted" /usr/lib/jvm/default-java/bin/java -cp /usr/share/java/upnp.jar /mnt/drivers/UPNPLib.java "$@"
}

exercise() {
  check 'it finds the router in each of ten searches' upnplib '^found 10 times' search
  check 'it adds TCP 40001' upnplib '^true 11.22.33.44' add
  check 'from the Internet, TCP 40001 reaches the client' call tcp 40001
  check 'it deletes TCP 40001' upnplib '^true' delete
  check 'from the Internet, TCP 40001 is closed' silent tcp 40001
}
