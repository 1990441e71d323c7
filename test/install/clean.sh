#!/bin/sh
# Runs a script on a clean Debian 12 that systemd boots, and throws that machine away.
#
#   sh test/install/clean.sh TREE SCRIPT
#
# TREE is at /root/xks-proxy there, read-only. Needs root, and the network: debootstrap makes the
# machine, once, in CLEAN_MACHINE (/var/cache/xks-proxy-clean-machine); the script installs packages.
set -eu

tree=$1 script=$2
cache=${CLEAN_MACHINE:-/var/cache/xks-proxy-clean-machine}

if ! command -v debootstrap >/dev/null || ! command -v systemd-nspawn >/dev/null; then
	echo "clean machine: installing debootstrap and systemd-container" >&2
	{
		apt-get update -q
		DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends debootstrap systemd-container
	} </dev/null >&2
fi
if ! test -e "$cache/whole"; then
	rm -rf "$cache"
	mkdir -p "$cache"
	debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,ca-certificates bookworm "$cache/root" >"$cache/log" || {
		tail -5 "$cache/log" >&2
		exit 1
	}
	touch "$cache/whole"
fi

machine=$(mktemp -d /var/tmp/xks-proxy-clean-XXXXXX)
nspawn=
finish() {
	if test -n "$nspawn"; then
		kill "$nspawn" 2>/dev/null || true # SIGTERM has it power off
		wait "$nspawn" 2>/dev/null || true
	fi
	rm -rf "$machine"
}
trap finish EXIT
trap 'exit 1' INT TERM
cp -a "$cache/root" "$machine/root"
mkdir -p "$machine/root/root/xks-proxy"
cp "$script" "$machine/root/root/script"
systemd-nspawn --quiet --directory="$machine/root" --boot --register=no --keep-unit --machine=xks-proxy-clean \
	--bind-ro="$tree:/root/xks-proxy" --link-journal=no --resolv-conf=copy-host \
	</dev/null >"$machine/console" 2>&1 &
nspawn=$!

inside() {
	nsenter --target "$leader" --mount --uts --ipc --net --pid --root --wd -- env -i HOME=/root TERM=dumb LC_ALL=C.UTF-8 \
		DEBIAN_FRONTEND=noninteractive PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

tries=60
until leader=$(pgrep --parent "$nspawn") && inside systemctl is-system-running --wait >/dev/null 2>&1; do
	tries=$((tries - 1))
	if test $tries = 0 || ! kill -0 "$nspawn" 2>/dev/null; then
		echo "clean machine: systemd does not come up:" >&2
		tail -20 "$machine/console" >&2
		exit 1
	fi
	sleep 1
done
inside sh /root/script || {
	code=$?
	inside journalctl --no-pager --lines 30 --unit xks-proxy >&2 || true
	exit $code
}
