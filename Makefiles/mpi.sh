#!/bin/sh
# Prints the name by which pkg-config has the MPI to build against: the argument, or the first that is there. Installs Open MPI
# where there is none: with apt on Debian and Ubuntu, with Homebrew on macOS.
set -eu

for mpi in ${1:-ompi-c mpich impi}; do
    if pkg-config --exists "$mpi" 2>/dev/null; then
        echo "$mpi"
        exit 0
    fi
done

case ${1:-ompi-c} in
ompi-c) package="openmpi-bin libopenmpi-dev" formula=open-mpi ;;
mpich) package="mpich libmpich-dev" formula=mpich ;;
*) package= ;;
esac
mpi=${1:-ompi-c}
if [ -n "$package" ] && [ "$(uname)" = Darwin ]; then
    echo "Installing $formula" >&2
    brew install pkgconf $formula >&2
elif [ -n "$package" ] && command -v apt-get >/dev/null; then
    echo "Installing $package" >&2
    "$(dirname "$0")/apt.sh" --no-install-recommends pkg-config $package
fi
pkg-config --exists "$mpi" || {
    echo "pkg-config does not find $mpi: install it (on a cluster, load its module), or name another with MPI=…" >&2
    exit 1
}
echo "$mpi"
