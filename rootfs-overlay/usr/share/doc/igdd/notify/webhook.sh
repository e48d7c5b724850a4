#!/bin/sh
#
# Posts each event of miniupnpd as a JSON object, by curl, GNU's wget or busybox's:
#
#	UPNP_NOTIFY_CMD="/mnt/kd/webhook.sh URL [SECRET]"
#
# The object has all variables of the event as strings, UPNP_EVENT as "event",
# UPNP_EXTERNAL_PORT as "external_port", and so on. SECRET is a file with the line
#
#	header = Authorization: Bearer TOKEN

# Events that are not wanted.
case $UPNP_EVENT in
renewed) exit 0 ;;
esac

# json prints the object. ENVIRON has the values as they are, whatever they contain.
json() {
  awk '
    function quote(text,  i, c, quoted) {
      for (i = 1; i <= length(text); i++) {
        c = substr(text, i, 1)
        quoted = quoted ((c in escape) ? escape[c] : c)
      }
      return "\"" quoted "\""
    }
    BEGIN {
      for (i = 1; i < 32; i++) escape[sprintf("%c", i)] = sprintf("\\u%04x", i)
      escape["\""] = "\\\""
      escape["\\"] = "\\\\"
      for (name in ENVIRON) if (name ~ /^UPNP_/) {
        list = list separator quote(tolower(substr(name, 6))) ":" quote(ENVIRON[name])
        separator = ","
      }
      print "{" list "}"
    }'
}

# header prints the secret header.
header() {
  [ -z "$secret" ] || sed -n 's/^header *= *//p' "$secret"
}

# post posts the object. Without $limit the daemon would kill it after 10 seconds. What
# curl and GNU's wget read by themselves ps does not show; busybox's wget has arguments
# only.
post() {
  limit='timeout 8' type='Content-Type: application/json'
  if command -v curl >/dev/null; then
    header | $limit curl -fsS -o /dev/null -H @- -H "$type" --data-binary "$body" -- "$url"
  elif wget --version 2>/dev/null | grep -q '^GNU Wget'; then
    $limit wget ${secret:+--config="$secret"} -nv -t 1 -O /dev/null --header="$type" --post-data="$body" -- "$url"
  else
    secret=$(header)
    $limit wget -q -O /dev/null --header "$type" ${secret:+--header "$secret"} --post-data "$body" -- "$url"
  fi
}

url=${1:?usage: webhook.sh URL [SECRET]} secret=$2
if [ -n "$secret" ] && [ ! -r "$secret" ]; then
  echo "cannot read $secret" >&2
  exit 1
fi
body=$(json) || exit 1
post
status=$?
case $status in
124 | 143) echo 'no answer within 8 seconds' >&2 ;;
esac
exit $status
