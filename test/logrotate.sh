#!/bin/sh
# Installs logrotate, with which the shipped configs/xks-proxy.logrotate is tried.
set -eu

if command -v logrotate >/dev/null 2>&1; then
	exit 0
fi
if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" != 0 ]; then
	echo "logrotate: logrotate is missing; install your distribution's package logrotate, then try again" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
{
	apt-get update -q
	apt-get install -q -y --no-install-recommends logrotate
} </dev/null >&2
command -v logrotate >/dev/null
