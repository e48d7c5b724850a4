#!/bin/sh
#
# Prints the folder in which Debian's package $1 is unpacked, after fetching it
# if need be. Tests compare with such programs; nothing is installed, so no
# service starts on this machine.

. "$(dirname "$0")/lab.sh"

[ $# = 1 ] || die "usage: scripts/debian.sh PACKAGE"
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/igdd/debian
if [ ! -d "$cache/$1" ]; then
  mkdir -p "$cache" && fresh=$(mktemp -d "$cache/.$1.XXXXXX") || exit 1
  trap 'rm -rf "$fresh"' EXIT
  cd "$fresh" || exit 1
  apt_get download "$1" 2>/dev/null || { apt_get update && apt_get download "$1"; } ||
    die "cannot download Debian's package $1"
  dpkg -x "$1"_*.deb root && mv root "$cache/$1" || exit 1
fi
echo "$cache/$1"
