#include "CKernels.h"
#include "Vector.h"

// Equations: FeedbackEngine/Operations/Attention.swift.

static inline long padded(long K) { return (K + 15) & ~15L; }

void feedback_append(const float *x, long K, long slot, void *overSlots, void *overHead) {
    if (overSlots) {
        float *block = (float *)overSlots + (slot / 16) * K * 16 + slot % 16;
        for (long k = 0; k < K; k++) block[k * 16] = x[k];
    }
    if (overHead) memcpy((float *)overHead + slot * padded(K), x, (size_t)K * sizeof(float));
}

// scores[r, lane] = bias + Σ_k q_rk · u_k, for `rows` rows and 16 slots.
INLINE void score_rows(
    const float *q, long qStride, const float *positions, long positionStride, const float *bias, long K, float *scores,
    long stride, const int rows) {
    v16 sum[6];
    for (int r = 0; r < rows; r++) sum[r] = LOAD(bias);
    for (long k = 0; k < K; k++) {
        const v16 position = LOAD(positions + k * positionStride);
        for (int r = 0; r < rows; r++) sum[r] += q[r * qStride + k] * position;
    }
    for (int r = 0; r < rows; r++) STORE(scores + r * stride, sum[r]);
}

KERNEL void feedback_score_positions(
    const void *q, long qStride, long rows, const void *positions, long positionStride, const float *positionBias,
    long start, long end, long K, float *scores, long stride) {
#define SCORE(r, count)                                                                                                \
    score_rows(                                                                                                        \
        (const float *)q + (r) * qStride, qStride, (const float *)positions + j, positionStride, positionBias + j, K,  \
        scores + (r) * stride + j, stride, count)
    for (long j = start & ~15L; j < end; j += 16) EACH_TILE_OF_ROWS(rows, SCORE);
#undef SCORE
}

// p[16 b + lane] = scores + Σ_k q_k · keys, for `blocks` blocks of 16 slots from slot j.
INLINE void score_blocks(
    const float *q, const float *keys, const float *scores, long j, long K, float *p, const int blocks) {
    v16 sum[4];
    for (int b = 0; b < blocks; b++) sum[b] = LOAD(scores + j + 16 * b);
    const float *key = keys + j * K;
    for (long k = 0; k < K; k++)
        for (int b = 0; b < blocks; b++) sum[b] += q[k] * LOAD(key + (b * K + k) * 16);
    for (int b = 0; b < blocks; b++) STORE(p + j + 16 * b, sum[b]);
}

// out[16 c + lane] = Σ_j a_j · (x_j + y_j), over `columns` vectors of the head from column 0; y may be null.
INLINE void sum_over_slots(
    const float *a, const float *x, const float *y, long start, long end, long stride, float *out,
    const int columns) {
    v16 even[4] = {{0}}, odd[4] = {{0}};
    long j = start;
    for (; j + 1 < end; j += 2) {
        for (int c = 0; c < columns; c++) {
            v16 first = LOAD(x + j * stride + 16 * c), second = LOAD(x + (j + 1) * stride + 16 * c);
            if (y) {
                first += LOAD(y + j * stride + 16 * c);
                second += LOAD(y + (j + 1) * stride + 16 * c);
            }
            even[c] += a[j] * first;
            odd[c] += a[j + 1] * second;
        }
    }
    if (j < end) {
        for (int c = 0; c < columns; c++) {
            v16 first = LOAD(x + j * stride + 16 * c);
            if (y) first += LOAD(y + j * stride + 16 * c);
            even[c] += a[j] * first;
        }
    }
    for (int c = 0; c < columns; c++) STORE(out + 16 * c, even[c] + odd[c]);
}

// The same over all K columns; the last vector may be partial, and what lies behind it is left alone.
INLINE void sum_over_slots_all(
    const float *a, const float *x, const float *y, long start, long end, long K, float *out) {
    const long stride = padded(K);
    long k = 0;
    for (; k + 64 <= K; k += 64) sum_over_slots(a, x + k, y ? y + k : 0, start, end, stride, out + k, 4);
    for (; k + 32 <= K; k += 32) sum_over_slots(a, x + k, y ? y + k : 0, start, end, stride, out + k, 2);
    for (; k < K; k += 16) {
        float last[16];
        sum_over_slots(a, x + k, y ? y + k : 0, start, end, stride, last, 1);
        memcpy(out + k, last, sizeof(float) * (size_t)(K - k < 16 ? K - k : 16));
    }
}

KERNEL void feedback_attend(
    const void *q, const void *keys, const void *values, const float *scores, long start, long end, long K,
    void *probabilities, void *out, uint32_t key, uint32_t threshold, float scale) {
    float *p = probabilities;
    const long first = start & ~15L, last = (end + 15) & ~15L;

    // 1. s_j = q · k_j + (q · u_j + s_j)
    long j = first;
    for (; j + 64 <= last; j += 64) score_blocks(q, keys, scores, j, K, p, 4);
    for (; j + 32 <= last; j += 32) score_blocks(q, keys, scores, j, K, p, 2);
    for (; j < last; j += 16) score_blocks(q, keys, scores, j, K, p, 1);
    for (j = first; j < start; j++) p[j] = -INFINITY;
    for (j = end; j < last; j++) p[j] = -INFINITY;

    // 2. p_j = softmax_j s
    v16 largest = LOAD(p + first);
    for (j = first + 16; j < last; j += 16) {
        const v16 s = LOAD(p + j);
        largest = MAX16(s, largest);
    }
    const float maximum = LARGEST(largest);
    v16 total = {0};
    for (j = first; j < last; j += 16) {
        const v16 e = EXP16(LOAD(p + j) - maximum);
        total += e;
        STORE(p + j, e);
    }
    const float inverse = 1.0f / SUM16(total);
    for (j = first; j < last; j += 16) STORE(p + j, LOAD(p + j) * inverse);
    STORE(p + first - 16, (v16){0});
    STORE(p + last, (v16){0});

    // 3. out = Σ_j p_j v_j
    if (threshold == 0) {
        sum_over_slots_all(p, values, 0, start, end, K, out);
        return;
    }
    float kept[last - first];
    for (j = first; j < last; j++) {
        const int drops = feedback_hash(key, (uint32_t)j) < threshold;
        kept[j - first] = drops ? 0 : scale * p[j];
        p[j] = drops ? -p[j] : p[j];
    }
    sum_over_slots_all(kept, (const float *)values + first * padded(K), 0, start - first, end - first, K, out);
}

INLINE void score_gradient_blocks(
    const float *dout, const float *p, const float *values, float delta, long j, long K, float *ds,
    const int blocks) {
    v16 sum[4];
    for (int b = 0; b < blocks; b++) sum[b] = (v16){0} - delta;
    const float *value = values + j * K;
    for (long k = 0; k < K; k++)
        for (int b = 0; b < blocks; b++) {
            sum[b] += dout[k] * LOAD(value + (b * K + k) * 16);
        }
    for (int b = 0; b < blocks; b++) STORE(ds + j + 16 * b, sum[b] * LOAD(p + j + 16 * b));
}

KERNEL void feedback_attend_backward(
    const void *dcontext, const void *context, void *probabilities, const void *keys, const void *values,
    const void *positions, long start, long end, long K, void *scoreGradients, void *dq, float scale) {
    const float *dout = dcontext, *out = context;
    float *p = probabilities, *ds = scoreGradients;
    const long first = start & ~15L, last = (end + 15) & ~15L;

    // 3. dp_j = dout · v_j, and 2. ds_j = p_j (dp_j − Σ_i p_i dp_i), where Σ_i p_i dp_i = dout · out
    float delta = 0;
    for (long k = 0; k < K; k++) delta += dout[k] * out[k];
    float shares[scale == 1 ? 1 : last - first];
    if (scale != 1) {
        for (long j = first; j < last; j++) {
            shares[j - first] = delta * fabsf(p[j]);
            p[j] = p[j] > 0 ? scale * p[j] : 0;
        }
        delta = 0;
    }
    long j = first;
    for (; j + 64 <= last; j += 64) score_gradient_blocks(dout, p, values, delta, j, K, ds, 4);
    for (; j + 32 <= last; j += 32) score_gradient_blocks(dout, p, values, delta, j, K, ds, 2);
    for (; j < last; j += 16) score_gradient_blocks(dout, p, values, delta, j, K, ds, 1);
    STORE(ds + first - 16, (v16){0});
    STORE(ds + last, (v16){0});
    if (scale != 1)
        for (j = first; j < last; j++) ds[j] -= shares[j - first];

    // 1. dq = Σ_j ds_j (k_j + u_j)
    sum_over_slots_all(ds, keys, positions, start, end, K, dq);
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
    const long stride = padded(K);
    for (long k = 0; k < stride; k += 16) gather_tile(a, aStride, b + k, bStride, steps, dst + k, stride, slots);
}

KERNEL void feedback_gather_slots(
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
                gather_rows(first, aStride, right, bStride, to - from, K, dst + j * padded(K), SLOTS);
            else
                gather_rows(first, aStride, right, bStride, to - from, K, dst + j * padded(K), 1);
        }
        j += slots;
    }
}

KERNEL void feedback_gather_offsets(
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
                gather_rows(first, aStride + 1, right, bStride, t1 - from, K, dst + c * padded(K), SLOTS);
            else
                gather_rows(first, aStride + 1, right, bStride, t1 - from, K, dst + c * padded(K), 1);
        }
        c += rows;
    }
}

KERNEL void feedback_sum_offsets(
    const void *a, long aStride, long t0, long t1, long before, long reach, float *sums) {
    for (long t = t0; t < t1; t++) {
        const long visible = before + t < reach ? before + t : reach;
        const float *row = (const float *)a + t * aStride + before + t - reach;
        for (long c = reach - visible; c < reach; c++) sums[c] += row[c];
    }
}
