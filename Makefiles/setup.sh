#!/bin/sh
# Installs oneDNN, OpenSSL and SQLite where their headers are missing: with apt on Debian and Ubuntu, with Homebrew on macOS.
set -eu

has() {
    echo "#include <$1>" | clang -E ${BREW:+-I"$BREW/include"} -x c - >/dev/null 2>&1
}

command -v swift >/dev/null || {
    echo "Swift is missing; install a toolchain, 6.2 or newer: https://www.swift.org/install" >&2
    exit 1
}
[ "$(uname)" != Darwin ] || BREW=$(brew --prefix)

# What is missing: its header, its package for apt, its formula for Homebrew. macOS comes with SQLite and with CryptoKit.
missing= formulae=
has oneapi/dnnl/dnnl.h || missing="$missing libdnnl-dev" formulae=onednn
[ "$(uname)" = Darwin ] || has openssl/evp.h || missing="$missing libssl-dev"
[ "$(uname)" = Darwin ] || has sqlite3.h || missing="$missing libsqlite3-dev"
if [ -z "$missing" ]; then exit 0; fi

if [ "$(uname)" = Darwin ]; then
    echo "Installing $formulae"
    brew install $formulae
elif command -v apt-get >/dev/null; then
    echo "Installing$missing"
    "$(dirname "$0")/apt.sh" $missing
else
    echo "Install the headers and libraries of oneDNN, OpenSSL and SQLite by hand ($missing), then try again" >&2
    exit 1
fi
for header in oneapi/dnnl/dnnl.h sqlite3.h openssl/evp.h; do
    [ "$(uname)$header" != Darwinopenssl/evp.h ] || continue
    has $header || {
        echo "the packages were installed, but the header $header is still not found" >&2
        exit 1
    }
done
