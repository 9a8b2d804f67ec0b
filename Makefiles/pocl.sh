#!/bin/sh
# Installs PoCL, OpenCL on the CPU, where no OpenCL driver is found: what the kernels are tested on. With apt on Debian and Ubuntu;
# elsewhere their tests are left out.
set -eu

if ldconfig -p 2>/dev/null | grep -q 'libOpenCL\.so\.1' && ls /etc/OpenCL/vendors/*.icd >/dev/null 2>&1; then exit 0; fi
command -v apt-get >/dev/null || exit 0
echo "Installing pocl-opencl-icd"
exec "$(dirname "$0")/apt.sh" pocl-opencl-icd ocl-icd-libopencl1
