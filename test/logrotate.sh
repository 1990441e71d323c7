#!/bin/sh
# Finds logrotate, with which the shipped configs/xks-proxy.logrotate is tried, installs it if it is
# missing, and prints its path. It is in /usr/sbin, where an ordinary user's PATH does not look.
set -eu

PATH=$PATH:/usr/sbin:/sbin
if command -v logrotate; then
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
command -v logrotate
