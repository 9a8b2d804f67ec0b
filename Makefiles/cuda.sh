#!/bin/sh
# Compiles the devices' kernels for NVIDIA's GPUs, in float32 and in bfloat16, and lists the registers and spills of each: no GPU and
# no driver is needed. A warning is an error, and so is a spill in the persistent kernel. The compiler is nvcc where there is one,
# else PyPI's nvidia-cuda-nvcc, in a virtual environment that is removed afterwards.
set -eu
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

nvcc=$(command -v nvcc || true)
if [ -z "$nvcc" ]; then
    python3 -m venv "$folder/venv"
    "$folder/venv/bin/pip" install -q nvidia-cuda-nvcc nvidia-cuda-runtime nvidia-cuda-crt nvidia-nvvm
    nvcc=$(find "$folder/venv" -name nvcc -type f | head -1)
fi

for narrow in 0 1; do
    {
        echo "#define GROUP 256"
        echo "#define NARROW $narrow"
        echo "#define TENSOR_CORES"
        for file in Phase Prelude Attention Product Pass Gradients Weights; do
            cat "Sources/FeedbackDevice/Kernels/$file.cl"
        done
    } >"$folder/kernels.cu"
    for architecture in sm_80 sm_90; do
        "$nvcc" -arch=$architecture -std=c++17 -Werror all-warnings -Xptxas -v,-Werror -cubin -o "$folder/kernels.cubin" \
            "$folder/kernels.cu" 2>"$folder/log" || {
            cat "$folder/log" >&2
            exit 1
        }
        awk -v numbers="$([ $narrow = 1 ] && echo bfloat16 || echo float32) $architecture" -v quote="'" '
            /Compiling entry/ { split($0, part, quote); kernel = part[2] }
            /spill/ { spills = $5 + $9 }
            /Used/ { for (i = 1; i < NF; i++) if ($i == "Used") registers = $(i + 1)
                     printf "%s %-22s %3d registers, %d bytes spilled\n", numbers, kernel, registers, spills
                     if (spills > 0 && kernel == "pass") exit 1 }' "$folder/log" || {
            echo "the persistent kernel spills registers on $architecture" >&2
            exit 1
        }
    done
done
