// What is used of CUDA's driver interface and of NVRTC, its compiler, as their documentation has it.
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef struct cuda_context *CUcontext;
typedef struct cuda_module *CUmodule;
typedef struct cuda_function *CUfunction;
typedef struct cuda_stream *CUstream;
typedef struct cuda_event *CUevent;
typedef struct nvrtc_program *nvrtcProgram;

enum {
    CUDA_MULTIPROCESSORS = 16,
    CUDA_MAJOR = 75,
    CUDA_MINOR = 76,
};

#define CUDA_FUNCTIONS(F)                                                                                              \
    F(cuInit, cuInit, (unsigned flags))                                                                                \
    F(cuDriverGetVersion, cuDriverGetVersion, (int *version))                                                          \
    F(cuDeviceGetCount, cuDeviceGetCount, (int *count))                                                                \
    F(cuDeviceGet, cuDeviceGet, (int *device, int number))                                                             \
    F(cuDeviceGetName, cuDeviceGetName, (char *name, int size, int device))                                            \
    F(cuDeviceGetAttribute, cuDeviceGetAttribute, (int *value, int attribute, int device))                             \
    F(cuDeviceTotalMem, cuDeviceTotalMem_v2, (size_t * bytes, int device))                                             \
    F(cuDevicePrimaryCtxRetain, cuDevicePrimaryCtxRetain, (CUcontext * context, int device))                           \
    F(cuCtxSetCurrent, cuCtxSetCurrent, (CUcontext context))                                                           \
    F(cuCtxSynchronize, cuCtxSynchronize, (void))                                                                      \
    F(cuModuleLoadData, cuModuleLoadData, (CUmodule * module, const void *image))                                      \
    F(cuModuleGetFunction, cuModuleGetFunction, (CUfunction * function, CUmodule module, const char *name))            \
    F(cuMemAlloc, cuMemAlloc_v2, (uint64_t * address, size_t bytes))                                                   \
    F(cuMemFree, cuMemFree_v2, (uint64_t address))                                                                     \
    F(cuMemcpyHtoD, cuMemcpyHtoD_v2, (uint64_t to, const void *from, size_t bytes))                                    \
    F(cuMemcpyDtoH, cuMemcpyDtoH_v2, (void *to, uint64_t from, size_t bytes))                                          \
    F(cuMemcpyDtoD, cuMemcpyDtoD_v2, (uint64_t to, uint64_t from, size_t bytes))                                       \
    F(cuMemsetD8, cuMemsetD8_v2, (uint64_t address, unsigned char value, size_t bytes))                                \
    F(cuLaunchKernel, cuLaunchKernel,                                                                                  \
      (CUfunction function, unsigned gridX, unsigned gridY, unsigned gridZ, unsigned blockX, unsigned blockY,          \
       unsigned blockZ, unsigned sharedBytes, CUstream stream, void **arguments, void **extra))                        \
    F(cuLaunchCooperativeKernel, cuLaunchCooperativeKernel,                                                            \
      (CUfunction function, unsigned gridX, unsigned gridY, unsigned gridZ, unsigned blockX, unsigned blockY,          \
       unsigned blockZ, unsigned sharedBytes, CUstream stream, void **arguments))                                      \
    F(cuEventCreate, cuEventCreate, (CUevent * event, unsigned flags))                                                 \
    F(cuEventRecord, cuEventRecord, (CUevent event, CUstream stream))                                                  \
    F(cuEventSynchronize, cuEventSynchronize, (CUevent event))                                                         \
    F(cuEventElapsedTime, cuEventElapsedTime, (float *milliseconds, CUevent start, CUevent end))                       \
    F(cuEventDestroy, cuEventDestroy_v2, (CUevent event))                                                              \
    F(cuGetErrorString, cuGetErrorString, (int error, const char **text))

#define NVRTC_FUNCTIONS(F)                                                                                             \
    F(nvrtcCreateProgram, nvrtcCreateProgram,                                                                          \
      (nvrtcProgram * program, const char *source, const char *name, int headers, const char *const *texts,            \
       const char *const *names))                                                                                      \
    F(nvrtcCompileProgram, nvrtcCompileProgram, (nvrtcProgram program, int count, const char *const *options))         \
    F(nvrtcGetCUBINSize, nvrtcGetCUBINSize, (nvrtcProgram program, size_t * size))                                     \
    F(nvrtcGetCUBIN, nvrtcGetCUBIN, (nvrtcProgram program, char *image))                                               \
    F(nvrtcGetProgramLogSize, nvrtcGetProgramLogSize, (nvrtcProgram program, size_t * size))                           \
    F(nvrtcGetProgramLog, nvrtcGetProgramLog, (nvrtcProgram program, char *log))                                       \
    F(nvrtcDestroyProgram, nvrtcDestroyProgram, (nvrtcProgram * program))

#define CUDA_MEMBER(name, symbol, arguments) int(*name) arguments;
/// The driver's functions, under their own names.
typedef struct {
    CUDA_FUNCTIONS(CUDA_MEMBER)
} CUDAFunctions;
/// The compiler's.
typedef struct {
    NVRTC_FUNCTIONS(CUDA_MEMBER)
} NVRTCFunctions;
#undef CUDA_MEMBER

/// Loads the driver: 0, or 1 where there is none, or 2 where it lacks a function.
int device_load_cuda(CUDAFunctions *functions);
/// Loads the newest compiler that is no newer than a driver for CUDA's version 13, say: 0, or 1 where there is none, or 2 where it
/// lacks a function.
int device_load_nvrtc(NVRTCFunctions *functions, int version);
