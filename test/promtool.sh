#!/bin/sh
# Finds promtool, which checks and tests alert rules, and prints its path.
#
#   sh test/promtool.sh            print the path; exit 1 if there is none
#   sh test/promtool.sh install    take it from Debian's package first, if it is missing
#
# Only the one program is taken: the package as a whole would start a Prometheus on this machine.
# PROMTOOL overrides the search.
set -eu

cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/xks-proxy-promtool

say() { echo "promtool: $*" >&2; }

find_promtool() {
	for place in "${PROMTOOL:-}" "$(command -v promtool || true)" "$cache/promtool"; do
		if [ -n "$place" ] && [ -x "$place" ]; then
			echo "$place"
			return 0
		fi
	done
	return 1
}

find_promtool && exit 0
if [ "${1:-}" != install ]; then
	say "promtool was not found: run sh test/promtool.sh install"
	exit 1
fi
if ! command -v apt-get >/dev/null 2>&1 || ! command -v dpkg-deb >/dev/null 2>&1; then
	say "promtool is missing: install Prometheus, or set PROMTOOL to the file"
	exit 1
fi
mkdir -p "$cache"
work=$(mktemp -d "$cache/work.XXXXXX")
trap 'rm -rf -- "$work"' EXIT
{
	(cd "$work" && apt-get download -q prometheus) || {
		apt-get update -q
		(cd "$work" && apt-get download -q prometheus)
	}
	dpkg-deb --extract "$work"/prometheus_*.deb "$work/files"
	mv "$work/files/usr/bin/promtool" "$cache/promtool"
} </dev/null >&2
find_promtool
