#!/bin/sh
#
# Compares the mapping table with a second, simple implementation of it, in memory:
# random requests of all protocols, with time passing, firewalls flushed, networks gone
# and back and the table restarted between them. Prints the number of requests and the
# time that they took.
#
#	scripts/model.sh [STEPS]
#
# STEPS is the number of requests, 10,000,000 without it, which takes about two minutes.
# Ends with 1 at the first difference.

. "$(dirname "$0")/lab.sh"

steps=${1:-10000000}
if [ $# -gt 1 ] || ! [ "$steps" -gt 0 ] 2>/dev/null; then
  die 'usage: scripts/model.sh [STEPS]'
fi
need_go
cd "$repo" || exit 1
said=$(mktemp) || exit 1
trap 'rm -f "$said"' EXIT
trap 'kill $! 2>/dev/null; exit 1' INT TERM HUP
PORTMAP_MODEL_STEPS=$steps nice -n 19 go test -count 1 -timeout 24h -run '^TestModel$' -v ./pkg/portmap/ >"$said" 2>&1 &
wait $! || {
  grep -v '^ *--- PASS\|^=== RUN' "$said" >&2
  exit 1
}
sed -n 's/.*: \([0-9]* requests from [0-9]* seeds\)$/\1, no difference/p; s/^--- PASS: TestModel (\(.*\))/in \1/p' "$said"
