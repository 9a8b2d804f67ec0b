// What the kernels' source finds instead of a GPU: see driver.cpp, which puts this file before it
//
// A block is a thread of the CPU, and the block's threads are fibers in it that change at barriers. They go warp by warp, so where all
// 32 lanes of a warp are needed at once, as the tensor cores need them, they are.

#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

struct Index {
    unsigned x;
};
struct uint4 {
    unsigned x, y, z, w;
};
using std::max;
using std::min;
static thread_local Index threadIdx, blockIdx, gridDim;

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(threads)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __shared__ static thread_local

static inline float __uint_as_float(unsigned bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
static inline unsigned __float_as_uint(float x) {
    unsigned bits;
    memcpy(&bits, &x, 4);
    return bits;
}
static inline void __threadfence() { std::atomic_thread_fence(std::memory_order_seq_cst); }
static inline int atomicAdd(int *place, int number) { return __atomic_fetch_add(place, number, __ATOMIC_SEQ_CST); }

// MARK: A block

struct Fiber {
    enum { ready, atWarp, atBlock, ended } state = ready;
    ucontext_t start;
    jmp_buf resume;
    uint32_t operands[6];  // a lane's share of an mma
};

class Block {
    static constexpr size_t stack = 64 << 10;
    const unsigned size;
    std::vector<Fiber> fibers;
    std::unique_ptr<char[]> stacks;
    jmp_buf scheduler;
    const std::function<void()> &kernel;

    static void fail(const char *what) {
        fprintf(stderr, "kernel in block %u: %s\n", blockIdx.x, what);
        abort();
    }

    void resume(unsigned thread) {
        threadIdx.x = thread;
        Fiber &fiber = fibers[thread];
        if (_setjmp(scheduler)) return;
        if (fiber.state != Fiber::ready) _longjmp(fiber.resume, 1);
        getcontext(&fiber.start);
        fiber.start.uc_stack.ss_sp = stacks.get() + thread * stack;
        fiber.start.uc_stack.ss_size = stack;
        makecontext(&fiber.start, run, 0);
        setcontext(&fiber.start);
    }
    static void run() {
        current->kernel();
        current->fibers[threadIdx.x].state = Fiber::ended;
        _longjmp(current->scheduler, 1);
    }
    bool all(unsigned first, unsigned count, int state) const {
        for (unsigned i = first; i < first + count; i++)
            if (fibers[i].state != state) return false;
        return true;
    }

  public:
    static thread_local Block *current;

    Block(unsigned size, const std::function<void()> &kernel)
        : size(size), fibers(size), stacks(new char[size * stack]), kernel(kernel) {
        current = this;
        do {
            for (unsigned warp = 0; warp < size; warp += 32) do {
                    for (unsigned lane = 0; lane < 32; lane++) resume(warp + lane);
                } while (all(warp, 32, Fiber::atWarp));
            if (all(0, size, Fiber::ended)) return;
        } while (all(0, size, Fiber::atBlock));
        fail("not all threads meet at a barrier");
    }
    void wait(decltype(Fiber::state) state) {
        Fiber &fiber = fibers[threadIdx.x];
        fiber.state = state;
        if (!_setjmp(fiber.resume)) _longjmp(scheduler, 1);
    }
    Fiber &self() { return fibers[threadIdx.x]; }
    Fiber *warp() { return &fibers[threadIdx.x / 32 * 32]; }
};
thread_local Block *Block::current;

static inline void __syncthreads() { Block::current->wait(Fiber::atBlock); }

// MARK: Tensor cores

// mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32: D = A·B + C. With group = lane / 4 and pair = 2 (lane % 4), a lane has, as
// PTX's documentation says ("Matrix fragments for mma.m16n8k16 with floating point type"),
//   A: element i of 8 in row group (+ 8 where i is 2, 3, 6 or 7), column pair + i % 2 (+ 8 from i = 4 on);
//   B: element i of 4 in row pair + i % 2 (+ 8 from i = 2 on), column group;
//   C, D: element i of 4 in row group (+ 8 from i = 2 on), column pair + i % 2.
static float half(const Fiber &lane, int element) {
    return __uint_as_float(element % 2 ? lane.operands[element / 2] & 0xffff0000u : lane.operands[element / 2] << 16);
}
static void multiplyOnTensorCores(float *c, const uint32_t *a, uint32_t b0, uint32_t b1) {
    Block &block = *Block::current;
    memcpy(block.self().operands, a, 16);
    block.self().operands[4] = b0;
    block.self().operands[5] = b1;
    block.wait(Fiber::atWarp);
    float A[16][16], B[16][8];
    for (int lane = 0; lane < 32; lane++) {
        int group = lane / 4, pair = lane % 4 * 2;
        for (int i = 0; i < 8; i++) {
            int row = group + (i == 2 || i == 3 || i == 6 || i == 7 ? 8 : 0);
            A[row][pair + i % 2 + (i >= 4 ? 8 : 0)] = half(block.warp()[lane], i);
        }
        for (int i = 0; i < 4; i++) B[pair + i % 2 + (i >= 2 ? 8 : 0)][group] = half(block.warp()[lane], 8 + i);
    }
    block.wait(Fiber::atWarp);
    int lane = threadIdx.x % 32, group = lane / 4, pair = lane % 4 * 2;
    for (int i = 0; i < 4; i++) {
        int row = group + (i >= 2 ? 8 : 0), column = pair + i % 2;
        for (int k = 0; k < 16; k++) c[i] += A[row][k] * B[k][column];
    }
}
// The one assembler instruction of the kernels, by the names that its function has.
#define asm(...) multiplyOnTensorCores(sums, a, b0, b1)

// MARK: Launching

template <class... A, size_t... I> static void call(void (*kernel)(A...), void **arguments, std::index_sequence<I...>) {
    kernel(*static_cast<A *>(arguments[I])...);
}
template <class... A>
static void launch(void (*kernel)(A...), unsigned grid, unsigned threads, unsigned together, void **arguments) {
    const std::function<void()> body = [=] { call(kernel, arguments, std::index_sequence_for<A...>()); };
    std::atomic<unsigned> next{0};
    std::vector<std::thread> processors;
    for (unsigned i = 0; i < together; i++)
        processors.emplace_back([&] {
            for (unsigned block; (block = next++) < grid;) {
                gridDim.x = grid;
                blockIdx.x = block;
                Block(threads, body);
            }
        });
    for (auto &processor : processors) processor.join();
}
