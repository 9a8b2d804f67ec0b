#include "CKernels.h"
#include "BFloat16.h"
#include "Groups.h"

// Attention of one query over a memory of groups. Equations: FeedbackEngine/Operations/Attention.swift.

static inline long padded(long count) { return (count + 15) & ~15L; }

void feedback_remember(
    feedback_format format, const float *key, const float *value, long K, long slot, int32_t *keys, int32_t *values) {
    const long groups = feedback_groups(format, K);
    int32_t *lane = keys + (slot / 16) * groups * 16 + slot % 16;
    if (format == FEEDBACK_FLOAT32) {
        for (long k = 0; k < K; k++) memcpy(lane + k * 16, key + k, sizeof(float));
        memcpy(values + slot * padded(K), value, (size_t)K * sizeof(float));
    } else {
        uint16_t *to = (uint16_t *)lane, *pair = (uint16_t *)(values + (slot / 2) * padded(K)) + slot % 2;
        for (long k = 0; k < K; k++) {
            to[k / 2 * 32 + k % 2] = bfloat16(key[k]);
            pair[2 * k] = bfloat16(value[k]);
        }
    }
}

// A slot's sum runs over its groups in order, whatever the blocks; the sums of keys and of distances, and those of every
// fourth group of slots, wait for none but themselves. Keys and values of a head take about as much memory: while
// scores are computed, the values of the same slots are fetched, and then the next row's keys.
#define DEFINE_ATTEND(NAME, TARGET, OUTER, DOT, STORE_GROUPS, FORMAT)                                                  \
    INLINE TARGET void NAME##_scores(                                                                                  \
        const int32_t *q, const int32_t *keys, const int32_t *positions, long stride, const float *bias, long groups,  \
        const int32_t *values, long j, float *scores, const int blocks) {                                              \
        v16i sum[4], distance[4];                                                                                      \
        for (int b = 0; b < blocks; b++) sum[b] = (v16i){0}, distance[b] = (v16i)LOAD(bias + j + 16 * b);              \
        const int32_t *key = keys + j * groups, *position = positions + j;                                             \
        for (long g = 0; g < groups; g++) {                                                                            \
            for (int b = 0; b < blocks; b++) {                                                                         \
                sum[b] = DOT(sum[b], *(const v16i *)(key + (b * groups + g) * 16), q[g]);                              \
                distance[b] = DOT(distance[b], *(const v16i *)(position + g * stride + 16 * b), q[g]);                 \
                __builtin_prefetch(values + (b * groups + g) * 16, 0, 2);                                              \
            }                                                                                                          \
        }                                                                                                              \
        for (int b = 0; b < blocks; b++) STORE(scores + j + 16 * b, (v16)sum[b] + (v16)distance[b]);                   \
    }                                                                                                                  \
                                                                                                                       \
    INLINE TARGET void NAME##_values(                                                                                  \
        const int32_t *p, const int32_t *values, const int32_t *next, long from, long to, long stride, float *out,     \
        const int columns) {                                                                                           \
        v16i sum[4][4] = {0};                                                                                          \
        for (long j = from; j < to; j += 4) {                                                                          \
            for (int i = 0; i < 4; i++) {                                                                              \
                for (int c = 0; c < columns; c++) {                                                                    \
                    sum[i][c] = DOT(sum[i][c], *(const v16i *)(values + (j + i) * stride + 16 * c), p[j + i]);         \
                    if (next) __builtin_prefetch(next + (j + i) * stride + 16 * c, 0, 2);                              \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
        for (int c = 0; c < columns; c++)                                                                              \
            STORE(out + 16 * c, ((v16)sum[0][c] + (v16)sum[1][c]) + ((v16)sum[2][c] + (v16)sum[3][c]));                \
    }                                                                                                                  \
                                                                                                                       \
    OUTER static void NAME(                                                                                            \
        const float *q, const int32_t *keys, const int32_t *values, const int32_t *next, const int32_t *positions,     \
        long stride, const float *bias, long start, long end, long K, float *scratch, float *out) {                    \
        const long first = start & ~15L, last = padded(end), groups = feedback_groups(FORMAT, K);                      \
        const long size = feedback_group_size(FORMAT), width = padded(K);                                              \
        int32_t *query = (int32_t *)scratch;                                                                           \
        float *p = scratch + padded(groups);                                                                           \
        int32_t *weights = (int32_t *)(p + last);                                                                      \
        feedback_encode(FORMAT, q, K, query, 0, 0);                                                                    \
                                                                                                                       \
        /* 1. s_j = q · (k_j + u_j) + s_j */                                                                           \
        long j = first;                                                                                                \
        for (; j + 64 <= last; j += 64)                                                                                \
            NAME##_scores(query, keys, positions, stride, bias, groups, values + j / size * width, j, p, 4);           \
        for (; j < last; j += 16)                                                                                      \
            NAME##_scores(query, keys, positions, stride, bias, groups, values + j / size * width, j, p, 1);           \
        for (j = first; j < start; j++) p[j] = -INFINITY;                                                              \
        for (j = end; j < last; j++) p[j] = -INFINITY;                                                                 \
                                                                                                                       \
        /* 2. p_j = softmax_j s, not yet divided by the sum */                                                         \
        v16 largest = LOAD(p + first);                                                                                 \
        for (j = first + 16; j < last; j += 16) {                                                                      \
            const v16 s = LOAD(p + j);                                                                                 \
            largest = MAX16(s, largest);                                                                               \
        }                                                                                                              \
        const float maximum = LARGEST(largest);                                                                        \
        v16 total = {0};                                                                                               \
        for (j = first; j < last; j += 16) {                                                                           \
            const v16 e = EXP16(LOAD(p + j) - maximum);                                                                \
            total += e;                                                                                                \
            STORE_GROUPS(weights + j / size, e);                                                                       \
        }                                                                                                              \
        const v16 inverse = (v16){0} + 1.0f / SUM16(total);                                                            \
                                                                                                                       \
        /* 3. out = Σ_j p_j v_j */                                                                                     \
        long k = 0;                                                                                                    \
        for (; k + 64 <= K; k += 64) {                                                                                 \
            NAME##_values(                                                                                             \
                weights, values + k, next ? next + k : 0, first / size, last / size, width, out + k, 4);               \
            for (int c = 0; c < 4; c++) STORE(out + k + 16 * c, LOAD(out + k + 16 * c) * inverse);                     \
        }                                                                                                              \
        for (; k + 32 <= K; k += 32) {                                                                                 \
            NAME##_values(                                                                                             \
                weights, values + k, next ? next + k : 0, first / size, last / size, width, out + k, 2);               \
            for (int c = 0; c < 2; c++) STORE(out + k + 16 * c, LOAD(out + k + 16 * c) * inverse);                     \
        }                                                                                                              \
        for (; k < K; k += 16) {                                                                                       \
            float some[16];                                                                                            \
            NAME##_values(                                                                                             \
                weights, values + k, next ? next + k : 0, first / size, last / size, width, some, 1);                  \
            STORE(some, LOAD(some) * inverse);                                                                         \
            memcpy(out + k, some, sizeof(float) * (size_t)(K - k < 16 ? K - k : 16));                                  \
        }                                                                                                              \
    }

DEFINE_ATTEND(plain_float32, , KERNEL, DOT_FLOAT32, STORE, FEEDBACK_FLOAT32)
DEFINE_ATTEND(plain_bfloat16, , KERNEL, DOT_BFLOAT16, STORE_ROUNDED, FEEDBACK_BFLOAT16)
#if defined(__x86_64__)
DEFINE_ATTEND(fast_float32, TARGET_FLOAT32, TARGET_FLOAT32, DOT_FLOAT32, STORE, FEEDBACK_FLOAT32)
DEFINE_ATTEND(fast_bfloat16, TARGET_BFLOAT16, TARGET_BFLOAT16, FAST_BFLOAT16, STORE_NARROW, FEEDBACK_BFLOAT16)
#else
#define fast_float32 plain_float32
#define fast_bfloat16 plain_bfloat16
#endif

void feedback_attend_memory(
    feedback_format format, int fast, const float *q, const int32_t *keys, const int32_t *values,
    const int32_t *next, const int32_t *positions, long stride, const float *positionBias, long start, long end, long K,
    float *scratch, float *out) {
#define ATTEND(NAME) NAME(q, keys, values, next, positions, stride, positionBias, start, end, K, scratch, out)
    if (format == FEEDBACK_FLOAT32)
        fast ? ATTEND(fast_float32) : ATTEND(plain_float32);
    else
        fast ? ATTEND(fast_bfloat16) : ATTEND(plain_bfloat16);
#undef ATTEND
}

KERNEL void feedback_add_scaled(const float *x, float a, long count, float *y) {
    for (long i = 0; i < count; i++) y[i] += a * x[i];
}
