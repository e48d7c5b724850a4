#!/bin/sh
#
# Measures how igdd keeps its rules in place, on iptables-legacy and on nft: which
# iptables processes it starts, whether leases and rules agree after restarts of the
# firewall, and how long the repair of removed rules takes, with busy clients and
# without. It prints figures and judges nothing. This machine's own network and
# firewall are not touched.
#
#	scripts/repair.sh [--rounds N] [legacy|nft]
#
# Each removal is repeated N times, 50 without the option, but a run for one of the two
# takes no more than five minutes. IGDD=FILE measures that program instead of this
# tree's.

. "$(dirname "$0")/lab.sh"
. "$(dirname "$0")/bench-lab.sh"

rounds=50 variants=
while [ $# -gt 0 ]; do
  case $1 in
  --rounds) rounds=$2 && shift ;;
  legacy | nft) variants="$variants $1" ;;
  *) die 'usage: scripts/repair.sh [--rounds N] [legacy|nft]' ;;
  esac
  shift
done
[ "$rounds" -gt 0 ] 2>/dev/null || die '--rounds needs a number'
lab=igrepair-$$
set_up
for variant in ${variants:-legacy nft}; do
  tools=$folder/$variant
  mkdir "$tools" || exit 1
  tools "$tools" "$variant" || die "no $variant variant of iptables"
  links "$lab-$variant" || die 'cannot make the lab: this machine must allow network namespaces'
  title "# $("$tools/iptables" --version), $("$IGDD" --version | head -n 1), load $(cut -d ' ' -f 1 /proc/loadavg) before"
  # In the background, so that a signal need not wait for the end.
  PATH=$tools:$PATH ip netns exec "$lab-$variant-lan" \
    "$folder/igdd-bench" -lab "$lab-$variant" -folder "$tools" -ours "$IGDD" -repairs "$rounds" &
  wait $! || exit 1
done
