#!/usr/bin/env bash
# Packs the command, the libraries that it needs, the fixtures and the benchmarks, for a machine without Swift and oneDNN:
#
#   Makefiles/bundle.sh .build/release/feedback feedback.tar.gz
#   tar xzf feedback.tar.gz && feedback/Benchmarks/gpu.sh
#
# There LD_LIBRARY_PATH names feedback/.build/release/libraries. What belongs to the C library is that machine's own.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
built=$work/feedback/.build/release
mkdir -p "$built/libraries" "$work/feedback/Tests/FeedbackTrainingTests"
cp -r Benchmarks "$work/feedback"
cp -r Tests/FeedbackTrainingTests/Fixtures "$work/feedback/Tests/FeedbackTrainingTests"
cp "$1" "$built/feedback"
ldd "$1" | awk '$3 ~ /^\// { print $3 }' | grep -Ev '/(libc|libm|libdl|librt|libpthread|libresolv|libutil)\.so' \
    | xargs cp -L -t "$built/libraries"
strip "$built/feedback"
tar czf "$2" -C "$work" feedback
echo "packed $2, $(du -h "$2" | cut -f1)"
