#!/usr/bin/env bash
# The way to an NVIDIA GPU without one: the device's tests through a driver that computes on the CPU (driver.cpp), and one clear line,
# with nothing lost, where a driver, a compiler or a GPU fails.
#
#   Tests/CUDA/check.sh .build/debug/feedback swift test      the command, and how to run tests
set -euo pipefail
cd "$(dirname "$0")/../.."
command=$PWD/$1 tests=("${@:2}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
${CXX:-c++} -std=c++17 -O2 -Wall -Werror -shared -fPIC -pthread -DHERE="\"$PWD/Tests/CUDA\"" -o "$work/libcuda.so.1" \
    Tests/CUDA/driver.cpp -ldl
ln -s libcuda.so.1 "$work/libnvrtc.so"
export LD_LIBRARY_PATH=$work XDG_CACHE_HOME=$work/cache FEEDBACK_RUNS=$work/runs.sqlite

# Gradients are the fixtures', below; here all else.
FEEDBACK_TEST_DEVICE=cuda "${tests[@]}" --filter FeedbackDeviceTests --skip agrees >"$work/log" 2>&1 || {
    grep -E "✘|rror:" "$work/log" | head -40 >&2
    exit 1
}
grep -q "✔ Test decodesTogetherAndAlone(wiring:narrow:) with .* passed" "$work/log" || {
    echo "check.sh: the device's tests were left out" >&2
    exit 1
}
for fixture in Tests/FeedbackTrainingTests/Fixtures/*.safetensors; do
    for precision in float32 bfloat16; do
        "$command" verify "$fixture" --device cuda --precision $precision >"$work/log" 2>&1 || {
            grep -v '^ok' "$work/log" >&2
            exit 1
        }
    done
done

# MARK: Failures

cd "$work"
awk 'BEGIN { for (i = 1; i < 150; i++) print i " times " i " is " i * i }' >text.txt
small=(--data text.txt --layers 1 --d-model 16 --heads 2 --d-ff 32 --batch-size 4 --device cuda)
small+=(--sequence-length 16 --curriculum 0:8,6:16 --streams --accumulate 2 --dropout 0.1)
small+=(--steps 12 --eval-interval 6 --checkpoint-interval 4 --sample-interval 100)

fail() {
    echo "check.sh: $*" >&2
    cat log >&2
    exit 1
}
# What is on request wrong, and words of the one line that says so.
refused() {
    local status=0
    rm -rf refused
    FAKE_CUDA=$1 "$command" train "${small[@]}" --output refused "${@:3}" >log 2>&1 || status=$?
    [ $status = 1 ] && [ "$(grep -c '^Error: ' log)" = 1 ] && grep -q "^Error: .*$2" log || fail "$1: status $status"
}
refused devices=0 "finds no GPU"
refused starts=802 "finds no GPU (CUDA error 802, an error of the CPU's)"
refused version=11080 "for CUDA 11.8; install one for 12.0"
refused capability=60 "is too old; compute capability 7.0"
refused memory=1000000 "of memory; there are 0.0 GiB"
refused free=1000000 "has no room for"
XDG_CACHE_HOME=$work/other refused refuses=1 "does not compile the kernels"

# A GPU that is lost in the middle: the last checkpoint is whole, and the run goes on from it to the same end.
"$command" train "${small[@]}" --output undisturbed >log 2>&1 || fail "a run"
for launches in 300 520; do
    refused launches=$launches "unspecified launch failure; continue from the last checkpoint, with --resume"
    ls refused/checkpoints | grep -q step- || fail "no checkpoint before launch $launches"
    "$command" train --resume refused >log 2>&1 || fail "resuming"
    for file in undisturbed/checkpoints/step-00000012/*.safetensors; do
        cmp "$file" "refused/checkpoints/step-00000012/${file##*/}" || fail "another ${file##*/} after a failure"
    done
done
