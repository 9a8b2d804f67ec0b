#!/bin/sh
# Trains for a few steps and reads the checkpoint with the official Python packages.
set -eu
feedback=$PWD/$1
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet numpy safetensors tokenizers
seq 1 3000 | awk '{ printf "%d is \"odd\" — It'"'"'s (%s). Ja<br />, NÖ!\n", $1, $1 % 2 ? "ja" : "nö" }' >"$work/text.txt"
for kind in characters bytes words symbols; do
    "$feedback" train --data "$work/text.txt" --tokenizer $kind --layers 2 --d-model 32 --heads 4 --d-ff 64 --steps 5 \
        --quiet --output "$work/$kind" >/dev/null
    model=$work/$kind/checkpoints/step-00000005
    "$work/venv/bin/python" "$here/check.py" "$work/text.txt" "$model" $kind
    "$feedback" generate "$model" --prompt is --max-tokens 5 >/dev/null
done
