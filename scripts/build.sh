#!/bin/sh
#
# Builds the static miniupnpd of each target into dist/ and lists their sizes.
#
#	scripts/build.sh [TARGET…]
#	scripts/build.sh release
#
# TARGET is amd64, 386, armv5, armv6, armv7, arm64, mipsle (386 and mipsle do
# without floating point), or native for this machine; without any, all but
# native are built.
# release packs them as well: for each target an archive with the files of the
# firmware, the licences and a bill of materials; the source with its modules;
# and the recipes of buildroot/ made ready to be dropped into a tree. The same
# commit and toolchain give the same octets in any folder, and by the recipes.

. "$(dirname "$0")/lab.sh"

all='amd64 386 armv5 armv6 armv7 arm64 mipsle'
cyclonedx=github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0

# name_version prints the version: git's name for the commit, or the name of the
# folder that a source archive unpacks into.
name_version() {
  git -C "$repo" describe --tags --always --dirty 2>/dev/null && return
  case ${repo##*/} in
  igdd-?*) echo "${repo##*/igdd-}" ;;
  *) echo unknown ;;
  esac
}

# native prints the target that is this machine.
native() {
  arch=$(go env GOHOSTARCH)
  [ "$arch" != arm ] || arch=armv$(go env GOARM | cut -c 1)
  echo "$arch"
}

# aim makes Go build for the target $1. Segments for ARM begin at pages, which have 4 kB
# there, and not at the next 64 kB.
aim() {
  align=''
  case $1 in
  armv[567]) GOARCH=arm GOARM=${1#armv} align='-R 4096' ;;
  386 | amd64 | arm64 | mipsle) GOARCH=$1 GOARM= ;;
  *) die "unknown target: $1 (known: $all native)" ;;
  esac
  CGO_ENABLED=0 GOOS=linux GO386=softfloat GOMIPS=softfloat
  export CGO_ENABLED GOOS GOARCH GO386 GOARM GOMIPS
}

# gather copies what is compiled into folder $1, with the modules in vendor/ as
# the recipes have them: Go writes the sums of others into the program.
gather() {
  mkdir "$1" && cp -dR "$repo/go.mod" "$repo/go.sum" "$repo/cmd" "$repo/pkg" "$1" || return 1
  if [ -d "$repo/vendor" ]; then
    cp -dR "$repo/vendor" "$1"
  else
    (cd "$1" && go mod vendor)
  fi
}

# build makes the program of target $1 in file $2, at once, because another script may be
# reading it.
build() {
  aim "$1"
  go build -C "$work/module" -o "$2.$$" -mod=vendor -trimpath -buildvcs=false \
    -ldflags "-s -w -buildid= $align -X main.version=$version" ./cmd/miniupnpd || die "cannot build $1"
  mv "$2.$$" "$2"
}

# archive packs the folder $2 of folder $1 as dist/$2$3, always with the same
# octets.
archive() {
  tar -C "$1" --sort=name --owner=0 --group=0 --numeric-owner --mode=u+rw,go=u-w --mtime="@$date" -c "$2" |
    gzip -9n >"$dist/$2$3" && echo "dist/$2$3"
}

# copy_licences copies the licence of each module in the program, with its notice
# if there is one, and Go's own into folder $1.
copy_licences() {
  mkdir "$1" && cp "$repo/LICENSE" "$1/igdd" && cp "$(go env GOROOT)/LICENSE" "$1/go" || return 1
  go list -C "$repo" -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Dir}}{{end}}{{end}}' ./cmd/miniupnpd |
    sort -u | while read -r path folder; do
    licence=$1/$(echo "$path" | tr / -)
    cp "$folder"/LICEN[CS]E* "$licence" || return 1
    [ ! -f "$folder/NOTICE" ] || cp "$folder/NOTICE" "$licence-notice" || return 1
  done
}

# pack makes the archive of target $1.
pack() {
  aim "$1"
  name=igdd-$version-linux-$1
  mkdir "$work/$name" &&
    cp -dR "$repo/rootfs-overlay" "$work/$name" &&
    install -D -m 755 "$dist/miniupnpd-linux-$1" "$work/$name/rootfs-overlay/usr/sbin/miniupnpd" &&
    copy_licences "$work/$name/licences" &&
    list_materials "$work/$name/sbom.cdx.json" &&
    archive "$work" "$name" .tar.gz
}

# list_materials writes the bill of materials in CycloneDX's form as file $1.
list_materials() {
  cd "$repo" || return 1
  said=$("$work/cyclonedx-gomod" app -json -std -licenses -noserial -notimestamp -main cmd/miniupnpd -output "$1" . 2>&1) ||
    die "$said"
}

# pack_source makes the archive that firmware is built from: the tree of the
# commit and, in vendor/, the modules. Buildroot wants the suffix.
pack_source() {
  name=igdd-$version
  mkdir "$work/$name" && git -C "$repo" archive HEAD | tar -x -C "$work/$name" &&
    rm -r "$work/$name/buildroot" && (cd "$work/$name" && go mod vendor) &&
    archive "$work" "$name" -go2.tar.gz
}

# pack_recipes fills in the recipes and puts the archives beside them.
pack_recipes() {
  source=igdd-$version-go2.tar.gz
  rm -rf "$dist/buildroot"
  cp -dR "$repo/buildroot" "$dist" || return 1
  recipe=$dist/buildroot/external/package/igdd
  sed -i "s/^\(IGDD_VERSION =\).*/\1 $version/" "$recipe/igdd.mk" &&
    echo "sha256  $(sha256sum "$dist/$source" | cut -d ' ' -f 1)  $source" >>"$recipe/igdd.hash" &&
    mkdir "$dist/buildroot/external/dl" && cp "$dist/$source" "$dist/buildroot/external/dl" || return 1
  recipe=$dist/buildroot/astlinux/package/miniupnpd
  sed -i "s/^\(MINIUPNPD_VERSION =\).*/\1 $version/" "$recipe/miniupnpd.mk" &&
    cp "$dist/$source" "$recipe" && cp "$dist/igdd-$version-linux-"*.tar.gz "$recipe" &&
    echo dist/buildroot/
}

# release packs everything that was built.
release() {
  need mksquashfs:squashfs-tools
  date=$(git -C "$repo" log -1 --format=%ct 2>/dev/null) || die 'release needs the git repository'
  rm -f "$dist"/igdd-*.tar.gz
  GOBIN=$work go install "$cyclonedx" || die 'cannot build the program that writes the bill of materials'
  for target in $all; do
    (pack "$target") || die "cannot pack $target"
  done
  pack_source || die 'cannot pack the source'
  pack_recipes || die 'cannot pack the recipes'
  mksquashfs "$dist/miniupnpd-linux-armv7" "$work/size" -comp xz -b 256K -no-progress -quiet >/dev/null &&
    printf '%10d  miniupnpd-linux-armv7 as squashfs with xz\n' "$(wc -c <"$work/size")"
  (cd "$dist" && sha256sum igdd-*.tar.gz >SHA256SUMS)
}

need_go
dist=$repo/dist version=$(name_version)
case $* in
'' | release) targets=$all ;;
*) targets=$* ;;
esac
work=$(mktemp -d) || exit 1
trap 'chmod -R u+w "$work" && rm -rf "$work"' EXIT
gather "$work/module" || die 'cannot gather the modules'
for target in $targets; do
  [ "$target" != native ] || target=$(native)
  file=dist/miniupnpd-linux-$target
  (build "$target" "$repo/$file") || exit 1
  printf '%10d  %s\n' "$(wc -c <"$repo/$file")" "$file"
done
[ "$*" != release ] || release
