#!/bin/sh
# Runs a script on a copy of this machine that nobody else sees, and throws the copy away: the file
# system is an overlay, processes and network are its own. systemd does not run there; "systemctl"
# and "systemd-run" are short scripts that start what the unit and its drop-ins name, as the user and
# with the credentials that they name, without the unit's sandbox.
#
#   sh test/install/copy.sh TREE SCRIPT PACKAGE...
#
# TREE is at /root/xks-proxy there. Needs root, and the network for the packages that are missing.
set -eu

if test "${COPY_STAGE:-}" = ""; then
	COPY_STAGE=mounts exec unshare --mount --pid --fork --kill-child --mount-proc --propagation private sh "$0" "$@"
fi

tree=$1 script=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
work=/mnt
root=$work/root
mount -t tmpfs -o mode=0755 overlay "$work"
mkdir "$work/upper" "$work/work" "$root"
cp -r "$here/stand-in" "$script" "$work/"
mount -t overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" overlay "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/dev/shm"
mount -t tmpfs -o mode=0755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mkdir -p "$root/root/xks-proxy" "$root/run/stand-in"
mount --bind "$tree" "$root/root/xks-proxy"
cp "$work/stand-in/"system* "$work/stand-in/apt-get" "$root/run/stand-in/"
chmod 0755 "$root/run/stand-in/"*
cp "$script" "$root/run/script"
cp /etc/resolv.conf "$root/run/resolv.conf"
rm -f "$root/etc/resolv.conf"
cp "$root/run/resolv.conf" "$root/etc/resolv.conf"

path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
inside() {
	chroot "$root" /usr/bin/env -i HOME=/root TERM=dumb LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"
}
missing=
for package; do
	inside PATH=$path dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed ||
		missing="$missing $package"
done
if test -n "$missing"; then
	inside PATH=$path sh -c "apt-get update -q && apt-get install -q -y --no-install-recommends$missing" </dev/null >"$work/apt" 2>&1 || {
		tail -5 "$work/apt" >&2
		exit 1
	}
fi
unshare --net sh -c "ip link set lo up; exec chroot $root /usr/bin/env -i HOME=/root TERM=dumb LC_ALL=C.UTF-8 \
	PATH=/run/stand-in:$path sh /run/script" || {
	code=$?
	tail -30 "$root/run/xks-proxy.journal" >&2 || true
	exit $code
}
