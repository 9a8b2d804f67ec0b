#!/bin/sh
# Trains for a few steps and reads what is left behind with the official Python packages.
set -eu
feedback=$PWD/$1
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export FEEDBACK_RUNS="$work/runs.sqlite"
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet labml-nn numpy openai safetensors tensorboard tokenizers torch
seq 1 3000 | awk '{ printf "%d is \"odd\" — It'"'"'s (%s). Ja<br />, NÖ!\n", $1, $1 % 2 ? "ja" : "nö" }' >"$work/text.txt"
train() {
    "$feedback" train --data "$work/text.txt" --layers 2 --d-model 32 --heads 4 --d-ff 64 --quiet "$@" >/dev/null
}
for kind in characters bytes words symbols; do
    train --tokenizer $kind --steps 5 --output "$work/$kind"
    model=$work/$kind/checkpoints/step-00000005
    "$work/venv/bin/python" "$here/files.py" "$work/text.txt" "$model" $kind
    "$feedback" generate "$model" --prompt is --max-tokens 5 >/dev/null
done
"$work/venv/bin/python" "$here/bpe.py" "$feedback" "$work"

train --steps 100000 --max-time 2s --eval-interval 10 --sample-interval 20 --output "$work/run" \
    --tensorboard "$work/board"
"$feedback" train --resume "$work/run" --max-time 1s --quiet --tensorboard "$work/board" >/dev/null
for format in csv jsonl; do "$feedback" runs export "$work/run" --format $format >"$work/run.$format"; done
"$work/venv/bin/python" "$here/history.py" "$work" 2>/dev/null
"$work/venv/bin/python" "$here/server.py" "$feedback" "$work/characters" "$work/bytes"
"$work/venv/bin/python" "$here/kills.py" "$feedback" "$work"
"$work/venv/bin/python" "$here/pytorch.py" "$feedback" "$work/text.txt" "$work"
