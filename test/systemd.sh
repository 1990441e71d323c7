#!/bin/sh
# Installs systemd-analyze, which judges configs/xks-proxy.service without a running systemd.
# Distributions that run on systemd have it; their container images may not.
set -eu

if command -v systemd-analyze >/dev/null 2>&1; then
	exit 0
fi
if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" != 0 ]; then
	echo "systemd: systemd-analyze is missing; install your distribution's package systemd, then try again" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
{
	apt-get update -q
	apt-get install -q -y --no-install-recommends systemd
} </dev/null >&2
command -v systemd-analyze >/dev/null
