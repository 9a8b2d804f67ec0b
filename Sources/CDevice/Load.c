#include "CDevice.h"

#include <dlfcn.h>
#include <stdio.h>

static void *openFirst(const char *const *names) {
    for (; *names; names++) {
        void *library = dlopen(*names, RTLD_NOW | RTLD_LOCAL);
        if (library) return library;
    }
    return 0;
}

#define LOAD(name, symbol)                                                                                             \
    *(void **)&functions->name = dlsym(library, #symbol);                                                              \
    if (!functions->name) return 2;

int device_load_opencl(OpenCLFunctions *functions) {
    static const char *const names[] = {
        "libOpenCL.so.1", "libOpenCL.so", "/System/Library/Frameworks/OpenCL.framework/OpenCL", 0};
    void *library = openFirst(names);
    if (!library) return 1;
#define LOAD_OPENCL(name, arguments) LOAD(name, name)
    OPENCL_FUNCTIONS(LOAD_OPENCL)
    LOAD(clCreateContext, clCreateContext)
    LOAD(clCreateCommandQueue, clCreateCommandQueue)
    LOAD(clCreateBuffer, clCreateBuffer)
    LOAD(clCreateProgramWithSource, clCreateProgramWithSource)
    LOAD(clCreateKernel, clCreateKernel)
    return 0;
}

#define LOAD_CUDA(name, symbol, arguments) LOAD(name, symbol)

int device_load_cuda(CUDAFunctions *functions) {
    static const char *const names[] = {"libcuda.so.1", "libcuda.so", 0};
    void *library = openFirst(names);
    if (!library) return 1;
    CUDA_FUNCTIONS(LOAD_CUDA)
    return 0;
}

int device_load_nvrtc(NVRTCFunctions *functions, int version) {
    void *library = 0;
    for (; !library && version >= 12; version--) {
        char name[32];
        snprintf(name, sizeof name, "libnvrtc.so.%d", version);
        library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    }
    if (!library) library = dlopen("libnvrtc.so", RTLD_NOW | RTLD_LOCAL);
    if (!library) return 1;
    NVRTC_FUNCTIONS(LOAD_CUDA)
    return 0;
}
