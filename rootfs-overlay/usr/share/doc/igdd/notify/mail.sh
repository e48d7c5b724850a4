#!/bin/sh
#
# Mails each event of miniupnpd, by sendmail, msmtp or busybox's sendmail:
#
#	UPNP_NOTIFY_CMD="/mnt/kd/mail.sh ADDRESS [OPTION...]"
#
# The options are those of the mail program. The body has a line for each variable of the
# event.

# Events that are not wanted: clients cause these as often as they like.
case $UPNP_EVENT in
renewed | refused) exit 0 ;;
esac

# subject prints what happened as one line of ASCII characters.
subject() {
  text=$UPNP_EVENT${UPNP_PROTOCOL:+ $UPNP_PROTOCOL port $UPNP_EXTERNAL_PORT}${UPNP_CLIENT:+ of $UPNP_CLIENT}
  text=$text${UPNP_SUBJECT:+ $UPNP_SUBJECT}${UPNP_FAMILY:+ $UPNP_FAMILY}${UPNP_INTERFACE:+ $UPNP_INTERFACE $UPNP_ADDRESS}
  printf 'miniupnpd: %s' "$text" | tr -c ' -~' '?'
}

# values prints a line for each variable.
values() {
  awk 'BEGIN {
    for (name in ENVIRON) if (name ~ /^UPNP_/) {
      text = ENVIRON[name]
      gsub(/[[:cntrl:]]/, "?", text)
      label = tolower(substr(name, 6))
      gsub(/_/, " ", label)
      printf "%-18s%s\n", label ":", text
    }
  }' | sort
}

# message prints the mail.
message() {
  printf 'To: %s\nSubject: %s\n' "$to" "$(subject)"
  echo 'Auto-Submitted: auto-generated'
  echo 'MIME-Version: 1.0'
  echo 'Content-Type: text/plain; charset=utf-8'
  echo 'Content-Transfer-Encoding: 8bit'
  echo
  values
}

to=${1:?usage: mail.sh ADDRESS [OPTION...]}
shift
for mailer in sendmail msmtp 'busybox sendmail'; do
  ! command -v "${mailer%% *}" >/dev/null || break
done
# The recipient is an argument, so no header can add another one. The daemon kills the
# program after 10 seconds.
# shellcheck disable=SC2086 # "busybox sendmail" is two words
message | timeout 8 $mailer "$@" -- "$to"
