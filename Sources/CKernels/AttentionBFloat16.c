#include "BFloat16.h"
#include "CKernels.h"
#include <limits.h>

// The kernels of Attention.c on bfloat16, in pairs (layouts in CKernels.h).
// Equations: FeedbackEngine/Operations/Attention.swift.

typedef uint16_t u16;

static inline long padded(long K) { return (K + 15) & ~15L; }
static inline long pairs(long K) { return (K + 1) / 2; }

NARROW void feedback_append_bfloat16(const float *x, long K, long slot, void *toSlots, void *toHead) {
    u16 narrow[16];
    const u16 odd = slot & 1;
    pair *block = toSlots ? (pair *)toSlots + (slot / 16) * pairs(K) * 16 + slot % 16 : 0;
    u16 *row = toHead ? (u16 *)toHead + (slot / 2) * padded(K) * 2 : 0;
    // Sums over slots read four at a time, with weights of zero beyond the last: what is not finite must not lie there.
    if (row && slot % 4 == 0) memset(row + 2 * padded(K), 0, sizeof(u16) * 2 * (size_t)padded(K));
    for (long k = 0; k < K; k += 16) {
        v16 values = {0};
        if (K - k >= 16)
            values = LOAD(x + k);
        else
            memcpy(&values, x + k, sizeof(float) * (size_t)(K - k));
        STORE_NARROW(narrow, values);
        for (long i = 0; block && i < 8 && k / 2 + i < pairs(K); i++) block[(k / 2 + i) * 16] = ((pair *)narrow)[i];
        if (!row) continue;
        const u32x16 own = LOWER(narrow);
        STORE_PAIRS(row + 2 * k, odd ? (LOAD_PAIRS(row + 2 * k) & 0xffffu) | (own << 16) : own);
    }
}

// scores[r, lane] = bias + Σ_k q_rk · u_k, for `rows` rows and 16 slots. What follows an odd K belongs to others.
NARROW_INLINE void score_rows(
    const u16 *q, long qStride, const u16 *positions, long positionStride, const float *bias, long K, float *scores,
    long stride, const int rows) {
    v16 sum[6];
    for (int r = 0; r < rows; r++) sum[r] = LOAD(bias);
    for (long k = 0; k < K / 2; k++) {
        const u32x16 position = LOAD_PAIRS(positions + k * positionStride * 2);
        for (int r = 0; r < rows; r++) sum[r] = DOT(sum[r], SPREAD(q + r * qStride + 2 * k), position);
    }
    if (K % 2) {
        const u32x16 position = LOAD_PAIRS(positions + K / 2 * positionStride * 2);
        for (int r = 0; r < rows; r++) sum[r] = DOT(sum[r], (u32x16){} + q[r * qStride + K - 1], position);
    }
    for (int r = 0; r < rows; r++) STORE(scores + r * stride, sum[r]);
}

NARROW void feedback_score_positions_bfloat16(
    const void *q, long qStride, long rows, const void *positions, long positionStride, const float *positionBias,
    long start, long end, long K, float *scores, long stride) {
#define SCORE(r, count)                                                                                                \
    score_rows(                                                                                                        \
        (const u16 *)q + (r) * qStride, qStride, (const u16 *)positions + 2 * j, positionStride, positionBias + j, K,  \
        scores + (r) * stride + j, stride, count)
    for (long j = start & ~15L; j < end; j += 16) EACH_TILE_OF_ROWS(rows, SCORE);
#undef SCORE
}

// sums[16 b + lane] = scores + Σ_k q_k · keys, for `blocks` blocks of 16 slots from slot j.
NARROW_INLINE void score_blocks(
    const u16 *q, const u16 *keys, const float *scores, long j, long K, float *sums, const int blocks) {
    v16 even[4], odd[4];
    for (int b = 0; b < blocks; b++) even[b] = LOAD(scores + j + 16 * b), odd[b] = (v16){0};
    const u16 *key = keys + (j / 16) * pairs(K) * 32;
    long k = 0;
    for (; k + 1 < pairs(K); k += 2) {
        const u32x16 first = SPREAD(q + 2 * k), second = SPREAD(q + 2 * k + 2);
        for (int b = 0; b < blocks; b++) {
            even[b] = DOT(even[b], first, LOAD_PAIRS(key + (b * pairs(K) + k) * 32));
            odd[b] = DOT(odd[b], second, LOAD_PAIRS(key + (b * pairs(K) + k + 1) * 32));
        }
    }
    if (k < pairs(K)) {
        const u32x16 last = SPREAD(q + 2 * k);
        for (int b = 0; b < blocks; b++) even[b] = DOT(even[b], last, LOAD_PAIRS(key + (b * pairs(K) + k) * 32));
    }
    for (int b = 0; b < blocks; b++) STORE(sums + 16 * b, even[b] + odd[b]);
}

// out[16 c + lane] = Σ_j a_j · (x_j + y_j), over `columns` vectors of the head, four slots at a time: `a` is zero beyond.
NARROW_INLINE void sum_over_slots(
    const u16 *a, const u16 *x, const u16 *y, long start, long end, long stride, float *out,
    const int columns) {
    v16 even[4] = {{0}}, odd[4] = {{0}};
    for (long j = start & ~3L; j < end; j += 4) {
        const u32x16 first = SPREAD(a + j), second = SPREAD(a + j + 2);
        for (int c = 0; c < columns; c++) {
            even[c] = DOT(even[c], first, LOAD_PAIRS(x + j * stride + 32 * c));
            odd[c] = DOT(odd[c], second, LOAD_PAIRS(x + (j + 2) * stride + 32 * c));
        }
        if (!y) continue;
        for (int c = 0; c < columns; c++) {
            even[c] = DOT(even[c], first, LOAD_PAIRS(y + j * stride + 32 * c));
            odd[c] = DOT(odd[c], second, LOAD_PAIRS(y + (j + 2) * stride + 32 * c));
        }
    }
    for (int c = 0; c < columns; c++) STORE(out + 16 * c, even[c] + odd[c]);
}

NARROW_INLINE void sum_over_slots_all(
    const u16 *a, const u16 *x, const u16 *y, long start, long end, long K, u16 *out) {
    const long stride = padded(K);
    for (long k = 0; k < K;) {
        float sums[64];
        const long columns = K - k >= 64 ? 64 : K - k > 16 ? 32 : 16;
        const u16 *own = x + 2 * k, *other = y ? y + 2 * k : 0;
        if (columns == 64)
            sum_over_slots(a, own, other, start, end, stride, sums, 4);
        else if (columns == 32)
            sum_over_slots(a, own, other, start, end, stride, sums, 2);
        else
            sum_over_slots(a, own, other, start, end, stride, sums, 1);
        const long whole = K - k < columns ? K - k : columns;
        long c = 0;
        for (; c + 16 <= whole; c += 16) STORE_NARROW(out + k + c, LOAD(sums + c));
        if (c < whole) {
            u16 narrow[16];
            STORE_NARROW(narrow, LOAD(sums + c));
            memcpy(out + k + c, narrow, sizeof(u16) * (size_t)(whole - c));
        }
        k += columns;
    }
}

NARROW void feedback_attend_bfloat16(
    const void *query, const void *keys, const void *values, const float *positionScores, long start, long end, long K,
    void *probabilities, void *out, uint32_t key, uint32_t threshold, float scale) {
    u16 *p = probabilities;
    const long first = start & ~15L, last = (end + 15) & ~15L;
    float scores[last - first];  // of slots from `first` on
    u16 q[2 * pairs(K)];
    q[2 * pairs(K) - 1] = 0;
    memcpy(q, query, sizeof(u16) * (size_t)K);

    // 1. s_j = q · k_j + (q · u_j + s_j)
    long j = first;
    for (; j + 64 <= last; j += 64) score_blocks(q, keys, positionScores, j, K, scores + (j - first), 4);
    for (; j + 32 <= last; j += 32) score_blocks(q, keys, positionScores, j, K, scores + (j - first), 2);
    for (; j < last; j += 16) score_blocks(q, keys, positionScores, j, K, scores + (j - first), 1);
    for (j = first; j < start; j++) scores[j - first] = -INFINITY;
    for (j = end; j < last; j++) scores[j - first] = -INFINITY;

    // 2. p_j = softmax_j s
    v16 largest = LOAD(scores);
    for (j = first + 16; j < last; j += 16) {
        const v16 s = LOAD(scores + (j - first));
        largest = MAX16(s, largest);
    }
    const float maximum = LARGEST(largest);
    v16 total = {0};
    for (j = first; j < last; j += 16) {
        const v16 e = EXP16(LOAD(scores + (j - first)) - maximum);
        total += e;
        STORE(scores + (j - first), e);
    }
    const float inverse = 1.0f / SUM16(total);
    for (j = first; j < last; j += 16) STORE_NARROW(p + j, LOAD(scores + (j - first)) * inverse);
    memset(p + first - 16, 0, 32);
    memset(p + last, 0, 32);

    // 3. out = Σ_j p_j v_j
    if (threshold == 0) {
        sum_over_slots_all(p, values, 0, start, end, K, out);
        return;
    }
    u16 kept[last - first + 16];
    memset(kept + (last - first), 0, 32);
    for (j = first; j < last; j++) {
        const int drops = feedback_hash(key, (uint32_t)j) < threshold;
        ((__bf16 *)kept)[j - first] = drops ? (__bf16)0 : (__bf16)(scale * (float)((__bf16 *)p)[j]);
        p[j] = drops ? p[j] | 0x8000 : p[j];
    }
    sum_over_slots_all(kept, (const u16 *)values + first * padded(K), 0, start - first, end - first, K, out);
}

NARROW_INLINE void score_gradient_blocks(
    const u16 *dout, const u16 *p, const u16 *values, float delta, long j, long K, u16 *ds,
    const int blocks) {
    v16 sum[4];
    for (int b = 0; b < blocks; b++) sum[b] = (v16){0} - delta;
    const u16 *value = values + (j / 16) * pairs(K) * 32;
    for (long k = 0; k < pairs(K); k++) {
        const u32x16 gradient = SPREAD(dout + 2 * k);
        for (int b = 0; b < blocks; b++) {
            sum[b] = DOT(sum[b], gradient, LOAD_PAIRS(value + (b * pairs(K) + k) * 32));
        }
    }
    for (int b = 0; b < blocks; b++) STORE_NARROW(ds + j + 16 * b, sum[b] * WIDENED(p + j + 16 * b));
}

NARROW void feedback_attend_backward_bfloat16(
    const void *dcontext, const void *context, void *probabilities, const void *keys, const void *values,
    const void *positions, long start, long end, long K, void *scoreGradients, void *dq, float scale) {
    u16 *p = probabilities, *ds = scoreGradients;
    const long first = start & ~15L, last = (end + 15) & ~15L;
    u16 dout[2 * pairs(K)];
    dout[2 * pairs(K) - 1] = 0;
    memcpy(dout, dcontext, sizeof(u16) * (size_t)K);

    // 3. dp_j = dout · v_j, and 2. ds_j = p_j (dp_j − Σ_i p_i dp_i), where Σ_i p_i dp_i = dout · out
    float delta = 0;
    for (long k = 0; k < K; k++) delta += (float)((const __bf16 *)dout)[k] * (float)((const __bf16 *)context)[k];
    float shares[scale == 1 ? 1 : last - first];
    if (scale != 1) {
        for (long j = first; j < last; j++) {
            const float weight = (float)((__bf16 *)p)[j];
            shares[j - first] = delta * fabsf(weight);
            ((__bf16 *)p)[j] = weight > 0 ? (__bf16)(scale * weight) : (__bf16)0;
        }
        delta = 0;
    }
    long j = first;
    for (; j + 64 <= last; j += 64) score_gradient_blocks(dout, p, values, delta, j, K, ds, 4);
    for (; j + 32 <= last; j += 32) score_gradient_blocks(dout, p, values, delta, j, K, ds, 2);
    for (; j < last; j += 16) score_gradient_blocks(dout, p, values, delta, j, K, ds, 1);
    memset(ds + first - 16, 0, 32);
    memset(ds + last, 0, 32);
    if (scale != 1)
        for (j = first; j < last; j++) ((__bf16 *)ds)[j] = (__bf16)((float)((__bf16 *)ds)[j] - shares[j - first]);

    // 1. dq = Σ_j ds_j (k_j + u_j)
    sum_over_slots_all(ds, keys, positions, start, end, K, dq);
}

// MARK: Reductions over the steps that saw a slot

#define STEPS 32

// dst[m, 16 c + lane] += Σ_pairs a[pair, m] · b[pair, 16 c + lane] for `slots` slots and `columns` vectors.
NARROW_INLINE void gather_tile(
    const pair *a, const pair *b, long first, long end, long stride, float *dst, const int slots, const int columns) {
    v16 sum[4][4];
    for (int m = 0; m < slots; m++)
        for (int c = 0; c < columns; c++) sum[m][c] = LOAD(dst + m * stride + 16 * c);
    for (long t = first; t < end; t++) {
        for (int m = 0; m < slots; m++) {
            const u32x16 left = SPREAD(a + t * 16 + m);
            for (int c = 0; c < columns; c++) sum[m][c] = DOT(sum[m][c], left, LOAD_PAIRS(b + t * stride + 16 * c));
        }
    }
    for (int m = 0; m < slots; m++)
        for (int c = 0; c < columns; c++) STORE(dst + m * stride + 16 * c, sum[m][c]);
}

NARROW_INLINE void gather_rows(
    const pair *a, const pair *b, long first, long end, long stride, float *dst, const int slots) {
    long k = 0;
    for (; k + 64 <= stride; k += 64) gather_tile(a, b + k, first, end, stride, dst + k, slots, 4);
    for (; k + 32 <= stride; k += 32) gather_tile(a, b + k, first, end, stride, dst + k, slots, 2);
    if (k < stride) gather_tile(a, b + k, first, end, stride, dst + k, slots, 1);
}

// Pairs of sixteen numbers of two rows.
#define INTERLEAVED(first, second) (LOWER(first) | (LOWER(second) << 16))

// Pairs of the rows of two steps; the second may be missing.
NARROW_INLINE void interleave(const u16 *first, const u16 *second, long count, pair *out) {
    long k = 0;
    for (; k + 16 <= count; k += 16) {
        const u32x16 own = LOWER(first + k);
        STORE_PAIRS(out + k, second ? own | (LOWER(second + k) << 16) : own);
    }
    if (k == count) return;
    u16 left[16] = {0}, right[16] = {0};
    memcpy(left, first + k, sizeof(u16) * (size_t)(count - k));
    if (second) memcpy(right, second + k, sizeof(u16) * (size_t)(count - k));
    STORE_PAIRS(out + k, INTERLEAVED(left, right));
}

// dst[m] += Σ_t a[t, m] · b[t] for m of [m0, m1), where row t of `a` begins `t · skew` further on and is zero wherever
// step t has no part in sixteen neighbouring m that another step has.
NARROW_INLINE void gather(
    const u16 *a, long aStride, long skew, const u16 *b, long bStride, long t0, long t1, long m0, long m1,
    long first, long slope, long window, long K, float *dst) {
    const long stride = padded(K);
    pair right[STEPS / 2 * stride], left[STEPS / 2 * 16];
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
                const u16 *row = a + step * (aStride + skew) + m;
                const u32x16 own = LOWER(row);
                STORE_PAIRS(left + t * 16, step + 1 < to ? own | (LOWER(row + aStride + skew) << 16) : own);
            }
            long i = 0;
            for (; i + 4 <= count; i += 4) gather_rows(left + i, right, low, end, stride, dst + (m + i) * stride, 4);
            for (; i < count; i++) gather_rows(left + i, right, low, end, stride, dst + (m + i) * stride, 1);
        }
    }
}

// dst += Σ_t a[t] · b[t]: one slot, `columns` vectors.
NARROW_INLINE void gather_one(
    const u16 *a, long aStride, const u16 *b, long bStride, long steps, float *dst, const int columns) {
    v16 sum[4];
    for (int c = 0; c < columns; c++) sum[c] = LOAD(dst + 16 * c);
    long t = 0;
    for (; t + 2 <= steps; t += 2) {
        const u32x16 left = (u32x16){} + (a[t * aStride] | (uint32_t)a[(t + 1) * aStride] << 16);
        const u16 *row = b + t * bStride;
        for (int c = 0; c < columns; c++)
            sum[c] = DOT(sum[c], left, INTERLEAVED(row + 16 * c, row + bStride + 16 * c));
    }
    if (t < steps) {
        const u32x16 left = (u32x16){} + a[t * aStride];
        for (int c = 0; c < columns; c++) sum[c] = DOT(sum[c], left, LOWER(b + t * bStride + 16 * c));
    }
    for (int c = 0; c < columns; c++) STORE(dst + 16 * c, sum[c]);
}

NARROW void feedback_gather_slots_bfloat16(
    const void *a, long aStride, const void *b, long bStride, long t0, long t1, long j0, long j1, long before,
    long window, long K, float *dst) {
    // Slot j is seen by steps j − before + 1 … j − before + window.
    if (j1 == j0 + 1 && K % 16 == 0) {
        const long from = t0 > j0 - before + 1 ? t0 : j0 - before + 1, seen = j0 - before + window + 1;
        const long steps = (t1 < seen ? t1 : seen) - from;
        if (steps <= 0) return;
        const u16 *weights = (const u16 *)a + from * aStride + j0, *rows = (const u16 *)b + from * bStride;
        long k = 0;
        for (; k + 64 <= K; k += 64) gather_one(weights, aStride, rows + k, bStride, steps, dst + j0 * K + k, 4);
        for (; k + 32 <= K; k += 32) gather_one(weights, aStride, rows + k, bStride, steps, dst + j0 * K + k, 2);
        if (k < K) gather_one(weights, aStride, rows + k, bStride, steps, dst + j0 * K + k, 1);
        return;
    }
    gather(a, aStride, 0, b, bStride, t0, t1, j0, j1, 1 - before, 1, window, K, dst);
}

NARROW void feedback_gather_offsets_bfloat16(
    const void *a, long aStride, const void *b, long bStride, long t0, long t1, long before, long reach, long K,
    float *dst) {
    // Offset reach − c exists from step reach − c − before on.
    gather((const u16 *)a + before - reach, aStride, 1, b, bStride, t0, t1, 0, reach, reach - before, -1, LONG_MAX / 2, K, dst);
}

NARROW void feedback_sum_offsets_bfloat16(
    const void *a, long aStride, long t0, long t1, long before, long reach, float *sums) {
    for (long t = t0; t < t1; t++) {
        const long visible = before + t < reach ? before + t : reach;
        const __bf16 *row = (const __bf16 *)a + t * aStride + before + t - reach;
        for (long c = reach - visible; c < reach; c++) sums[c] += (float)row[c];
    }
}
