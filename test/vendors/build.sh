#!/bin/sh
# Builds PKCS#11 modules of other makers, as far as their sources can be had, for mixed pairs with
# SoftHSM (go run ./test/faults -vendors DIRECTORY).
#
#   sh test/vendors/build.sh DIRECTORY
#
# What is there already is not built again. What cannot be had is named, and the rest goes on.
# Needs apt-get (Debian) and root for build tools, and cargo for kryoptic. One job at a time.
set -u

kryoptic=1.5.4
p11kit=0.25.5

say() { echo "vendors: $*" >&2; }

if [ $# != 1 ]; then
	say "use: sh test/vendors/build.sh DIRECTORY"
	exit 2
fi
mkdir -p "$1" || exit 1
dir=$(cd "$1" && pwd)
sources=$dir/sources
log=$dir/build.log
mkdir -p "$sources"
: >"$log"

# quietly runs a command with a low priority and keeps what it prints.
quietly() { nice -n 10 "$@" >>"$log" 2>&1 </dev/null; }

# tools installs packages that a build needs.
tools() {
	quietly env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
}

# debian_source fetches the original source of a package of Debian testing or stable. The
# archive's index may name files that it no longer has: only the tar file is needed.
debian_source() { # name version
	apt=$dir/apt
	mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial"
	# The mirror that this machine uses, of the archive and not of its security updates.
	mirror=$(apt-get indextargets --format '$(SITE)' | grep -v security | head -n 1)
	for suite in trixie testing; do
		echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]" \
			"$mirror $suite main"
	done >"$apt/sources.list"
	cat >"$apt/apt.conf" <<-CONF
		Dir::Etc::sourcelist "$apt/sources.list";
		Dir::Etc::sourceparts "-";
		Dir::State "$apt/state";
		Dir::State::status "/var/lib/dpkg/status";
		Dir::Cache "$apt/cache";
	CONF
	export APT_CONFIG="$apt/apt.conf"
	if ! [ -e "$apt/updated" ]; then
		quietly apt-get update && : >"$apt/updated"
	fi
	exact=$(apt-cache showsrc "$1" 2>>"$log" |
		sed -n "s/^Version: \($2[-+].*\)/\1/p" | head -n 1)
	cd "$sources" || return 1
	quietly apt-get source -qq --download-only "$1=$exact"
	tar -xf "$1"_"$2"*.orig.tar.* 2>>"$log"
}

build_kryoptic() {
	command -v cargo >/dev/null 2>&1 || { say "kryoptic needs cargo"; return 1; }
	tools libclang-dev libssl-dev pkg-config || return 1
	export CARGO_HOME="$dir/cargo"
	mkdir -p "$sources/fetch/src" && cd "$sources/fetch" || return 1
	# A package that only depends on it: cargo has no command that fetches one crate.
	printf '[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2021"\n' >Cargo.toml
	printf '[workspace]\n[dependencies]\nkryoptic = "=%s"\n' "$kryoptic" >>Cargo.toml
	: >src/lib.rs
	quietly cargo fetch || return 1
	rm -rf "$sources/kryoptic"
	cp -r "$CARGO_HOME"/registry/src/*/kryoptic-"$kryoptic" "$sources/kryoptic" || return 1
	cd "$sources/kryoptic" || return 1
	# OpenSSL 3.0 lacks what the default features use.
	quietly cargo build --release -j 1 --no-default-features \
		--features minimal,kryoptic-lib/dynamic || return 1
	cp target/release/libkryoptic_pkcs11.so "$dir/kryoptic.so"
}

build_p11kit() {
	tools meson ninja-build pkg-config libffi-dev libtasn1-6-dev || return 1
	debian_source p11-kit "$p11kit" || return 1
	cd "$sources/p11-kit-$p11kit" || return 1
	quietly meson setup build --prefix="$dir/p11-kit" --libdir=lib --buildtype=release \
		-Dgtk_doc=false -Dman=false -Dnls=false -Dsystemd=disabled -Dtrust_module=disabled \
		-Dbash_completion=disabled || return 1
	quietly ninja -j 1 -C build install || return 1
	# Client and server must load the library that they were built with, not the system's.
	cat >"$dir/p11-kit-server" <<-SERVER
		#!/bin/sh
		# Serves a token of a module: p11-kit-server SOCKET MODULE TOKEN
		export LD_LIBRARY_PATH="$dir/p11-kit/lib"
		exec "$dir/p11-kit/libexec/p11-kit/p11-kit-server" -f -n "\$1" --provider "\$2" \\
			"pkcs11:token=\$3"
	SERVER
	chmod +x "$dir/p11-kit-server"
	ln -sf p11-kit/lib/pkcs11/p11-kit-client.so "$dir/p11-kit-client.so"
}

build_freehsm() {
	tools libssl-dev make gcc || return 1
	debian_source freehsm-c 2.0.0 || return 1
	cd "$sources/freehsm-c-2.0.0" || return 1
	# OpenSSL 3.0 has no names for two parameters of signatures.
	context='-DOSSL_SIGNATURE_PARAM_CONTEXT_STRING=\"context-string\"'
	fixed='-DOSSL_SIGNATURE_PARAM_DETERMINISTIC=\"deterministic\"'
	quietly make WARN_FLAGS=-w CC="cc $context $fixed" libfreehsm.so || return 1
	cp libfreehsm.so "$dir/freehsm.so"
}

tools opensc # pkcs11-tool makes the tokens

missing=0
while read -r name file; do
	if [ -e "$dir/$file" ]; then
		say "$name is there"
		continue
	fi
	say "building $name; the log is $log"
	if ! (build_"$name") || ! [ -e "$dir/$file" ]; then
		say "$name cannot be had or built here:"
		tail -n 3 "$log" | sed 's/^/  /' >&2
		missing=$((missing + 1))
	fi
done <<MODULES
kryoptic kryoptic.so
p11kit p11-kit-client.so
freehsm freehsm.so
MODULES
say "openCryptoki is not built: Debian's archive has no source of 3.27, and the daemon of" \
	"3.23 runs only as a user of its own"
say "$missing of 3 are missing"
