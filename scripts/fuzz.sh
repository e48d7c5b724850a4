#!/bin/sh
#
# Fuzzes what reads other programs' octets: every fuzz target of the project, one
# after the other, on one processor and behind everything else that runs. Prints a
# Markdown table. Of the inputs that reached new code, those found last are kept in the
# package's testdata/fuzz, where go test runs them again: what they reach took the
# longest to find.
#
#	scripts/fuzz.sh [SECONDS [TARGET...]]
#
# SECONDS is the time of each target, 300 without it. A TARGET is a package and a
# function, such as pcp.FuzzRequest. Ends with 1 if an input made a target fail; go
# leaves it in the same folder.

. "$(dirname "$0")/lab.sh"

# Of each target, at most this many inputs are kept, each smaller than so many octets.
kept=20 largest=2048

# targets lists the fuzz targets of the package in this folder.
targets() {
  go test -list '^Fuzz' . | grep '^Fuzz'
}

# wants succeeds if target $1 was asked for.
wants() {
  case $wanted in
  '' | *" $1 "*) ;;
  *) return 1 ;;
  esac
}

# keep copies the inputs found last from folder $1 to folder $2 until that is full.
keep() {
  mkdir -p "$2" || return 1
  room=$((kept - $(find "$2" -type f | wc -l)))
  [ $room -gt 0 ] && [ -d "$1" ] || return 0
  find "$1" -type f -size "-${largest}c" -printf '%T@ %p\n' | sort -rn | head -n $room |
    cut -d ' ' -f 2 | xargs -r cp -t "$2"
}

# fuzz runs target $2 of package $1, whose test program and folder are this one's, and
# prints its line of the table.
fuzz() {
  result=ok
  nice -n 19 "$folder/test" -test.run '^$' -test.fuzz "^$2\$" -test.fuzztime "${seconds}s" -test.fuzzminimizetime 1s \
    -test.parallel 1 -test.fuzzcachedir "$folder/found/$1" >"$folder/said" 2>&1 &
  wait $! || result=FAILED failed=1
  # The last report reads: fuzz: elapsed: 5s, execs: 512 (98/sec), new interesting: 3 (total: 12)
  figures=$(sed -n 's/.*execs: \([0-9]*\) .*new interesting: \([0-9]*\) .*/\1 | \2/p' "$folder/said" | tail -n 1)
  [ -n "$figures" ] || figures='– | –'
  keep "$folder/found/$1/$2" "testdata/fuzz/$2"
  echo "| $1.$2 | $figures | $(find "testdata/fuzz/$2" -type f | wc -l) | $result |"
  [ $result = ok ] || cat "$folder/said" >&2
}

# package fuzzes the targets of the package in folder $1.
package() {
  cd "$1" || exit 1
  name=${1##*/} built=
  for target in $(targets); do
    wants "$name.$target" || continue
    [ "$built" ] || nice -n 19 go test -c -fuzz . -o "$folder/test" . || exit 1
    built=yes
    fuzz "$name" "$target"
  done
}

seconds=${1:-300} failed=0
[ "$seconds" -gt 0 ] 2>/dev/null || die 'usage: scripts/fuzz.sh [SECONDS [TARGET...]]'
[ $# -eq 0 ] || shift
wanted=${*:+ $* }
need_go
export GOMAXPROCS=1
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
trap 'kill $! 2>/dev/null; exit 1' INT TERM HUP

echo "Each target $seconds s on one processor, $(go version | cut -d ' ' -f 3)."
printf '\n| target | executions | new inputs | inputs kept | result |\n| --- | ---: | ---: | ---: | --- |\n'
for dir in $(grep -rlE --include='*_test.go' '^func Fuzz' "$repo/pkg" "$repo/cmd" | xargs -r -n 1 dirname | sort -u); do
  package "$dir"
done
exit $failed
