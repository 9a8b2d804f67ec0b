#!/bin/sh
# The dashboard in a real browser: check.sh FEEDBACK_BINARY [--screenshots FOLDER]
# Installs Chromium where it is missing and apt can.
set -eu
feedback=$(realpath "$1")
screenshots=
if [ "${2:-}" = --screenshots ]; then
    mkdir -p "$3"
    screenshots=$(realpath "$3")
fi
here=$(cd "$(dirname "$0")" && pwd)
if ! command -v chromium >/dev/null; then
    echo "Installing chromium"
    "$here/../../Makefiles/apt.sh" chromium
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export FEEDBACK_RUNS="$work/runs.sqlite"
seq 1 3000 | awk '{ printf "%d is %s\n", $1, $1 % 2 ? "odd" : "even" }' >"$work/text.txt"
python3 "$here/dashboard.py" "$feedback" "$work" $screenshots
