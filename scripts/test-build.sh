#!/bin/sh
#
# Tests that the same commit gives the same octets: builds it in two clones, in
# folders of different names and with build caches of their own, and compares.
#
#	scripts/test-build.sh [TARGET… | release]
#
# The arguments are those of build.sh, native without any.

. "$(dirname "$0")/lab.sh"

need_go
[ $# -gt 0 ] || set -- native
box=$(mktemp -d) || exit 1
trap 'rm -rf "$box"' EXIT
for folder in one another/place; do
  git clone -q "$repo" "$box/$folder" || exit 1
  said=$(GOCACHE="$box/$folder.cache" "$box/$folder/scripts/build.sh" "$@" 2>&1) || die "$said"
done
diff -r "$box/one/dist" "$box/another/place/dist" || die 'the builds differ'
