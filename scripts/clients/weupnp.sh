# shellcheck shell=sh
# weupnp for Java, by UPnP. Games and media servers use it.

get() {
  from_debian libweupnp-java default-jdk-headless
}

weupnp() {
  lan_says "$1" /usr/lib/jvm/default-java/bin/java -cp /usr/share/java/weupnp.jar /mnt/drivers/WeUPnP.java "$2"
}

exercise() {
  check 'it adds TCP 40001' weupnp '^true 11.22.33.44' add
  check 'from the Internet, TCP 40001 reaches the client' call tcp 40001
  check 'it deletes TCP 40001' weupnp '^true' delete
  check 'from the Internet, TCP 40001 is closed' silent tcp 40001
}
