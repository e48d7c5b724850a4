# shellcheck shell=sh
# shellcheck disable=SC2154 # the frame sets lan_root, lan_host and said
# KTorrent, by UPnP. It posts its actions to the URL for events.

get() {
  from_debian ktorrent dbus-daemon
}

exercise() {
  mkdir -p "$lan_root/home/client/.config" && mkdir -m 700 "$lan_root/run/user"
  cat >"$lan_root/home/client/.config/ktorrentrc" <<'END'
[Plugins]
UPnPPluginEnabled=true
END
  lan_start env QT_QPA_PLATFORM=offscreen XDG_RUNTIME_DIR=/run/user dbus-run-session ktorrent
  opened TCP 6881
}
