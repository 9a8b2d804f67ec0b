#!/bin/sh
# clang-format, installed first where it is missing: with apt on Debian and Ubuntu, with Homebrew on macOS. Any version from 14 on
# formats these sources alike.
set -eu

if ! command -v clang-format >/dev/null; then
    as_root=
    [ "$(id -u)" = 0 ] || as_root=sudo
    if [ "$(uname)" = Darwin ]; then
        brew install clang-format >/dev/null
    else
        $as_root apt-get update -qq && DEBIAN_FRONTEND=noninteractive $as_root apt-get install -qq -y clang-format >/dev/null
    fi || {
        echo "clang-format is missing and cannot be installed: the format of the C sources is not checked" >&2
        exit 1
    }
fi
exec clang-format "$@"
