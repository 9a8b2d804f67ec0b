#!/bin/sh
# clang-format, installed first where it is missing: with apt on Debian and Ubuntu, with Homebrew on macOS. Any version from 14 on
# formats these sources alike.
set -eu

if ! command -v clang-format >/dev/null; then
    if [ "$(uname)" = Darwin ]; then
        brew install clang-format >/dev/null
    else
        "$(dirname "$0")/apt.sh" clang-format
    fi || {
        echo "clang-format is missing and cannot be installed: the format of the C sources is not checked" >&2
        exit 1
    }
fi
exec clang-format "$@"
