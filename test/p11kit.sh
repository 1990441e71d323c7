#!/bin/sh
# Finds p11-kit-proxy.so, p11-kit's module in front of other modules, and prints its path.
#
#   sh test/p11kit.sh            print the path; exit 1 if there is none
#   sh test/p11kit.sh install    install it with apt-get first, if it is missing
#
# P11_KIT_PROXY overrides the search.
set -eu

say() { echo "p11-kit: $*" >&2; }

find_proxy() {
	for place in "${P11_KIT_PROXY:-}" \
		/usr/lib/x86_64-linux-gnu/p11-kit-proxy.so \
		/usr/lib/aarch64-linux-gnu/p11-kit-proxy.so \
		/usr/lib64/p11-kit-proxy.so \
		/usr/lib/p11-kit-proxy.so; do
		if [ -n "$place" ] && [ -r "$place" ]; then
			echo "$place"
			return 0
		fi
	done
	return 1
}

find_proxy && exit 0
if [ "${1:-}" != install ]; then
	say "p11-kit-proxy.so was not found: run sh test/p11kit.sh install"
	exit 1
fi
if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" != 0 ]; then
	say "p11-kit-proxy.so is missing: install p11-kit (Debian's package is p11-kit-modules)," \
		"or set P11_KIT_PROXY to the file"
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
{
	apt-get update -q
	apt-get install -q -y --no-install-recommends p11-kit-modules
} </dev/null >&2
find_proxy
