# shellcheck shell=sh
# shellcheck disable=SC2154 # the frame sets lan_root, lan_host and said
# qBittorrent, by NAT-PMP, PCP and UPnP. Deluge uses the same library,
# libtorrent-rasterbar.

get() {
  from_debian qbittorrent-nox
}

exercise() {
  mkdir -p "$lan_root/home/client/.config/qBittorrent"
  cat >"$lan_root/home/client/.config/qBittorrent/qBittorrent.conf" <<'END'
[LegalNotice]
Accepted=true
[BitTorrent]
Session\Port=6881
[Preferences]
Connection\UPnP=true
WebUI\Port=8081
END
  lan_start qbittorrent-nox
  opened TCP 6881
  opened UDP 6881
  before=$(external TCP 6881)
  check 'it ends' lan_stop
  closed TCP 6881 "$before"
}
