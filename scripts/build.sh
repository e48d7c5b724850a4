#!/bin/sh
#
# Builds the static miniupnpd of each target into dist/ and lists their sizes.
#
#	scripts/build.sh [TARGET…]
#
# TARGET is amd64, 386, armv5, armv6, armv7, arm64, or native for this machine;
# without any, all six are built. The same commit and toolchain give the same
# octets in any folder.

. "$(dirname "$0")/lab.sh"

# HTTP/2 is never spoken: leaving it out saves about half a megabyte.
tags=nethttpomithttp2

# native prints the target that is this machine.
native() {
  arch=$(go env GOHOSTARCH)
  [ "$arch" != arm ] || arch=armv$(go env GOARM | cut -c 1)
  echo "$arch"
}

# build makes the program of target $1 in file $2.
build() {
  case $1 in
  armv[567]) arch=arm arm=${1#armv} ;;
  386 | amd64 | arm64) arch=$1 arm= ;;
  *) die "unknown target: $1 (known: amd64 386 armv5 armv6 armv7 arm64 native)" ;;
  esac
  CGO_ENABLED=0 GOOS=linux GOARCH=$arch GOARM=$arm go build -C "$repo" -o "$2" -trimpath \
    -buildvcs=false -tags "$tags" -ldflags "-s -w -buildid= -X main.version=$version" ./cmd/miniupnpd ||
    die "cannot build $1"
}

need_go
version=$(git -C "$repo" describe --tags --always --dirty 2>/dev/null) || version=unknown
[ $# -gt 0 ] || set -- amd64 386 armv5 armv6 armv7 arm64
for target; do
  [ "$target" != native ] || target=$(native)
  file=dist/miniupnpd-linux-$target
  build "$target" "$repo/$file"
  printf '%10d  %s\n' "$(wc -c <"$repo/$file")" "$file"
done
