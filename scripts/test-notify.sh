#!/bin/sh
#
# Tests the examples of rootfs-overlay/usr/share/doc/igdd/notify: the daemon in the lab of
# demo.sh runs them, with curl, GNU's wget and busybox's, under three shells and awks, and
# a receiver on the Internet reads what they post; what they mail a stand-in for the mail
# program keeps. Everything runs in namespaces.

. "$(dirname "$0")/lab.sh"

examples=/usr/share/doc/igdd/notify
receiver=11.22.33.1
hook="$examples/webhook.sh http://$receiver:8000/hook /etc/webhook.secret"

# patiently waits up to a minute for a command to succeed.
patiently() {
  tenths=0
  until "$@"; do
    [ $((tenths += 1)) -le 600 ] || return 1
    sleep 0.1
  done
}

# system gives the router the programs of a system: curl, wget or busybox.
system() {
  case $1 in
  curl) links dash:sh mawk:awk ;;
  wget) router rm -f /usr/bin/curl && links bash:sh gawk:awk ;;
  busybox) links busybox:sh busybox:awk busybox:grep busybox:sed busybox:sort busybox:timeout busybox:tr busybox:wget ;;
  esac
}

# links makes programs others by the names behind the colons.
links() {
  for pair; do
    router ln -sf "${pair%%:*}" "/usr/bin/${pair#*:}" || return 1
  done
}

# shellcheck disable=SC2016 # no shell may expand it
evil_upnp='"},\$(reboot)`reboot`ü😀'

# hostile runs a command with an event that a client has worded as badly as it can, and
# without the rules that the daemon has for values.
hostile() {
  # shellcheck disable=SC2016 # no shell may expand it
  env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin UPNP_EVENT=opened UPNP_CLIENT='192.168.50.10
Bcc: evil@example.org' UPNP_ORIGIN= UPNP_PROTOCOL="$control" UPNP_EXTERNAL_PORT=40080 UPNP_NEW='of a later version' UPNP_DESCRIPTION='"},{"\
Bcc: evil@example.org

.
$(reboot)`reboot`%s%n&\u0041\n\0 ü€😀<b>' "$@"
}
control=$(printf '\001\010\011\014\015\033\037\177x')

# told succeeds when the receiver got the variables of the environment, with the token.
told() {
  object=$(python3 -c 'import json, os
print(json.dumps({k[5:].lower(): v for k, v in os.environ.items() if k.startswith("UPNP_")}, sort_keys=True))') &&
    grep -Fqx "Bearer a\"b $object" "$1"
}

# by_hand runs a script with the hostile event on the router; the other arguments are the
# script and its own.
by_hand() {
  hostile nsenter --target "$router_pid" --net --mount --pid --root --wd "$@"
}

# posted succeeds when the receiver got the event $1 of external port $2.
posted() {
  grep -q "^Bearer a\"b {.*\"event\": \"$1\", \"external_port\": \"$2\"," "$box/received"
}

# posted_act succeeds when the receiver got the event $1 of the operator's about port 6881.
posted_act() {
  grep -q "^Bearer a\"b {.*\"event\": \"$1\".*\"subject\": \".*6881.*\"" "$box/received"
}

never_posted() {
  ! posted "$@"
}

# described succeeds when it got the description $1.
described() {
  grep -Fq "\"description\": \"$1\"," "$box/received"
}

held() {
  grep -q "\"external_port\":\"$1\"" "$box/held"
}

upnp_add() {
  on lan timeout 20 upnpc -u http://192.168.50.1:5000/rootDesc.xml -e "$1" -a 192.168.50.10 8080 "$2" tcp 3600 | grep 'is redirected'
}

refused() {
  ! ask "$@"
}

# ask_many asks for 20 ports from $1 on, and succeeds if all are granted.
ask_many() {
  for number in $(seq "$1" $(($1 + 19))); do
    ask "$number" "$number" udp 3600 || return 1
  done
}

# no_fault succeeds while everything that was posted was valid.
no_fault() {
  ! grep INVALID "$box/received"
}

# webhook tests the webhook on the system $1; its ports begin with $2.
webhook() {
  title "The webhook with $1:"
  : >"$box/received" && : >"$box/held"
  check 'the system' system "$1"
  # shellcheck disable=SC2086 # the words of the command
  check 'run by hand with a hostile event' by_hand $hook
  check 'the receiver reads its very values' hostile "$0" --told "$box/received"
  check 'a mapping by NAT-PMP' ask "${2}080" "${2}080" tcp 3600
  check 'is posted' patiently posted opened "${2}080"
  check 'it is renewed' ask "${2}080" "${2}080" tcp 3600
  check 'a mapping by UPnP with a hostile description' upnp_add "$evil_upnp" "${2}081"
  check 'is posted' patiently posted opened "${2}081"
  check 'with it, as the daemon passes it on' described '?},??(reboot)?reboot?\u00fc\ud83d\ude00'
  check 'the first is deleted' ask "${2}080" "${2}080" tcp 0
  check 'which is posted' patiently posted closed "${2}080"
  check 'the renewal is not' never_posted renewed "${2}080"
  check 'a request is refused' refused 22 22 tcp 3600
  check 'which is posted' patiently posted refused 22
  check 'the operator blocks a port' router miniupnpctl block 1h tcp 6881
  check 'which is posted' patiently posted_act blocked
  check 'and unblocks it' router miniupnpctl unblock tcp 6881
  check 'which is posted' patiently posted_act unblocked
  stuck "$2"
  check 'everything posted was valid' no_fault
}

# stuck has the receiver never answer; its ports begin with $1.
stuck() {
  touch "$box/hang"
  check 'the receiver stops answering: a mapping is granted' ask "${1}100" "${1}100" udp 3600
  check 'the script waits for the receiver' patiently held "${1}100"
  check 'twenty more are granted meanwhile' ask_many "${1}101"
  check 'none of them is posted' never_posted opened "${1}120"
  rm "$box/hang"
  check 'it answers again: the last one is posted' patiently posted opened "${1}120"
  check 'the log says why the script failed' gives_reason
}

# gives_reason succeeds when the log has the reason, and empties the log.
gives_reason() {
  router grep 'UPNP_NOTIFY_CMD failed.*no answer within 8 seconds' /var/log/messages && router sh -c 'true >/var/log/messages'
}

# mailer installs stand-ins for mail programs, which keep arguments and message in
# /tmp/mails, and removes the others.
mailer() {
  # shellcheck disable=SC2016 # the router's shell expands it
  router sh -c 'rm -rf /usr/sbin/sendmail /usr/bin/msmtp /usr/sbin/busybox /tmp/mails && mkdir /tmp/mails
    for name; do
      printf "%s\n" "#!/bin/sh" "{ echo \"\$*\"; cat; } >/tmp/\$\$ && mv /tmp/\$\$ /tmp/mails/" >$name && chmod 755 $name || exit 1
    done' mailer "$@"
}

# mailed prints the path of the only mail.
mailed() {
  set -- "/proc/$router_pid/root"/tmp/mails/*
  [ $# = 1 ] && [ -f "$1" ] && echo "$1"
}

# mail_is succeeds when the only mail is the hostile event's.
mail_is() {
  file=$(mailed) && hostile python3 "$repo/scripts/notify/mail.py" "$file" "$1"
}

# tells succeeds when the only mail has the line $1.
tells() {
  file=$(mailed) && grep -qx "$1" "$file"
}

no_mail() {
  ! mailed
}

# mail tests the mails on the system $1; its ports begin with $2.
mail() {
  title "Mail with the shell and awk of $1:"
  check 'the system' system "$1"
  mailer /usr/sbin/sendmail
  check 'sendmail, by hand with a hostile event' by_hand $examples/mail.sh admin@example.org -v
  check 'the mail has its values and no other header' mail_is admin@example.org
  mailer /usr/sbin/sendmail
  check 'a request is refused' refused 22 22 tcp 3600
  check 'a mapping by NAT-PMP' ask "${2}090" "${2}090" udp 3600
  check 'is mailed' patiently tells "external port:    ${2}090"
  check 'with the subject' tells "Subject: miniupnpd: opened UDP port ${2}090 of 192.168.50.10"
  mailer /usr/sbin/sendmail
  check 'the operator blocks a port' router miniupnpctl block 1h tcp 6881
  check 'which is mailed' patiently tells 'Subject: miniupnpd: blocked .*6881.*'
}

# mail_programs tests which program is used.
mail_programs() {
  title 'Mail programs:'
  mailer /usr/bin/msmtp
  check 'msmtp, without sendmail' by_hand $examples/mail.sh admin@example.org -v
  check 'gets the same' mail_is admin@example.org
  check 'without an address' fails by_hand $examples/mail.sh
  check 'an address like an option' by_hand $examples/mail.sh -admin -v
}

fails() {
  ! "$@"
}

# configure sets the command and starts the daemon with it.
configure() {
  { rc_conf && echo "UPNP_NOTIFY_CMD=\"$1\""; } | router tee /etc/rc.conf >/dev/null && router /etc/init.d/miniupnpd restart
}

receiving() {
  on wan ss -Hltn 'sport = 8000' | grep -q .
}

case $1 in
--told)
  told "$2"
  exit
  ;;
--apart) ;;
*)
  need_root
  exec unshare --mount --pid --fork --kill-child --mount-proc "$0" --apart
  ;;
esac
need_go
need update-ca-certificates:ca-certificates ip:iproute2 iptables:iptables busybox:busybox dash:dash bash:bash mawk:mawk gawk:gawk \
  curl:curl wget:wget python3:python3 natpmpc:natpmpc upnpc:miniupnpc
built=$("$repo/scripts/build.sh" native) || exit 1
checks=0 failed=0
box=$(mktemp -d) || exit 1
trap 'lab_down; rm -rf "$box"' EXIT
trap 'exit 1' INT TERM
mkdir -p /run/netns && mount -t tmpfs names /run/netns && mount -t tmpfs scratch /run/lock && lab_folder=/run/lock/lab || exit 1
lab_up "$repo/${built##* }" || die 'cannot make the lab: this machine must allow network namespaces, mounts and iptables'
ip netns exec igdd-wan python3 "$repo/scripts/notify/receiver.py" $receiver 8000 "$box" &
check 'a receiver on the Internet' until_true receiving
echo 'header = Authorization: Bearer a"b' | router tee /etc/webhook.secret >/dev/null
check 'the daemon starts' configure "$hook"
webhook curl 41
webhook wget 42
webhook busybox 43
check 'the daemon starts with mail' configure "$examples/mail.sh admin@example.org -v"
mail curl 44
mail wget 45
mail busybox 46
mail_programs
echo
if [ $failed -gt 0 ]; then
  show router cat /var/log/messages
  echo "$failed of $checks checks FAILED"
  exit 1
fi
echo "All $checks checks passed."
