#!/bin/sh
#
# Tests that the recipes of buildroot/ install what they should. The trees that
# they are for are not at hand: make reads the recipes with stand-ins for the
# trees' macros, which only run the recipes' own commands, in the real order.

. "$(dirname "$0")/lab.sh"

# files lists what is in folder $1: modes, names and where links lead.
files() {
  (cd "$1" && find . ! -type d -printf '%M %p %l\n' | sort)
}

# astlinux installs by the recipe for AstLinux with its prebuilt program.
astlinux() {
  recipe=$box/tree/package/miniupnpd
  mkdir -p "$recipe" && cp "$repo"/buildroot/astlinux/package/miniupnpd/* "$recipe" &&
    mkdir "$box/igdd" && cp -dR "$repo/rootfs-overlay" "$box/igdd" &&
    install -D -m 755 "$repo/$program" "$box/igdd/rootfs-overlay/usr/sbin/miniupnpd" || return 1
  version=$(sed -n 's/^MINIUPNPD_VERSION = //p' "$recipe/miniupnpd.mk")
  tar -C "$box" -czf "$recipe/igdd-$version-linux-amd64.tar.gz" igdd || return 1
  cat >"$box/tree/Makefile" <<'END'
ARCH = x86_64
define GENTARGETS
$(BUILD_DIR)/stamp:
	mkdir -p $$(@D)
	$$(MINIUPNPD_CONFIGURE_CMDS)
	$$(MINIUPNPD_BUILD_CMDS)
	$$(MINIUPNPD_INSTALL_TARGET_CMDS)
uninstall:
	$$(MINIUPNPD_UNINSTALL_TARGET_CMDS)
endef
include package/miniupnpd/miniupnpd.mk
END
  run_make "$box/tree" MINIUPNPD_GO= || return 1
  files "$box/igdd/rootfs-overlay" >"$box/wanted"
  files "$box/target" | diff "$box/wanted" - || return 1
  run_make "$box/tree" uninstall || return 1
  files "$box/target" | grep . && return 1
  rm -rf "$box/target" "$box/build"
}

# external installs by the recipe for today's Buildroot, as its infrastructure
# for Go would after the build.
external() {
  mkdir -p "$box/external" "$box/build/bin" && cp -R "$repo/buildroot/external/." "$box/external" &&
    cp -dR "$repo/rootfs-overlay" "$box/build" && cp "$repo/$program" "$box/build/bin/miniupnpd" || return 1
  cat >"$box/external/Makefile" <<'END'
INSTALL = install
BR2_EXTERNAL_IGDD_PATH = .
IGDD_PKGDIR = package/igdd
define golang-package
$(BUILD_DIR)/stamp:
	$$(IGDD_INSTALL_TARGET_CMDS)
	$$(IGDD_INSTALL_INIT_SYSV)
endef
include external.mk
END
  run_make "$box/external" || return 1
  cmp "$repo/$program" "$box/target/usr/sbin/miniupnpd" || return 1
  {
    echo '-rwxr-xr-x ./usr/sbin/miniupnpd '
    echo 'lrwxrwxrwx ./usr/sbin/miniupnpctl miniupnpd'
    echo '-rwxr-xr-x ./etc/init.d/S54miniupnpd '
    echo '-rw-r--r-- ./etc/rc.conf '
    echo '-rw-r--r-- ./usr/share/bash-completion/completions/miniupnpctl '
    echo 'lrwxrwxrwx ./var/db/upnp.leases /mnt/kd/upnp.leases'
    files "$repo/rootfs-overlay" | grep ' ./usr/share/igdd/'
  } | sort >"$box/wanted"
  files "$box/target" | diff "$box/wanted" -
}

# hashes compares the recipe's hashes with the licences of us and the modules.
hashes() {
  mkdir "$box/module" && cp -R "$repo/LICENSE" "$repo/go.mod" "$repo/go.sum" "$repo/cmd" "$repo/pkg" "$box/module" &&
    cd "$box/module" && go mod vendor && sed -n 's/^sha256  //p' "$repo/buildroot/external/package/igdd/igdd.hash" | sha256sum -c --quiet
}

# run_make runs make in folder $1 with more arguments.
run_make() {
  (cd "$1" && shift && make -s TARGET_DIR="$box/target" BUILD_DIR="$box/build" "$@")
}

need_go
need make:make
built=$("$repo/scripts/build.sh" amd64) || exit 1
program=${built##* }
box=$(mktemp -d) || exit 1
trap 'rm -rf "$box"' EXIT
umask 022
astlinux || die 'the recipe for AstLinux is wrong'
external || die 'the recipe for Buildroot is wrong'
(hashes) || die 'igdd.hash is wrong'
