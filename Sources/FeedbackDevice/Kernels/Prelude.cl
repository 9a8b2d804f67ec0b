// One source, two compilers: the common subset of CUDA C++ and OpenCL C. Here is all in which they differ.
//
// The host defines GROUP, the work-items of a group, and NARROW, whether operands are bfloat16.

#ifdef __OPENCL_VERSION__
#define KERNEL __kernel __attribute__((reqd_work_group_size(GROUP, 1, 1))) void
#define DEVICE static
#define GLOBAL __global
#define LOCAL __local
#define SHARED __local __attribute__((aligned(16)))
#define THREAD ((int)get_local_id(0))
#define THIS_GROUP ((int)get_group_id(0))
#define GROUPS ((int)get_num_groups(0))
#define BARRIER barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE)
#define AS_FLOAT(bits) as_float((uint)(bits))
#define AS_BITS(number) as_uint(number)
#define EXP(x) exp(x)
#define LOG(x) log(x)
#define SQRT(x) sqrt(x)
#if __OPENCL_C_VERSION__ == 200 || (defined(__opencl_c_atomic_order_seq_cst) && defined(__opencl_c_atomic_scope_device))
#define FENCE atomic_work_item_fence(CLK_GLOBAL_MEM_FENCE, memory_order_seq_cst, memory_scope_device)
#else
#define FENCE mem_fence(CLK_GLOBAL_MEM_FENCE)
#endif
#define ARRIVE(place) atomic_inc(place)
#define ARRIVED(place) atomic_add(place, 0)
typedef ulong word;
#else
#define KERNEL extern "C" __global__ void __launch_bounds__(GROUP)
#define DEVICE static __device__ __forceinline__
#define GLOBAL
#define LOCAL
#define SHARED __shared__ __align__(16)
#define THREAD ((int)threadIdx.x)
#define THIS_GROUP ((int)blockIdx.x)
#define GROUPS ((int)gridDim.x)
#define BARRIER __syncthreads()
#define AS_FLOAT(bits) __uint_as_float(bits)
#define AS_BITS(number) __float_as_uint(number)
#define EXP(x) expf(x)
#define LOG(x) logf(x)
#define SQRT(x) sqrtf(x)
#define FENCE __threadfence()
#define ARRIVE(place) atomicAdd((int *)place, 1)
#define ARRIVED(place) (*place)
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif
typedef unsigned int uint;
typedef unsigned short ushort;
typedef unsigned long word;
#endif

// What enters a product is an operand: float32, or the upper half of one, rounded to the nearest.
#if NARROW
typedef ushort operand;
#define WIDE(x) AS_FLOAT((uint)(x) << 16)
DEVICE operand narrow(float x) {
    uint bits = AS_BITS(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (operand)((bits >> 16) | 64);  // not a number
    return (operand)((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}
#else
typedef float operand;
#define WIDE(x) (x)
DEVICE operand narrow(float x) { return x; }
#endif
DEVICE float load(GLOBAL const operand *x, long i) { return WIDE(x[i]); }
DEVICE void store(GLOBAL operand *x, long i, float number) { x[i] = narrow(number); }

// A group is SLICES slices of LANES work-items.
#define LANES 32
#define SLICES (GROUP / LANES)

// A work-item waits for what it loads. So a loop takes BATCH numbers at a time, and loads all before it uses the first.
#define BATCH 16
#define EACH for (int i = 0; i < BATCH; i++)

// Where all groups meet. All are resident, for there are no more than the device has processors. A counter in global
// memory says how many have come; `due` says how many must have. What one has written before, all read afterwards.
DEVICE void meet(volatile GLOBAL int *arrived, int due) {
    BARRIER;
    if (THREAD == 0) {
        FENCE;
        ARRIVE(arrived);
        while (ARRIVED(arrived) < due) {}
        FENCE;
    }
    BARRIER;
}

// The sum, or the largest, of one number of each lane of a slice, in the order of the lanes. Every work-item of the
// group must call it.
DEVICE float sumOfSlice(float number, LOCAL float *room) {
    BARRIER;
    room[THREAD] = number;
    BARRIER;
    float sum = 0;
    for (int i = 0; i < LANES; i++) sum += room[THREAD / LANES * LANES + i];
    return sum;
}
DEVICE float largestOfSlice(float number, LOCAL float *room) {
    BARRIER;
    room[THREAD] = number;
    BARRIER;
    float largest = -INFINITY;
    for (int i = 0; i < LANES; i++) largest = fmax(largest, room[THREAD / LANES * LANES + i]);
    return largest;
}

// E14: whether an element is dropped is a function of a key and its column (Dropout.swift).
DEVICE word mixed(word a, word b) {
    word z = a + 0x9e3779b97f4a7c15ul * (b + 1);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ul;
    z = (z ^ z >> 27) * 0x94d049bb133111ebul;
    return z ^ z >> 31;
}
DEVICE uint rowKey(word key, int step, int row) { return (uint)(mixed(mixed(key, (word)step), (word)row) >> 32); }
DEVICE float dropped(const Shape *shape, uint key, int column) {
    uint h = key ^ ((uint)column * 0x9e3779b9u);
    h = (h ^ (h >> 16)) * 0x7feb352du;
    h = (h ^ (h >> 15)) * 0x846ca68bu;
    return (h ^ (h >> 16)) < shape->dropoutThreshold ? 0.0f : shape->dropoutScale;
}
