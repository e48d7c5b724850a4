# shellcheck shell=sh
# Jami's daemon, by NAT-PMP and UPnP, for a SIP account.

get() {
  from_debian jami-daemon dbus-daemon dbus-bin
}

# jami calls a method of its D-Bus interface.
jami() {
  method=$1
  shift
  lan env DBUS_SESSION_BUS_ADDRESS=unix:path=/tmp/bus dbus-send --print-reply --dest=cx.ring.Ring \
    /cx/ring/Ring/ConfigurationManager "cx.ring.Ring.ConfigurationManager.$method" "$@"
}

exercise() {
  lan_start dbus-daemon --session --nofork --address=unix:path=/tmp/bus
  check 'D-Bus starts it' within 30 jami getAccountList
  check 'it has an account' jami addAccount \
    dict:string:string:Account.type,SIP,Account.alias,a,Account.hostname,11.22.33.1,Account.username,a,Account.localPort,5070,Account.upnpEnabled,true,Account.enable,true
  opened UDP 5070
  before=$(external UDP 5070)
  check 'its account goes' jami removeAccount "string:$(jami getAccountList | sed -n 's/.*string "\(.*\)"/\1/p')"
  closed UDP 5070 "$before"
}
