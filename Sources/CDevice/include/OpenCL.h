// What is used of OpenCL 1.2, as its specification has it.
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef struct cl_platform *cl_platform_id;
typedef struct cl_device *cl_device_id;
typedef struct cl_the_context *cl_context;
typedef struct cl_queue *cl_command_queue;
typedef struct cl_buffer *cl_mem;
typedef struct cl_source *cl_program;
typedef struct cl_function *cl_kernel;
typedef struct cl_occurrence *cl_event;

enum {
    CL_DEVICE_MAX_COMPUTE_UNITS = 0x1002,
    CL_DEVICE_MAX_MEM_ALLOC_SIZE = 0x1010,
    CL_DEVICE_GLOBAL_MEM_SIZE = 0x101F,
    CL_DEVICE_LOCAL_MEM_SIZE = 0x1023,
    CL_DEVICE_NAME = 0x102B,
    CL_DEVICE_TYPE = 0x1000,
    CL_DEVICE_VERSION = 0x102F,
    CL_PROGRAM_BUILD_LOG = 0x1183,
    CL_MEM_READ_WRITE = 1,
    CL_QUEUE_PROFILING_ENABLE = 2,
    CL_PROFILING_COMMAND_END = 0x1283,
};

#define OPENCL_FUNCTIONS(F)                                                                                            \
    F(clGetPlatformIDs, (uint32_t count, cl_platform_id * platforms, uint32_t * found))                                \
    F(clGetDeviceIDs,                                                                                                  \
      (cl_platform_id platform, uint64_t type, uint32_t count, cl_device_id * devices, uint32_t * found))              \
    F(clGetDeviceInfo, (cl_device_id device, uint32_t name, size_t size, void *value, size_t *needed))                 \
    F(clBuildProgram, (cl_program program, uint32_t count, const cl_device_id *devices, const char *options,           \
                       void *notify, void *data))                                                                      \
    F(clGetProgramBuildInfo,                                                                                           \
      (cl_program program, cl_device_id device, uint32_t name, size_t size, void *value, size_t *needed))              \
    F(clSetKernelArg, (cl_kernel kernel, uint32_t index, size_t size, const void *value))                              \
    F(clEnqueueNDRangeKernel,                                                                                          \
      (cl_command_queue queue, cl_kernel kernel, uint32_t dimensions, const size_t *offset, const size_t *global,      \
       const size_t *local, uint32_t waits, const cl_event *list, cl_event *event))                                    \
    F(clEnqueueReadBuffer, (cl_command_queue queue, cl_mem buffer, uint32_t blocking, size_t offset, size_t size,      \
                            void *to, uint32_t waits, const cl_event *list, cl_event *event))                          \
    F(clEnqueueWriteBuffer, (cl_command_queue queue, cl_mem buffer, uint32_t blocking, size_t offset, size_t size,     \
                             const void *from, uint32_t waits, const cl_event *list, cl_event *event))                 \
    F(clEnqueueFillBuffer, (cl_command_queue queue, cl_mem buffer, const void *pattern, size_t width, size_t offset,   \
                            size_t size, uint32_t waits, const cl_event *list, cl_event *event))                       \
    F(clEnqueueCopyBuffer, (cl_command_queue queue, cl_mem from, cl_mem to, size_t fromOffset, size_t toOffset,        \
                            size_t size, uint32_t waits, const cl_event *list, cl_event *event))                       \
    F(clEnqueueMarkerWithWaitList, (cl_command_queue queue, uint32_t waits, const cl_event *list, cl_event *event))    \
    F(clGetEventProfilingInfo, (cl_event event, uint32_t name, size_t size, void *value, size_t *needed))              \
    F(clFinish, (cl_command_queue queue))                                                                              \
    F(clReleaseEvent, (cl_event event))                                                                                \
    F(clReleaseMemObject, (cl_mem buffer))

/// OpenCL's functions, under their own names.
typedef struct {
#define OPENCL_FUNCTION(name, arguments) int32_t(*name) arguments;
    OPENCL_FUNCTIONS(OPENCL_FUNCTION)
#undef OPENCL_FUNCTION
    cl_context (*clCreateContext)(
        const intptr_t *properties, uint32_t count, const cl_device_id *devices, void *notify, void *data,
        int32_t *error);
    cl_command_queue (*clCreateCommandQueue)(
        cl_context context, cl_device_id device, uint64_t properties, int32_t *error);
    cl_mem (*clCreateBuffer)(cl_context context, uint64_t flags, size_t size, void *host, int32_t *error);
    cl_program (*clCreateProgramWithSource)(
        cl_context context, uint32_t count, const char **texts, const size_t *lengths, int32_t *error);
    cl_kernel (*clCreateKernel)(cl_program program, const char *name, int32_t *error);
} OpenCLFunctions;

/// Loads OpenCL: 0, or 1 where there is no driver, or 2 where it lacks a function.
int device_load_opencl(OpenCLFunctions *functions);
