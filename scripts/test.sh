#!/bin/sh
#
# Runs every check of the project. Installs the Debian packages that are missing;
# the Go toolchain must be there. Says nothing about what is well, and ends with
# the results of the Go tests.
#
#	scripts/test.sh [--quick]
#
# --quick is for the inner loop and needs no root: only the Go checks, without
# the race detector and without the tests that need network namespaces.

. "$(dirname "$0")/lab.sh"

staticcheck=honnef.co/go/tools/cmd/staticcheck@v0.8.2
govulncheck=golang.org/x/vuln/cmd/govulncheck@v1.9.0

# step runs one check and prints what it said if it failed.
step() {
  name=$1
  shift
  said=$("$@" 2>&1) && return
  echo "$name: $said"
  return 1
}

# formatted fails when gofmt lists a file that it would change, or an error.
formatted() {
  ! gofmt -l cmd pkg scripts 2>&1 | grep .
}

# shell_files lists the project's shell scripts, whatever their names; a document may
# quote one.
shell_files() {
  find . -path ./.git -prune -o -path ./dist -prune -o -type f ! -name '*.md' \
    -exec grep -lE '^#!/bin/sh$|^# shellcheck shell=(ba)?sh$' {} +
}

shell_checked() {
  shell_files | xargs shellcheck -x --source-path=SCRIPTDIR
}

# vulnerabilities fails if one is known in what the program calls. Without the
# database, which lives on the network, it cannot tell, and says so.
vulnerabilities() {
  said=$(timeout 120 nice go run "$govulncheck" ./... 2>&1) && return
  case $said in
  *'exit status 3'*)
    echo "known vulnerabilities: $said"
    return 1
    ;;
  esac
  echo "govulncheck did NOT run, its database or module cannot be reached: $(echo "$said" | grep -v '^go: ' | head -n 1)"
}

# linted checks what needs the processor, and steps back behind the tests.
linted() {
  failed=0
  step 'go vet' nice go vet ./... || failed=1
  step 'go vet for arm' nice env GOARCH=arm go vet ./... || failed=1
  step 'go vet for 386' nice env GOARCH=386 go vet ./... || failed=1
  step staticcheck nice go run $staticcheck ./... || failed=1
  step 'reproducible build' nice scripts/test-build.sh || failed=1
  vulnerabilities || failed=1
  return $failed
}

# scripted checks what mostly waits.
scripted() {
  failed=0
  step 'init script' scripts/test-init.sh || failed=1
  step 'status page' scripts/test-status.sh || failed=1
  step 'package recipes' scripts/test-recipes.sh || failed=1
  step monitoring scripts/test-metrics.sh || failed=1
  step "to Debian's miniupnpd and back" scripts/test-downgrade.sh || failed=1
  step 'notification examples' scripts/test-notify.sh || failed=1
  step "example for AstLinux's status page" scripts/test-astlinux-status.sh || failed=1
  return $failed
}

# full runs the other checks beside the Go tests, which wait most of their time:
# hence four packages at once.
full() {
  need_root
  need update-ca-certificates:ca-certificates ip:iproute2 iptables:iptables busybox:busybox dash:dash bash:bash 'gcc:gcc libc6-dev' \
    natpmpc:natpmpc upnpc:miniupnpc socat:socat php:php-cli xmllint:libxml2-utils gawk:gawk modprobe:kmod flock:util-linux ps:procps \
    gssdp-discover:gupnp-tools shellcheck:shellcheck curl:curl wget:wget mawk:mawk python3:python3
  # A module is no program, so need finds none of its name.
  /usr/bin/python3 -c 'import miniupnpc' 2>/dev/null || need python3-miniupnpc:python3-miniupnpc
  step gofmt formatted && step shellcheck shell_checked || return 1
  scripted >"$box/scripted" &
  scripted=$!
  linted >"$box/linted" &
  linted=$!
  # Packages start in this order: those that take longest come first. go vet has been told
  # to check all of them already. The tests of the daemon run programs, and those have the
  # race detector where many things happen at once.
  go test -vet=off -timeout 25m ./pkg/daemon >"$box/daemon" 2>&1 &
  daemon=$!
  # shellcheck disable=SC2046 # a list of packages
  go test -race -vet=off -p 3 -timeout 25m ./pkg/netfilter ./pkg/xtables ./pkg/control ./pkg/upnpd \
    $(go list ./... | grep -vE '/(daemon|netfilter|xtables|control|upnpd)$') >"$box/tests" 2>&1
  status=$?
  wait $daemon || status=1
  wait $scripted || status=1
  wait $linted || status=1
  cat "$box/scripted" "$box/linted" "$box/daemon" "$box/tests"
  return $status
}

# results prints the result lines of what go test -v said, what was skipped, and
# all that a package said if its tests failed.
results() {
  awk '
    /^=== (RUN|PAUSE|CONT)|^ *--- (PASS|SKIP)|^PASS$/ { next }
    /^(ok|\?) *\t/ { print; said = ""; next }
    /^FAIL\t/ { printf "%s", said; print; said = ""; next }
    /^netlab: skipped/ { print; next }
    { said = said $0 "\n" }
    END { printf "%s", said }' "$1"
}

# quick checks what needs nothing but Go.
quick() {
  step gofmt formatted && step 'go vet' go vet ./... && step staticcheck go run $staticcheck ./... || return 1
  go test -short -v ./... >"$box/tests" 2>&1
  status=$?
  results "$box/tests"
  return $status
}

case $#:$1 in
0:) run=full ;;
1:--quick) run=quick ;;
*) die 'usage: scripts/test.sh [--quick]' ;;
esac
need_go
cd "$repo" || exit 1
box=$(mktemp -d) || exit 1
trap 'rm -rf "$box"' EXIT
trap 'exit 1' INT TERM
$run
