#!/bin/sh
# The kernels of any CPU on arm64: compiled for it, run under emulation, and compared with what this machine makes of them, which
# the other tests hold to the reference. Debian and Ubuntu; installs a cross C library and QEMU where they are missing.
set -eu
cd "$(dirname "$0")/../.."

if ! command -v qemu-aarch64-static >/dev/null || [ ! -d /usr/aarch64-linux-gnu/include ] || [ ! -d /usr/lib/gcc-cross/aarch64-linux-gnu ]; then
    Makefiles/apt.sh qemu-user-static libc6-dev-arm64-cross gcc-aarch64-linux-gnu
fi
gcc=$(ls -d /usr/lib/gcc-cross/aarch64-linux-gnu/* | tail -1)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

sources="Tests/Interoperability/kernels.c Sources/CKernels/*.c"
flags="-O2 -Wall -Wextra -Wno-unused-parameter -Werror -I Sources/CKernels/include"
arm="--target=aarch64-linux-gnu -isystem /usr/aarch64-linux-gnu/include"
clang $flags $sources -lm -o "$work/here"
clang $arm $flags -fuse-ld=lld -B/usr/aarch64-linux-gnu/lib -L/usr/aarch64-linux-gnu/lib -B"$gcc" -L"$gcc" -static \
    $sources -lm -o "$work/there"
"$work/here" >"$work/here.out"
qemu-aarch64-static "$work/there" >"$work/there.out"
for source in Sources/CKernels/*.c; do clang $arm $flags -S "$source" -o -; done | grep -cE 'fml[as].*v[0-9]+\.4s' |
    sed 's/$/ multiply-adds of four float32 each in the code/'
python3 - "$work/here.out" "$work/there.out" <<'END'
import array, sys

here, there = (array.array("f", open(path, "rb").read()) for path in sys.argv[1:])
assert len(here) == len(there) > 1_000_000
# Sums in another order, and fused where the other's are not: a few units in the last place of one or of the number.
assert all((a == a) == (b == b) for a, b in zip(here, there)), "not a number on one of the two"
worst = max(abs(a - b) / max(1, abs(a)) for a, b in zip(here, there) if a == a)
print(f"{len(here):,} numbers, the largest difference {worst:.1e}")
assert worst < 1e-5
END
