#!/bin/sh
# Executes the notebook from a clean clone, on a small budget: notebook.sh FEEDBACK_BINARY [OUTPUT.ipynb]
set -eu
FEEDBACK=$(realpath "$1")
output=${2:-}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export FEEDBACK FEEDBACK_NOTEBOOK_STEPS="${FEEDBACK_NOTEBOOK_STEPS:-40}"
git clone --quiet "$here/../.." "$work/clone"
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet ipykernel matplotlib nbclient
"$work/venv/bin/python" "$here/notebook.py" "$work/clone/notebooks/tiny_shakespeare.ipynb" $output
