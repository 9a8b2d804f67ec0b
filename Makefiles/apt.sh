#!/bin/sh
# Installs packages with apt, as root: Makefiles/apt.sh [OPTION…] PACKAGE…
set -eu

as_root=
[ "$(id -u)" = 0 ] || as_root=sudo
$as_root apt-get update -qq >&2
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -qq -y "$@" >/dev/null
