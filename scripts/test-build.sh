#!/bin/sh
#
# Tests that the same commit gives the same octets: builds it in two clones, in
# folders of different names, one of them with an empty build cache, and compares.
#
#	scripts/test-build.sh [TARGET… | release]
#
# The arguments are those of build.sh, native without any.

. "$(dirname "$0")/lab.sh"

need_go
[ $# -gt 0 ] || set -- native
box=$(mktemp -d) || exit 1
trap 'rm -rf "$box"' EXIT
git clone -q "$repo" "$box/one" && git clone -q "$repo" "$box/another/place" || exit 1
said=$("$box/one/scripts/build.sh" "$@" 2>&1) || die "$said"
said=$(GOCACHE="$box/cache" "$box/another/place/scripts/build.sh" "$@" 2>&1) || die "$said"
diff -r "$box/one/dist" "$box/another/place/dist" || die 'the builds differ'
