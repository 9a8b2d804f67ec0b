#!/bin/sh
# Measures this project beside its peers and writes Benchmarks/RESULTS.md: Benchmarks/run.sh [--quick] [PART…] [--help]
# Makes a Python environment for the peers first; PYTHON=… names one that has them already.
set -eu
cd "$(dirname "$0")/.."
make build >&2
if [ -z "${PYTHON:-}" ]; then
    PYTHON=.build-peers/bin/python
    if [ ! -e .build-peers/complete ]; then
        python3 -m venv --clear .build-peers
        "$PYTHON" -m pip install --quiet --disable-pip-version-check \
            torch labml-nn feedback-transformer-pytorch transformers matplotlib
        touch .build-peers/complete
    fi
fi
exec "$PYTHON" Benchmarks/benchmark.py "$@"
