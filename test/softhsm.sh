#!/bin/sh
# Finds SoftHSM's PKCS#11 module and prints its path.
#
#   sh test/softhsm.sh            print the path; exit 1 if there is none
#   sh test/softhsm.sh install    install SoftHSM by the system's package manager first, if it is missing
#
# SOFTHSM2_MODULE overrides the search. The list of places is that of the demo
# (internal/demo/softhsm.go); a test compares them.
set -eu

say() { echo "softhsm: $*" >&2; }

find_module() {
	if [ -n "${SOFTHSM2_MODULE:-}" ]; then
		if [ -r "$SOFTHSM2_MODULE" ]; then
			echo "$SOFTHSM2_MODULE"
			return 0
		fi
		say "SOFTHSM2_MODULE names $SOFTHSM2_MODULE, which cannot be read"
		return 1
	fi
	while read -r place; do
		if [ -r "$place" ]; then
			echo "$place"
			return 0
		fi
	done <<PLACES
/usr/lib/softhsm/libsofthsm2.so
/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so
/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so
/usr/lib64/softhsm/libsofthsm2.so
/usr/lib64/pkcs11/libsofthsm2.so
/usr/lib64/libsofthsm2.so
/usr/lib/pkcs11/libsofthsm2.so
/usr/lib/libsofthsm2.so
/usr/local/lib/softhsm/libsofthsm2.so
/opt/homebrew/lib/softhsm/libsofthsm2.so
/usr/local/opt/softhsm/lib/softhsm/libsofthsm2.so
PLACES
	return 1
}

# package_manager prints the first that there is.
package_manager() {
	for manager in apt-get dnf yum apk pacman zypper brew; do
		if command -v "$manager" >/dev/null 2>&1; then
			echo "$manager"
			return 0
		fi
	done
	return 1
}

# commands_for prints what installs SoftHSM, one command a line.
commands_for() {
	case $1 in
	apt-get)
		echo "apt-get update -q"
		echo "apt-get install -q -y --no-install-recommends softhsm2"
		;;
	dnf) echo "dnf install -y softhsm" ;;
	yum) echo "yum install -y softhsm" ;;
	apk) echo "apk add softhsm" ;;
	pacman) echo "pacman -Sy --noconfirm softhsm" ;;
	zypper) echo "zypper --non-interactive install softhsm" ;;
	brew) echo "brew install softhsm" ;;
	esac
}

# become_root prints the command that runs another one as root, "" if there is no need of it.
become_root() {
	if [ "$1" = brew ] || [ "$(id -u)" = 0 ]; then
		return 0
	fi
	if command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
		echo "sudo -n"
		return 0
	fi
	return 1
}

install() {
	if ! manager=$(package_manager); then
		say "SoftHSM is missing, and no package manager was found that this script knows."
		say "Install SoftHSM 2 (libsofthsm2.so) by hand, or set SOFTHSM2_MODULE to its path."
		return 1
	fi
	if ! root=$(become_root "$manager"); then
		say "SoftHSM is missing, and installing it needs root. Run this, then try again:"
		commands_for "$manager" | sed 's/^/  sudo /' >&2
		return 1
	fi
	say "SoftHSM is missing; installing it by $manager"
	commands_for "$manager" | while read -r line; do
		say "+ ${root:+$root }$line"
		# The words of the command, and its output as messages.
		if ! DEBIAN_FRONTEND=noninteractive $root $line </dev/null >&2; then
			say "that failed; fix it or install SoftHSM 2 by hand, then try again"
			return 1
		fi
	done
}

case ${1:-find} in
find | install) ;;
*)
	say "use: sh test/softhsm.sh [install]"
	exit 2
	;;
esac
if find_module; then
	exit 0
fi
if [ -n "${SOFTHSM2_MODULE:-}" ]; then
	exit 1
fi
if [ "${1:-find}" = install ]; then
	install
	if find_module; then
		exit 0
	fi
fi
say "libsofthsm2.so was not found; run: sh test/softhsm.sh install"
exit 1
