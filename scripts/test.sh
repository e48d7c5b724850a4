#!/bin/sh
#
# Runs every check of the project, the Go tests last. Installs the Debian
# packages that are missing; the Go toolchain must be there. Says nothing about
# what is well.

. "$(dirname "$0")/lab.sh"

staticcheck=honnef.co/go/tools/cmd/staticcheck@v0.8.2
govulncheck=golang.org/x/vuln/cmd/govulncheck@v1.9.0

# step runs one check and ends the script with what it said if it failed.
step() {
  name=$1
  shift
  said=$("$@" 2>&1) || die "$name: $said"
}

# formatted fails when gofmt lists a file that it would change, or an error.
formatted() {
  ! gofmt -l cmd pkg scripts 2>&1 | grep .
}

# shell_files lists the project's shell scripts, whatever their names.
shell_files() {
  find . -path ./.git -prune -o -path ./dist -prune -o -type f \
    -exec grep -lE '^#!/bin/sh$|^# shellcheck shell=sh$' {} +
}

shell_checked() {
  shell_files | xargs shellcheck -x --source-path=SCRIPTDIR
}

# vulnerabilities fails if one is known in what the program calls. Without the
# database, which lives on the network, it cannot tell, and says so.
vulnerabilities() {
  said=$(timeout 300 go run "$govulncheck" ./... 2>&1) && return
  case $said in
  *'exit status 3'*) die "known vulnerabilities: $said" ;;
  esac
  echo "govulncheck did NOT run, its database or module cannot be reached: $(echo "$said" | grep -v '^go: ' | head -n 1)"
}

need_root
need_go
need update-ca-certificates:ca-certificates ip:iproute2 iptables:iptables busybox:busybox dash:dash bash:bash 'gcc:gcc libc6-dev' \
  natpmpc:natpmpc upnpc:miniupnpc php:php-cli xmllint:libxml2-utils gawk:gawk modprobe:kmod flock:util-linux ps:procps \
  gssdp-discover:gupnp-tools shellcheck:shellcheck
# A module is no program, so need finds none of its name.
/usr/bin/python3 -c 'import miniupnpc' 2>/dev/null || need python3-miniupnpc:python3-miniupnpc
cd "$repo" || exit 1
step gofmt formatted
step shellcheck shell_checked
step 'go vet' go vet ./...
step 'go vet for arm' env GOARCH=arm go vet ./...
step 'go vet for 386' env GOARCH=386 go vet ./...
step staticcheck go run $staticcheck ./...
vulnerabilities
step 'init script' scripts/test-init.sh
step 'status page' scripts/test-status.sh
step 'package recipes' scripts/test-recipes.sh
step 'reproducible build' scripts/test-build.sh
exec go test -race -timeout 25m ./...
