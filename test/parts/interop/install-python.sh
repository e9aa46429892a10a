#!/bin/sh
# Installs what the interop test speaks to the ensemble endpoint with: Debian's Python, its gRPC and protobuf modules,
# and the generator of Python code from .proto files. It does nothing when they are there and work.
#
#   install-python.sh           installs what is missing; never asks for a password
#   install-python.sh --check   only says whether something is missing, and which packages bring it
#
# The python3 of PATH may be another one, without these modules, so everything is called by its path.
set -eu

packages='python3 python3-grpcio python3-protobuf protobuf-compiler protobuf-compiler-grpc'

# try runs a program and, when it is missing or fails, says which one and its last words.
try() {
	[ -x "$1" ] || { echo "$1 is missing"; return 1; }
	output=$("$@" 2>&1 </dev/null) && return
	printf '%s does not work: %s\n' "$1" "$(printf '%s\n' "$output" | tail -n 1)"
	return 1
}

# check tries all programs until one fails. The plugin, asked for no file, writes none.
check() {
	try /usr/bin/python3 -c 'import grpc, google.protobuf' &&
		try /usr/bin/protoc --version &&
		try /usr/bin/grpc_python_plugin
}

fail() {
	echo "$1" >&2
	echo "The interop test needs the Debian packages $packages. Install them by hand:" >&2
	echo "  sudo apt-get update && sudo apt-get install --no-install-recommends $packages" >&2
	exit 1
}

if missing=$(check); then
	exit 0
fi
if [ "${1-}" = --check ]; then
	echo "$missing; the Debian packages $packages are needed: run make install-python"
	exit 1
fi

as_root=
command -v apt-get >/dev/null || fail "$missing; and there is no apt-get here to install it with"
if [ "$(id -u)" != 0 ]; then
	command -v sudo >/dev/null || fail "$missing; and only root may install it"
	as_root='sudo -n'
fi
install() {
	# shellcheck disable=SC2086 # The words of as_root and packages are meant apart.
	$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 $packages
}
echo "$missing"
echo "installing the Debian packages $packages, for the interop test: a Python client of the ensemble endpoint"
# A machine that has never asked, or not for long, does not know today's versions.
install || { $as_root apt-get update -qq && install; } || fail "they could not be installed"
missing=$(check) || fail "they were installed, and yet $missing"
