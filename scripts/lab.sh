# shellcheck shell=sh
# What the other scripts share, to be sourced by them: packages, and a scratch
# root with the files of rootfs-overlay as they land in the firmware.

repo=$(cd "$(dirname "$0")/.." && pwd)

# die ends the script with one line that says why.
die() {
  echo "$(basename "$0"): $*" >&2
  exit 1
}

# need_root ends the script when it may not make namespaces.
need_root() {
  [ "$(id -u)" = 0 ] || die "needs root, for network namespaces and mounts: sudo $0"
}

# apt_get runs apt-get without questions, and prints only when it fails.
apt_get() {
  apt_log=$(DEBIAN_FRONTEND=noninteractive apt-get -q -y -o APT::Sandbox::User=root "$@" 2>&1) || {
    echo "$apt_log" >&2
    return 1
  }
}

# need installs the packages of programs that are missing; each argument is
# PROGRAM:PACKAGE.
need() {
  missing=
  for pair; do
    command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
  done
  [ -n "$missing" ] || return 0
  command -v apt-get >/dev/null || die "these Debian packages, or what your system calls them, are missing:$missing"
  echo "installing$missing"
  # shellcheck disable=SC2086 # a list of package names
  apt_get install --no-install-recommends $missing 2>/dev/null ||
    { apt_get update && apt_get install --no-install-recommends $missing; } ||
    die "cannot install$missing"
}

# scratch_root makes a router's root in folder $1, at $1/root, with file $2 as
# its miniupnpd: this machine's programs below, the files of rootfs-overlay
# above them, everything that changes in memory. The caller has a mount
# namespace of its own, so nothing of it shows or stays outside.
scratch_root() {
  root=$1/root
  mount -t tmpfs scratch "$1" &&
    mkdir "$root" "$1/changes" "$1/work" &&
    mount -t overlay -o "lowerdir=/,upperdir=$1/changes,workdir=$1/work" scratch "$root" &&
    cp -dR "$repo/rootfs-overlay/." "$root" &&
    install -m 755 "$2" "$root/usr/sbin/miniupnpd" || return 1
  for dir in dev mnt run tmp; do
    mount -t tmpfs scratch "$root/$dir" || return 1
  done
  mount -t proc proc "$root/proc" &&
    mkdir -p "$root/dev/pts" "$root/mnt/kd" "$root/run/lock" "$root/tmp/etc" "$root/var/db" &&
    mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts" &&
    ln -s pts/ptmx "$root/dev/ptmx" &&
    mknod "$root/dev/null" c 1 3 && mknod "$root/dev/urandom" c 1 9 &&
    ln -sf /tmp/etc/rc.conf "$root/etc/rc.conf"
}
