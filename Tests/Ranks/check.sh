#!/usr/bin/env bash
# Every call of CMPI over 2 and 4 ranks: Tests/Ranks/check.sh [MPI…], each as pkg-config calls it; Open MPI by default.
set -euo pipefail
cd "$(dirname "$0")/../.."
# More ranks than cores, and the user that a container has.
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

for mpi in "${@:-ompi-c}"; do
    # Debian has both MPIs at once, and gives mpirun the name of each.
    case $mpi in mpich) mpirun=mpirun.mpich ;; *) mpirun=mpirun.openmpi ;; esac
    command -v $mpirun >/dev/null || mpirun=mpirun
    MPI=$mpi "${SWIFT:-swift}" build --traits MPI --product ranks --scratch-path .build-mpi
    for ranks in 2 4; do timeout 60 "$mpirun" -n $ranks .build-mpi/debug/ranks; done
done
