#!/bin/sh
# Installs oneDNN where its header is missing: with apt on Debian and Ubuntu, with Homebrew on macOS.
set -eu

has_onednn() {
    echo '#include <oneapi/dnnl/dnnl.h>' | clang -E ${BREW:+-I"$BREW/include"} -x c - >/dev/null 2>&1
}

command -v swift >/dev/null || {
    echo "Swift is missing; install a toolchain, 6.2 or newer: https://www.swift.org/install" >&2
    exit 1
}
[ "$(uname)" != Darwin ] || BREW=$(brew --prefix)
if has_onednn; then exit 0; fi

echo "Installing oneDNN"
if [ "$(uname)" = Darwin ]; then
    brew install onednn
elif command -v apt-get >/dev/null; then
    as_root=
    [ "$(id -u)" = 0 ] || as_root=sudo
    $as_root apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $as_root apt-get install -qq -y libdnnl-dev >/dev/null
else
    echo "Install oneDNN's headers and library by hand (libdnnl-dev, onednn-devel), then try again" >&2
    exit 1
fi
has_onednn || {
    echo "oneDNN was installed, but its header oneapi/dnnl/dnnl.h is still not found" >&2
    exit 1
}
