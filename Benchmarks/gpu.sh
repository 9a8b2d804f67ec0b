#!/bin/sh
# What a GPU does with this package, on that machine: Benchmarks/gpu.sh [DEVICE] [OUTPUT]
#
# Verifies every fixture, runs the device's tests where they are built, and times training and generation, with the shares of the time
# and the limit; then, where PyTorch sees the GPU, labml's model and PyTorch's parallel transformer beside it. No network is needed: copy
# this folder and a built .build/release/feedback; or, to a machine without Swift and oneDNN, what `make bundle` packs. DEVICE is cuda
# by default, OUTPUT where all that is printed goes too.
set -u
cd "$(dirname "$0")/.."
device=${1:-cuda}
output=${2:-gpu.txt}
feedback=${FEEDBACK:-.build/release/feedback}
[ -x "$feedback" ] || { echo "build it first: make build" >&2; exit 1; }
failed=0
: >"$output"
say() { echo "$@" | tee -a "$output"; }
run() {
    say "\$ $*"
    "$@" >"$output.part" 2>&1
    status=$?
    tee -a "$output" <"$output.part"
    return $status
}
trap 'rm -f "$output.part"' EXIT
# Libraries that were packed with the command.
export LD_LIBRARY_PATH="$(dirname "$feedback")/libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"

run "$feedback" devices || exit 1
grep -Eq "^$device(:0)?: .* processors$" "$output.part" || {
    echo "there is no $device; see above what is missing" >&2
    exit 1
}

say "1. Fixtures"
for precision in float32 bfloat16; do
    for fixture in Tests/FeedbackTrainingTests/Fixtures/*.safetensors; do
        if "$feedback" verify "$fixture" --device "$device" --precision $precision >"$output.part" 2>&1; then
            say "ok      $precision $(basename "$fixture")"
        else
            say "FAILED  $precision $(basename "$fixture")"
            grep -v '^ok' "$output.part" | tee -a "$output"
            failed=1
        fi
    done
done

say "2. Tests"
tests=$(find .build -name '*PackageTests.xctest' 2>/dev/null | head -1)
if [ -n "$tests" ] && command -v swift >/dev/null; then
    if FEEDBACK_TEST_DEVICE=$device swift test --skip-build --filter FeedbackDeviceTests >"$output.part" 2>&1; then
        grep 'Test run with' "$output.part" | tee -a "$output"
    else
        say "FAILED"
        { grep '✘' "$output.part" || tail -20 "$output.part"; } | tee -a "$output"
        failed=1
    fi
else
    say "no tests are built here; the fixtures above are what is checked"
fi

say "3. Training: the whole step, with its shares"
for precision in float32 bfloat16; do
    for memory in feedback per-layer; do
        run "$feedback" benchmark train --preset labml --device "$device" --precision $precision --memory $memory || failed=1
    done
done

say "4. Generation"
for precision in float32 bfloat16; do
    for batch in 1 64; do
        run "$feedback" benchmark generate --preset labml --device "$device" --precision $precision --batch-size $batch || failed=1
    done
done

say "5. PyTorch on the same GPU"
python=${PYTHON:-python3}
case $device in cuda*) torch=$device ;; *) torch=cuda ;; esac
if "$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
    for precision in float32 bfloat16; do
        for peer in labml-training parallel-training; do
            run "$python" Benchmarks/peers.py $peer --device "$torch" --precision $precision --d-model 512 --heads 8 --layers 6 \
                --d-ff 2048 --length 128 --batch-size 64 --warm-up 2 --steps 5
        done
    done
    run "$python" Benchmarks/peers.py labml-generation --device "$torch" --d-model 512 --heads 8 --layers 6 --d-ff 2048 \
        --length 128 --batch-size 1 --warm-up 1 --steps 5
else
    say "$python has no PyTorch that sees a GPU; name one that does as PYTHON=…"
fi
exit $failed
