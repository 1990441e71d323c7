#!/usr/bin/env bash
# Runs AWS's public test client for external key store proxies against a demo, over
# HTTP/1.1 and HTTP/2, and checks that all of its tests pass.
#
#   test/aws-client.sh DIRECTORY
#
# DIRECTORY is a copy of https://github.com/aws-samples/aws-kms-xksproxy-test-client
#
#   XKS_PROXY_PROGRAM  the program to test (default: bin/xks-proxy, as `make build` leaves it)
set -euo pipefail

tests=49 # that version 1.1.0 of the client has, with -a

die() {
	echo "aws-client: $*" >&2
	exit 1
}

need() {
	local missing=()
	for tool in curl jq xxd uuidgen; do
		command -v "$tool" >/dev/null || missing+=("$tool")
	done
	[ ${#missing[@]} -eq 0 ] || die "install ${missing[*]}: the client needs curl, jq, xxd and uuidgen"
}

[ $# -eq 1 ] || die "usage: $0 DIRECTORY, a copy of github.com/aws-samples/aws-kms-xksproxy-test-client"
client=$1
[ -x "$client/test-xks-proxy" ] || die "$client holds no test-xks-proxy: git clone https://github.com/aws-samples/aws-kms-xksproxy-test-client"
need
program=${XKS_PROXY_PROGRAM:-$(dirname "$0")/../bin/xks-proxy}
[ -x "$program" ] || die "$program is not there: make build, or set XKS_PROXY_PROGRAM"
program=$(realpath "$program")
unset XKS_PROXY_PROGRAM # the program takes its own settings from variables that begin so

dir=$(mktemp -d)
proxy=
cleanup() {
	if [ -n "$proxy" ]; then
		kill "$proxy" 2>/dev/null || true
		wait "$proxy" 2>/dev/null || true
	fi
	rm -rf "$dir"
}
trap cleanup EXIT

"$program" demo --dir "$dir/demo" --listen 127.0.0.1:0 --prepare-only >"$dir/demo.log" 2>&1 || die "the demo cannot be prepared: $(cat "$dir/demo.log")"
"$program" serve --config "$dir/demo/xks-proxy.yaml" >"$dir/proxy.log" 2>&1 &
proxy=$!

connection() { jq -er "$1" "$dir/demo/connection.json"; }
endpoint=$(connection .XksProxyUriEndpoint)
ca=$(connection .caCertificate)
for _ in $(seq 100); do
	if curl --silent --fail --cacert "$ca" "$endpoint/healthz/ready" >/dev/null; then
		ready=yes
		break
	fi
	kill -0 "$proxy" 2>/dev/null || break
	sleep 0.1
done
[ "${ready:-}" = yes ] || die "the proxy does not become ready: $(cat "$dir/proxy.log" "$dir/demo/xks-proxy.log" 2>/dev/null)"

path=$(connection .XksProxyUriPath)
prefix=${path%/kms/xks/v1}
export XKS_PROXY_HOST=${endpoint#https://} URI_PREFIX=${prefix#/} REGION ANSI_ESCAPE=0
REGION=$(connection .region)
SIGV4_ACCESS_KEY_ID=$(connection .XksProxyAuthenticationCredential.AccessKeyId)
SIGV4_SECRET_ACCESS_KEY=$(connection .XksProxyAuthenticationCredential.RawSecretAccessKey)
KEY_ID=$(connection '.keys[0]')
export SIGV4_ACCESS_KEY_ID SIGV4_SECRET_ACCESS_KEY KEY_ID
# The demo has keys with the names that the client expects for ENCRYPT_ONLY_KEY_ID and so on.

failed=
for version in http1.1 http2; do
	# Through a pipe: the client opens /dev/stderr anew, which would cut a file off.
	(cd "$client" && SECURE="--cacert $ca --$version" ./test-xks-proxy -a || true) 2>&1 | cat >"$dir/$version.log"
	if grep -q "All $tests tests PASSED" "$dir/$version.log" && grep -qi "^HTTP/${version#http} 200" "$dir/$version.log"; then
		echo "$version: all $tests tests of AWS's client passed"
	else
		echo "$version: not all $tests tests of AWS's client passed:"
		tail -n 60 "$dir/$version.log"
		failed=yes
	fi
done
[ -z "$failed" ]
