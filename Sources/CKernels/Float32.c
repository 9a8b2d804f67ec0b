#include "Groups.h"

// The kernels of float32, in plain vector code for every CPU. What follows the sources that all formats share has its own
// for bfloat16:
//
//   append            x [K]                            → over slots [slots / 16][K][16], over the head [slots][P]
//   gather_slots      a [steps][slots], b [steps][K]   → dst [slots][P]
//   gather_offsets    the same                         → dst [offsets][P]

#define FORMAT FEEDBACK_FLOAT32
#define GROUP 1
typedef float operand;
#define DOT(sum, w, x) DOT_FLOAT32(sum, w, x)
#define DOT_BOTH(sum, v, w, x) DOT(sum, (v16)(v) + (v16)(w), x)
#define STORE_OPERANDS STORE
#define LOAD_OPERANDS LOAD
#define KERNEL_TARGET KERNEL
#define TARGET

#define ROWS 6
#define VECTORS 1

#include "Softmax.h"

#include "Attention.h"
#include "AttentionDecoding.h"
#include "Product.h"

static void append(const float *x, long K, long slot, void *overSlots, void *overHead) {
    if (overSlots) {
        float *block = (float *)overSlots + (slot / 16) * K * 16 + slot % 16;
        for (long k = 0; k < K; k++) block[k * 16] = x[k];
    }
    if (overHead) memcpy((float *)overHead + slot * feedback_padded(K), x, (size_t)K * sizeof(float));
}

// MARK: Reductions over the steps that saw a slot

enum { SLOTS = 4 };

// dst[m, lane] += Σ_t a[t, m] · b[t, lane] for `slots` slots and one vector: eight AVX2 registers of sums for four slots.
INLINE void gather_tile(
    const float *a, long aStride, const float *b, long bStride, long steps, float *dst, long stride, const int slots) {
    v16 sum[SLOTS];
    for (int m = 0; m < slots; m++) sum[m] = LOAD(dst + m * stride);
    for (long t = 0; t < steps; t++) {
        const v16 right = LOAD(b + t * bStride);
        for (int m = 0; m < slots; m++) sum[m] += a[t * aStride + m] * right;
    }
    for (int m = 0; m < slots; m++) STORE(dst + m * stride, sum[m]);
}

INLINE void gather_rows(
    const float *a, long aStride, const float *b, long bStride, long steps, long K, float *dst, const int slots) {
    const long stride = feedback_padded(K);
    for (long k = 0; k < stride; k += 16) gather_tile(a, aStride, b + k, bStride, steps, dst + k, stride, slots);
}

KERNEL static void gather_slots(
    const void *a, long aStride, const void *b, long bStride, long t0, long t1, long j0, long j1, long before,
    long window, long K, float *dst) {
    for (long j = j0; j < j1;) {
        const long slots = j + SLOTS <= j1 ? SLOTS : 1;
        // Slot j is seen by steps j − before + 1 … j − before + window; beyond, a is zero for at least 16 slots.
        const long from = t0 > j - before + 1 ? t0 : j - before + 1;
        const long seen = j + slots - 1 - before + window + 1, to = t1 < seen ? t1 : seen;
        if (from < to) {
            const float *first = (const float *)a + from * aStride + j, *right = (const float *)b + from * bStride;
            if (slots == SLOTS)
                gather_rows(first, aStride, right, bStride, to - from, K, dst + j * feedback_padded(K), SLOTS);
            else
                gather_rows(first, aStride, right, bStride, to - from, K, dst + j * feedback_padded(K), 1);
        }
        j += slots;
    }
}

KERNEL static void gather_offsets(
    const void *a, long aStride, const void *b, long bStride, long t0, long t1, long before, long reach, long K,
    float *dst) {
    for (long c = 0; c < reach;) {
        const long rows = c + SLOTS <= reach ? SLOTS : 1;
        // Offset reach − c exists from step reach − c − before on.
        const long exists = reach - (c + rows - 1) - before, from = t0 > exists ? t0 : exists;
        if (from < t1) {
            const float *first = (const float *)a + from * aStride + (before + from - reach + c);
            const float *right = (const float *)b + from * bStride;
            if (rows == SLOTS)
                gather_rows(first, aStride + 1, right, bStride, t1 - from, K, dst + c * feedback_padded(K), SLOTS);
            else
                gather_rows(first, aStride + 1, right, bStride, t1 - from, K, dst + c * feedback_padded(K), 1);
        }
        c += rows;
    }
}

#include "RowKernels.h"

feedback_kernels float32_kernels(void) { return training_kernels(); }
