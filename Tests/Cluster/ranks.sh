#!/usr/bin/env bash
# Trains over ranks, all on this machine: the same bytes on any number of them, and one clear line where they cannot train
# together. Takes half a minute.
#
#   Tests/Cluster/ranks.sh .build/release/feedback      MPIRUN=mpirun.mpich, where it was built with that
set -euo pipefail
export command=$(realpath "$1") mpirun=${MPIRUN:-mpirun}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Of Open MPI: as root, more ranks than cores, none kept to one of them, no notices of mpirun's own.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_orte_execute_quiet=1
export FEEDBACK_RUNS=$work/runs.sqlite
cd "$work"
awk 'BEGIN { for (i = 1; i < 2000; i++) print i " times " i " is " i * i }' >text.txt

fail() {
    echo "ranks.sh: $*" >&2
    exit 1
}
train() { "$mpirun" -n "$1" "$command" train "${@:2}" &>log; }

# MARK: The same bytes

small=(--data text.txt --layers 2 --d-model 32 --heads 2 --d-ff 64 --sequence-length 16 --batch-size 10 --dropout 0.1)
small+=(--steps 12 --eval-interval 5 --sample-interval 8 --checkpoint-interval 6 --keep 9)
last=checkpoints/step-00000012
same() {
    local file
    for file in "$1/$last"/*.safetensors; do
        cmp "$file" "$2/$last/${file##*/}" || fail "$2 has another ${file##*/} than $1"
    done
}
# Four threads in all, on one rank, two and four.
compare() {
    local name=$1 ranks
    for ranks in 1 2 4; do
        train $ranks "${small[@]}" "${@:2}" --threads $((4 / ranks)) --output "$name-$ranks" || fail "$name: $(cat log)"
        [ $ranks = 1 ] || grep -q "^$ranks ranks on 1 machine, $((4 / ranks)) thread" log || fail "$ranks ranks: $(cat log)"
    done
    # Where bfloat16 is no faster, as on a machine busy with something else, a run is in float32.
    if [ "$(grep -h ^precision "$name"-*/config.yaml | uniq | wc -l)" != 1 ]; then
        echo "ranks.sh: not all runs of $name were in bfloat16: not compared"
        return
    fi
    for ranks in 2 4; do same "$name-1" "$name-$ranks"; done
}
compare windows
compare streams --streams --accumulate 2
compare narrow --precision bfloat16

# From the middle of a run on two ranks to its end on one and on four.
for ranks in 1 4; do
    cp -r streams-2 "resumed-$ranks"
    rm -r "resumed-$ranks/$last"
    train $ranks --resume "resumed-$ranks" --threads $((4 / ranks)) || fail "$(cat log)"
    same streams-1 "resumed-$ranks"
done

# MARK: One clear line

# What it says on all ranks together, and that it ends.
refused() {
    local pattern=$1 status=0
    timeout 10 "$mpirun" -n "${@:2}" --output refused &>log || status=$?
    [ $status != 0 ] && [ $status != 124 ] || fail "status $status in place of \"$pattern\": $(cat log)"
    [ "$(grep -c Error: log)" = 1 ] && grep -Eq "^Error: $pattern" log || fail "not \"$pattern\" alone: $(cat log)"
    rm -rf refused
}
# Each rank has a folder of its own, and its files in it under the same path.
mkdir 0 1 2
cat >own.sh <<'OWN'
cd "${OMPI_COMM_WORLD_RANK:-$PMI_RANK}"
exec "$command" train "$@"
OWN
own=(bash own.sh "${small[@]}" --data /proc/self/cwd/text.txt)
refused "3 ranks cannot share a batch of 2 rows" 3 "$command" train "${small[@]}" --batch-size 2
# MPICH's mpirun lets the other ranks finish where one has ended before MPI began.
! "$mpirun" --version | grep -q "Open MPI" || refused "Unknown option" 2 "$command" train --no-such-option
cp text.txt 0
sed s/1998/1989/ text.txt >1/text.txt
refused "rank 1 differs from rank 0 in its data" 2 "${own[@]}"
refused "rank 2 differs from rank 0 in its settings" 3 bash -c \
    'exec "$command" train --seed $((${OMPI_COMM_WORLD_RANK:-$PMI_RANK} / 2)) "$@"' - "${small[@]}"
rm 1/text.txt
refused "rank 1: .*text.txt" 3 "${own[@]}"
