#include <limits.h>

#include "Groups.h"

// The kernels of bfloat16, and products in float12, with AVX-512's dot products of pairs. Sums are float32 throughout.
// What follows the sources that all formats share has its own for float32:
//
//   append            x [K]                            → over slots [slots / 16][K / 2][16][2], over the head
//                                                        [slots / 2][P][2]
//   gather_slots      a [steps][slots], b [steps][K]   → dst [slots][P], float32: steps are paired on the way
//   gather_offsets    the same                         → dst [offsets][P]

#if defined(__x86_64__)
#define FORMAT FEEDBACK_BFLOAT16
#define GROUP 2
typedef __bf16 operand;
#define DOT(sum, w, x) ((__typeof__(sum))_mm512_dpbf16_ps((__m512)(sum), (__m512bh)(w), (__m512bh)_mm512_set1_epi32(x)))
#define DOT_BOTH(sum, v, w, x) DOT(DOT(sum, v, x), w, x)

typedef uint16_t u16x16 __attribute__((vector_size(32), aligned(2)));
#define STORE_OPERANDS(p, v) (*(u16x16 *)(p) = (u16x16)_mm256_castps_si256((__m256)_mm512_cvtneps_pbh((__m512)(v))))
// Sixteen numbers, each alone in the lower half of its lane; as float32.
#define LOWER(p) __builtin_convertvector(*(const u16x16 *)(p), v16i)
#define LOAD_OPERANDS(p) ((v16)(LOWER(p) << 16))
#define STORE_GROUPS(p, v) (*(v16i *)(p) = (v))

#define ROWS HIGHEST
#define VECTORS 2

#define TARGET __attribute__((target(AVX512 ",avx512bf16")))
#define KERNEL_TARGET TARGET
#include "Softmax.h"

#include "Attention.h"
#include "AttentionDecoding.h"
#include "Product.h"

TARGET static void append(const float *x, long K, long slot, void *overSlots, void *overHead) {
    half narrow[16];
    const long groups = feedback_groups(FORMAT, K), width = feedback_padded(K);
    group *block = overSlots ? (group *)overSlots + (slot / 16) * groups * 16 + slot % 16 : 0;
    group *row = overHead ? (group *)overHead + (slot / 2) * width : 0;
    // Sums over slots read four at a time, with weights of zero beyond the last: what is not finite must not lie there.
    if (row && slot % 4 == 0) memset(row + width, 0, sizeof(group) * (size_t)width);
    for (long k = 0; k < K; k += 16) {
        v16 values = {0};
        if (K - k >= 16)
            values = LOAD(x + k);
        else
            memcpy(&values, x + k, sizeof(float) * (size_t)(K - k));
        STORE_OPERANDS(narrow, values);
        for (long i = 0; block && i < 8 && k / 2 + i < groups; i++) block[(k / 2 + i) * 16] = ((group *)narrow)[i];
        if (!row) continue;
        const v16i own = LOWER(narrow);
        STORE_GROUPS(row + k, slot % 2 ? (GROUPS(row + k) & 0xffff) | (own << 16) : own);
    }
}

// MARK: Reductions over the steps that saw a slot

enum { STEPS = 32 };

// dst[m, 16 c + lane] += Σ_t a[t, m] · b[t, 16 c + lane], over pairs of steps, for `slots` slots and `columns` vectors.
INLINE TARGET void gather_tile(
    const group *a, const group *b, long first, long end, long stride, float *dst, const int slots, const int columns) {
    v16 sum[4][4];
    for (int m = 0; m < slots; m++)
        for (int c = 0; c < columns; c++) sum[m][c] = LOAD(dst + m * stride + 16 * c);
    for (long t = first; t < end; t++) {
        for (int m = 0; m < slots; m++) {
            const int32_t left = a[t * 16 + m];
            for (int c = 0; c < columns; c++) sum[m][c] = DOT(sum[m][c], GROUPS(b + t * stride + 16 * c), left);
        }
    }
    for (int m = 0; m < slots; m++)
        for (int c = 0; c < columns; c++) STORE(dst + m * stride + 16 * c, sum[m][c]);
}

INLINE TARGET void gather_rows(
    const group *a, const group *b, long first, long end, long stride, float *dst, const int slots) {
    long k = 0;
    for (; k + 64 <= stride; k += 64) gather_tile(a, b + k, first, end, stride, dst + k, slots, 4);
    for (; k + 32 <= stride; k += 32) gather_tile(a, b + k, first, end, stride, dst + k, slots, 2);
    if (k < stride) gather_tile(a, b + k, first, end, stride, dst + k, slots, 1);
}

// Pairs of sixteen numbers of two rows.
#define INTERLEAVED(first, second) (LOWER(first) | (LOWER(second) << 16))

// Pairs of the rows of two steps; the second may be missing.
INLINE TARGET void interleave(const half *first, const half *second, long count, group *out) {
    long k = 0;
    for (; k + 16 <= count; k += 16)
        STORE_GROUPS(out + k, second ? INTERLEAVED(first + k, second + k) : LOWER(first + k));
    if (k == count) return;
    half left[16] = {0}, right[16] = {0};
    memcpy(left, first + k, sizeof(half) * (size_t)(count - k));
    if (second) memcpy(right, second + k, sizeof(half) * (size_t)(count - k));
    STORE_GROUPS(out + k, INTERLEAVED(left, right));
}

// dst[m] += Σ_t a[t, m] · b[t] for m of [m0, m1), where row t of `a` begins `t · skew` further on and is zero wherever
// step t has no part in sixteen neighbouring m that another step has.
INLINE TARGET void gather(
    const half *a, long aStride, long skew, const half *b, long bStride, long t0, long t1, long m0, long m1, long first,
    long slope, long window, long K, float *dst) {
    const long stride = feedback_padded(K);
    group right[STEPS / 2 * stride], left[STEPS / 2 * 16];
    for (long from = t0; from < t1; from += STEPS) {
        const long to = from + STEPS < t1 ? from + STEPS : t1;
        for (long t = from; t < to; t += 2)
            interleave(b + t * bStride, t + 1 < to ? b + (t + 1) * bStride : 0, K, right + (t - from) / 2 * stride);
        for (long m = m0; m < m1; m += 16) {
            const long count = m + 16 < m1 ? 16 : m1 - m;
            // The first and last of these m begin to be seen at steps `first + slope · m`, for `window` steps.
            const long begins = first + (slope > 0 ? m : -(m + count - 1));
            const long ends = first + (slope > 0 ? m + count - 1 : -m) + window;
            const long low = ((begins > from ? begins : from) - from) / 2, high = (ends < to ? ends : to) - from;
            const long end = (high + 1) / 2;
            if (low >= end) continue;
            for (long t = low; t < end; t++) {
                const long step = from + 2 * t;
                const half *row = a + step * (aStride + skew) + m;
                STORE_GROUPS(left + t * 16, step + 1 < to ? INTERLEAVED(row, row + aStride + skew) : LOWER(row));
            }
            long i = 0;
            for (; i + 4 <= count; i += 4) gather_rows(left + i, right, low, end, stride, dst + (m + i) * stride, 4);
            for (; i < count; i++) gather_rows(left + i, right, low, end, stride, dst + (m + i) * stride, 1);
        }
    }
}

// dst += Σ_t a[t] · b[t]: one slot, `columns` vectors.
INLINE TARGET void gather_one(
    const half *a, long aStride, const half *b, long bStride, long steps, float *dst, const int columns) {
    v16 sum[4];
    for (int c = 0; c < columns; c++) sum[c] = LOAD(dst + 16 * c);
    long t = 0;
    for (; t + 2 <= steps; t += 2) {
        const int32_t left = (int32_t)(a[t * aStride] | (uint32_t)a[(t + 1) * aStride] << 16);
        const half *row = b + t * bStride;
        for (int c = 0; c < columns; c++) sum[c] = DOT(sum[c], INTERLEAVED(row + 16 * c, row + bStride + 16 * c), left);
    }
    if (t < steps) {
        for (int c = 0; c < columns; c++) sum[c] = DOT(sum[c], LOWER(b + t * bStride + 16 * c), a[t * aStride]);
    }
    for (int c = 0; c < columns; c++) STORE(dst + 16 * c, sum[c]);
}

TARGET static void gather_slots(
    const void *a, long aStride, const void *b, long bStride, long t0, long t1, long j0, long j1, long before,
    long window, long K, float *dst) {
    // Slot j is seen by steps j − before + 1 … j − before + window.
    if (j1 == j0 + 1 && K % 16 == 0) {
        const long from = t0 > j0 - before + 1 ? t0 : j0 - before + 1, seen = j0 - before + window + 1;
        const long steps = (t1 < seen ? t1 : seen) - from;
        if (steps <= 0) return;
        const half *weights = (const half *)a + from * aStride + j0, *rows = (const half *)b + from * bStride;
        long k = 0;
        for (; k + 64 <= K; k += 64) gather_one(weights, aStride, rows + k, bStride, steps, dst + j0 * K + k, 4);
        for (; k + 32 <= K; k += 32) gather_one(weights, aStride, rows + k, bStride, steps, dst + j0 * K + k, 2);
        if (k < K) gather_one(weights, aStride, rows + k, bStride, steps, dst + j0 * K + k, 1);
        return;
    }
    gather(a, aStride, 0, b, bStride, t0, t1, j0, j1, 1 - before, 1, window, K, dst);
}

TARGET static void gather_offsets(
    const void *a, long aStride, const void *b, long bStride, long t0, long t1, long before, long reach, long K,
    float *dst) {
    // Offset reach − c exists from step reach − c − before on.
    gather(
        (const half *)a + before - reach, aStride, 1, b, bStride, t0, t1, 0, reach, reach - before, -1, LONG_MAX / 2, K,
        dst);
}

TARGET static void multiply_float12(const feedback_panels *panels, const feedback_product *product) {
    multiply_in_steps(panels, product, 4);
}

// Of plain loops the compiler orders the sums, and does so for all CPUs of this level as in float32.
#undef KERNEL_TARGET
#define KERNEL_TARGET __attribute__((target("arch=x86-64-v4,avx512bf16")))
#include "RowKernels.h"

feedback_kernels bfloat16_avx512_kernels(void) { return training_kernels(); }

feedback_kernels float12_avx512_kernels(void) { return (feedback_kernels){.multiply = multiply_float12}; }
#endif
