// CUDA's driver and its compiler for a machine without a GPU: what CUDA.swift calls, with the prototypes of CUDA's documentation
//
// So the device's tests go the whole way that they go on a GPU, through the calls, the kernels' CUDA branch and the tensor cores'
// fragments. Memory begins with what is no number, and what lies outside an array is refused. What a GPU may do wrong, this does on
// request: FAKE_CUDA is a list of words, as in "version=11080,free=1000000,launches=7".

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <iterator>
#include <map>
#include <mutex>
#include <regex>
#include <sstream>
#include <string>

typedef int CUresult, CUdevice, nvrtcResult;
typedef uint64_t CUdeviceptr;
struct Module;
struct Function;
struct Program {
    std::string source, image, log;
};
enum {
    invalidValue = 1,
    outOfMemory = 2,
    noDevice = 100,
    invalidImage = 200,
    invalidContext = 201,
    notFound = 500,
    notReady = 600,
    launchFailed = 719,
    tooLarge = 720
};

static long setting(const char *name, long usual) {
    std::string all = getenv("FAKE_CUDA") ? getenv("FAKE_CUDA") : "", key = std::string(name) + "=";
    size_t at = all.find(key);
    return at == std::string::npos ? usual : atol(all.c_str() + at + key.size());
}
static std::string contents(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
}

static std::mutex lock;
static std::map<CUdeviceptr, size_t> arrays;
static size_t used;
static thread_local bool isCurrent;
static char context;

/// Whether bytes lie in one array.
static bool isInside(CUdeviceptr address, size_t bytes) {
    std::lock_guard<std::mutex> hold(lock);
    auto next = arrays.upper_bound(address);
    if (!isCurrent || next == arrays.begin()) return false;
    auto [start, size] = *--next;
    return address - start <= size && bytes <= size - (address - start);
}

extern "C" {
CUresult cuInit(unsigned flags) {
    return flags ? invalidValue : setting("devices", 1) ? (int)setting("starts", 0) : noDevice;
}
CUresult cuDriverGetVersion(int *version) { return *version = setting("version", 12040), 0; }
CUresult cuDeviceGetCount(int *count) { return *count = setting("devices", 1), 0; }
CUresult cuDeviceGet(CUdevice *device, int number) {
    return *device = number, number < setting("devices", 1) ? 0 : invalidValue;
}
CUresult cuDeviceGetName(char *name, int size, CUdevice device) { return snprintf(name, size, "CPU as a GPU"), device; }
CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) { return *bytes = setting("memory", 1 << 30), device; }
CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice device) {
    switch (attribute) {
    case 16: *value = setting("processors", 2); break;        // CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
    case 75: *value = setting("capability", 80) / 10; break;  // …_COMPUTE_CAPABILITY_MAJOR
    case 76: *value = setting("capability", 80) % 10; break;  // …_COMPUTE_CAPABILITY_MINOR
    default: return invalidValue;
    }
    return device;
}
CUresult cuDevicePrimaryCtxRetain(void **result, CUdevice device) { return *result = &context, device; }
CUresult cuCtxSetCurrent(void *one) { return isCurrent = one == &context, isCurrent ? 0 : invalidContext; }
CUresult cuCtxSynchronize() { return isCurrent ? 0 : invalidContext; }

CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes) {
    std::lock_guard<std::mutex> hold(lock);
    if (!isCurrent || bytes == 0) return invalidValue;
    if (used + bytes > (size_t)setting("free", 1 << 30)) return outOfMemory;
    void *room = aligned_alloc(256, (bytes + 255) / 256 * 256);
    memset(room, 0xff, bytes);
    used += bytes;
    *address = (CUdeviceptr)room;
    arrays[*address] = bytes;
    return 0;
}
CUresult cuMemFree_v2(CUdeviceptr address) {
    std::lock_guard<std::mutex> hold(lock);
    auto found = arrays.find(address);
    if (found == arrays.end()) return invalidValue;
    used -= found->second;
    arrays.erase(found);
    free((void *)address);
    return 0;
}
CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes) {
    return isInside(to, bytes) ? memcpy((void *)to, from, bytes), 0 : invalidValue;
}
CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes) {
    return isInside(from, bytes) ? memcpy(to, (void *)from, bytes), 0 : invalidValue;
}
CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
    return isInside(to, bytes) && isInside(from, bytes) ? memcpy((void *)to, (void *)from, bytes), 0 : invalidValue;
}
CUresult cuMemsetD8_v2(CUdeviceptr to, unsigned char value, size_t bytes) {
    return isInside(to, bytes) ? memset((void *)to, value, bytes), 0 : invalidValue;
}

CUresult cuModuleLoadData(Module **module, const void *image) {
    uint64_t size;
    memcpy(&size, image, 8);
    char path[] = "/tmp/fake-cuda-XXXXXX";
    int file = mkstemp(path);
    bool isWritten = file >= 0 && write(file, (const char *)image + 8, size) == (ssize_t)size;
    close(file);
    *module = isWritten ? (Module *)dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
    unlink(path);
    return *module ? 0 : invalidImage;
}
CUresult cuModuleGetFunction(Function **function, Module *module, const char *name) {
    *function = (Function *)dlsym(module, (std::string("launch_") + name).c_str());
    return *function ? 0 : notFound;
}
static CUresult launch(
    Function *function, const unsigned *sizes, unsigned shared, void *stream, void **arguments, bool together) {
    static std::atomic<long> launches{0};
    if (++launches == setting("launches", -1)) return launchFailed;
    if (!isCurrent || sizes[1] != 1 || sizes[2] != 1 || sizes[4] != 1 || sizes[5] != 1 || shared || stream)
        return invalidValue;
    unsigned processors = setting("processors", 2);
    if (together && sizes[0] > processors) return tooLarge;
    unsigned atOnce = sizes[0] < processors ? sizes[0] : processors;
    ((void (*)(unsigned, unsigned, unsigned, void **))function)(sizes[0], sizes[3], atOnce, arguments);
    return 0;
}
CUresult cuLaunchKernel(
    Function *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
    void *stream, void **arguments, void **extra) {
    unsigned sizes[] = {gx, gy, gz, bx, by, bz};
    return extra ? invalidValue : launch(function, sizes, shared, stream, arguments, false);
}
CUresult cuLaunchCooperativeKernel(
    Function *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
    void *stream, void **arguments) {
    unsigned sizes[] = {gx, gy, gz, bx, by, bz};
    return launch(function, sizes, shared, stream, arguments, true);
}
// All that was asked for is done when a call returns: an event is the time when it is recorded.
using Clock = std::chrono::steady_clock;
CUresult cuEventCreate(Clock::time_point **event, unsigned flags) {
    if (!isCurrent || flags) return invalidValue;
    return *event = new Clock::time_point(), 0;
}
CUresult cuEventRecord(Clock::time_point *event, void *stream) {
    if (!isCurrent || !event || stream) return invalidValue;
    return *event = Clock::now(), 0;
}
CUresult cuEventSynchronize(Clock::time_point *event) {
    return !event ? invalidValue : *event == Clock::time_point() ? notReady : 0;
}
CUresult cuEventElapsedTime(float *milliseconds, const Clock::time_point *start, const Clock::time_point *end) {
    if (*start == Clock::time_point() || *end == Clock::time_point()) return notReady;
    return *milliseconds = std::chrono::duration<float, std::milli>(*end - *start).count(), 0;
}
CUresult cuEventDestroy_v2(Clock::time_point *event) { return delete event, 0; }

CUresult cuGetErrorString(CUresult error, const char **text) {
    return *text = error == launchFailed ? "unspecified launch failure" : "an error of the CPU's", 0;
}

// MARK: The compiler

nvrtcResult nvrtcCreateProgram(
    Program **program, const char *source, const char *name, int headers, const char *const *, const char *const *) {
    *program = new Program{source, "", ""};
    return headers ? 3 : 0;
}
nvrtcResult nvrtcDestroyProgram(Program **program) { return delete *program, 0; }
nvrtcResult nvrtcCompileProgram(Program *program, int count, const char *const *options) {
    std::string expected = "--gpu-architecture=sm_" + std::to_string(setting("capability", 80));
    if (count != 2 || options[0] != expected || options[1] != std::string("--std=c++17")) return 5;
    char folder[] = "/tmp/fake-nvrtc-XXXXXX";
    if (!mkdtemp(folder)) return 1;
    std::string base = std::string(folder) + "/kernels";
    {
        std::ofstream file(base + ".cpp");
        if (setting("refuses", 0)) file << "#error refused on request\n";
        file << "#include \"" HERE "/block.h\"\n" << program->source << "\n";
        std::regex kernel("KERNEL (\\w+)\\(");
        for (std::sregex_iterator i(program->source.begin(), program->source.end(), kernel), end; i != end; ++i)
            file << "extern \"C\" void launch_" << (*i)[1]
                 << "(unsigned grid, unsigned threads, unsigned together, void **a) {"
                 << "launch(" << (*i)[1] << ", grid, threads, together, a); }\n";
    }
    std::string command = "c++ -std=c++17 -O2 -shared -fPIC -pthread -o " + base + ".so " + base + ".cpp 2>" + base
                          + ".log";
    int status = system(command.c_str());
    program->log = contents(base + ".log");
    std::string code = contents(base + ".so");
    uint64_t size = code.size();
    program->image = std::string((const char *)&size, 8) + code;
    for (const char *end : {".cpp", ".so", ".log"}) unlink((base + end).c_str());
    rmdir(folder);
    return status ? 6 : 0;
}
nvrtcResult nvrtcGetCUBINSize(Program *program, size_t *size) { return *size = program->image.size(), 0; }
nvrtcResult nvrtcGetCUBIN(Program *program, char *image) {
    return memcpy(image, program->image.data(), program->image.size()), 0;
}
nvrtcResult nvrtcGetProgramLogSize(Program *program, size_t *size) { return *size = program->log.size() + 1, 0; }
nvrtcResult nvrtcGetProgramLog(Program *program, char *log) { return strcpy(log, program->log.c_str()), 0; }
}
