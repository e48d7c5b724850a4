# shellcheck shell=sh
# What firmware.sh and bench.sh boot, to be sourced by them: a kernel and the root
# file system of a small router with Debian's programs and our overlay.

# shellcheck disable=SC2034 # they and machine.sh use what is set here
# shellcheck disable=SC2154 # lab.sh sets $repo, the script $box

# machine sets what depends on the target $1, in the words of build.sh: Debian's
# name, its kernel's package, where programs look for libraries, and qemu's
# command with the board that boots.
machine() {
  case $1 in
  amd64)
    debian=amd64 kernel_package=linux-image-cloud-amd64 triplet=x86_64-linux-gnu
    loader=/lib64/ld-linux-x86-64.so.2 console=ttyS0
    qemu='qemu-system-x86_64 -M q35 -cpu qemu64' qemu_package=qemu-system-x86
    ;;
  arm64)
    debian=arm64 kernel_package=linux-image-cloud-arm64 triplet=aarch64-linux-gnu
    loader=/lib/ld-linux-aarch64.so.1 console=ttyAMA0
    qemu='qemu-system-aarch64 -M virt -cpu cortex-a57' qemu_package=qemu-system-arm
    ;;
  armv7)
    # The kernel cannot reach the PCI bus where the board puts it by default.
    debian=armhf kernel_package=linux-image-armmp triplet=arm-linux-gnueabihf
    loader=/lib/ld-linux-armhf.so.3 console=ttyAMA0
    qemu='qemu-system-arm -M virt,highmem=off -cpu cortex-a15' qemu_package=qemu-system-arm
    ;;
  *) die "unknown machine: $1 (known: amd64 arm64 armv7)" ;;
  esac
}

# apt_for runs apt-get or apt-cache ($1) for the machine's architecture, with
# lists in the folder $apt, so that this system's stay as they are.
apt_for() {
  program=$1
  shift
  "$program" -q -o APT::Sandbox::User=root -o APT::Architecture="$debian" -o APT::Architectures="$debian" \
    -o Dir::State="$apt" -o Dir::State::Lists="$apt/lists" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt" \
    -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$apt/sources" "$@"
}

# debian_mirror prints the URI that this system's apt gets Debian from.
debian_mirror() {
  sed -n -e 's/^URIs: *\([^ ]*\).*/\1/p' -e 's/^deb \(\[.*\] \)\{0,1\}\([^ ]*\) .*/\2/p' \
    /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null | head -n 1
}

# fetch_packages unpacks Debian's packages for the machine in folder $1/debian.
fetch_packages() {
  apt=$1/apt
  mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$apt/sources" && : >"$apt/status" || return 1
  cat >"$apt/sources/debian.sources" <<END
Types: deb
URIs: $(debian_mirror)
Suites: bookworm
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
END
  apt_for apt-get update >/dev/null || return 1
  # The package is empty; the kernel's, which it depends on, changes its name
  # with every point release.
  kernel=$(apt_for apt-cache show "$kernel_package" | sed -n 's/^Depends: \([^ ,]*\).*/\1/p' | head -n 1)
  (cd "$apt/archives" && apt_for apt-get download "$kernel" busybox-static iptables libxtables12 libip4tc2 libip6tc2 \
    libc6 miniupnpd-iptables) >/dev/null || return 1
  for package in "$apt"/archives/*.deb; do
    dpkg -x "$package" "$1/debian" || return 1
  done
  depmod -b "$1/debian" "${kernel#linux-image-}"
}

# debian_root prints the folder with Debian's packages for the machine unpacked.
debian_root() {
  cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/igdd/firmware
  if [ ! -d "$cache/$debian" ]; then
    mkdir -p "$cache" && fresh=$(mktemp -d "$cache/.$debian.XXXXXX") &&
      fetch_packages "$fresh" && mv "$fresh/debian" "$cache/$debian" || return 1
    rm -rf "$fresh"
  fi
  echo "$cache/$debian"
}

# copy_tree copies from the folder $1 the files that the list on standard input
# names to their places in the folder $2.
copy_tree() {
  tar -c -C "$1" -T - | tar -x -C "$2"
}

# modules prints the kernel's modules that a router needs, and what those need,
# as paths below the tree $1. xt_* are the matches and targets of iptables.
modules() {
  folder=lib/modules/$2
  # shellcheck disable=SC2046 # names without blanks
  modprobe -d "$1" -S "$2" -q -a -D \
    virtio_pci virtio_mmio virtio_blk virtio_net virtio_console virtio_rng rtc_pl031 ext4 crc32c_generic \
    iptable_filter iptable_nat iptable_mangle iptable_raw ip6table_filter ip6table_mangle ip6table_raw \
    nf_conntrack_netlink ipt_REJECT nf_log_syslog \
    $(find "$1/$folder/kernel/net/netfilter" -name 'xt_*.ko' -exec basename -s .ko {} +) |
    sed -n "s|^insmod $1/\([^ ]*\).*|\1|p" | sort -u
  echo "$folder/modules.order"
  echo "$folder/modules.builtin"
  echo "$folder/modules.builtin.modinfo"
}

# make_root makes in folder $2 the router's root: files of Debian's tree $1, and
# those that make a system of them.
make_root() {
  mkdir -p "$2/bin" "$2/dev" "$2/mnt/kd" "$2/proc" "$2/root" "$2/sbin" "$2/sys" "$2/tmp" "$2/usr/bin" \
    "$2/usr/sbin" "$2/var" || return 1
  version=$(ls "$1/lib/modules")
  {
    echo "bin/busybox
.$loader
lib/$triplet/$(basename "$loader")
lib/$triplet/libc.so.6
usr/lib/$triplet/xtables
usr/sbin/xtables-legacy-multi"
    (cd "$1" && find "usr/lib/$triplet" -name 'libip*tc.so*' -o -name 'libxtables.so*')
    modules "$1" "$version"
  } | copy_tree "$1" "$2" && depmod -b "$2" "$version" || return 1
  for name in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
    ln -s xtables-legacy-multi "$2/usr/sbin/$name"
  done
  ln -s var/run "$2/run"
  cp -dR "$repo/scripts/firmware/rootfs/." "$2" && ln -s /tmp/etc/rc.conf "$2/etc/rc.conf"
}

# install_ours does in the root $1 what a user does to get the program $2: the
# overlay's files, and the program as miniupnpd.
install_ours() {
  cp -dR "$repo/rootfs-overlay/." "$1" && install -m 755 "$2" "$1/usr/sbin/miniupnpd"
}

# pack writes the root $1 as what the kernel unpacks into memory, file $2.
pack() {
  (cd "$1" && find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --reproducible --quiet) >"$2"
}

# make_boot makes what the machine boots of the root $box/root: with the kernel of
# Debian's tree $1, and a disk.
make_boot() {
  pack "$box/root" "$box/initrd" && cp "$1"/boot/vmlinuz-* "$box/kernel" && make_disk "$box/disk"
}

# squashed prints how many octets the root $1 takes as a read-only image, apart
# from the kernel's modules.
squashed() {
  rm -f "$1.squashfs"
  mksquashfs "$1" "$1.squashfs" -comp xz -b 256K -no-progress -quiet -all-root -wildcards -e 'lib/modules' >/dev/null &&
    wc -c <"$1.squashfs"
}

# make_disk writes the lasting disk as file $1: what the web page and the user
# have set.
make_disk() {
  mkdir -p "$1.d/rc.conf.d" || return 1
  cat >"$1.d/rc.conf.d/gui.network.conf" <<'END'
## the web page writes this file
EXTIP="11.22.33.44"
EXTNM="255.255.255.0"
EXTGW="11.22.33.1"
UPNP_ENABLE_NATPMP="yes"
UPNP_ENABLE_UPNP="yes"
UPNP_LISTEN="INTIF"
END
  cat >"$1.d/rc.conf.d/user.conf" <<'END'
UUID="5d0a8a3c-6f0b-4d53-9f83-2f1f6b1c4c70"
if [ "$FWVERS" = arno ]; then
  UPNP_MAX_PER_HOST="2000"
fi
END
  mke2fs -q -F -t ext4 -L ASTKD -d "$1.d" "$1" 16M >/dev/null
}
