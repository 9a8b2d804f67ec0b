#include "Groups.h"

int feedback_has_fast(feedback_format format) {
#if defined(__x86_64__)
    const int avx512 = __builtin_cpu_supports("x86-64-v4") != 0;
    switch (format) {
    case FEEDBACK_FLOAT32: return avx512;
    case FEEDBACK_BFLOAT16: return avx512 && __builtin_cpu_supports("avx512bf16");
    case FEEDBACK_INT8:
        if (avx512 && __builtin_cpu_supports("avx512vnni")) return 1;
        return __builtin_cpu_supports("avx2") ? 2 : 0;
    }
#endif
    (void)format;
    return 0;
}

// MARK: Encoding

KERNEL static void encode_bfloat16(const float *x, long count, uint16_t *to) {
    for (long i = 0; i < count; i++) to[i] = bfloat16(x[i]);
}

KERNEL static void encode_int8(const float *x, long count, uint8_t *to, float *scale, float *offset) {
    v16 leasts = (v16){0} + x[0], mosts = leasts, sums = {0};
    long i = 0;
    for (; i + 16 <= count; i += 16) {
        const v16 some = LOAD(x + i);
        leasts = MIN16(some, leasts);
        mosts = MAX16(some, mosts);
        sums += some;
    }
    float least = leasts[0], most = mosts[0], sum = SUM16(sums);
    for (int lane = 1; lane < 16; lane++) {
        least = leasts[lane] < least ? leasts[lane] : least;
        most = mosts[lane] > most ? mosts[lane] : most;
    }
    for (; i < count; i++) {
        least = x[i] < least ? x[i] : least;
        most = x[i] > most ? x[i] : most;
        sum += x[i];
    }
    const float step = (most - least) / 255, inverse = step > 0 && 1 / step < INFINITY ? 1 / step : 0;
    for (i = 0; i < count; i++) {
        // What is not a number becomes 0.
        const float scaled = (x[i] - least) * inverse + 0.5f, positive = scaled > 0 ? scaled : 0;
        to[i] = (uint8_t)(int32_t)(positive < 255.5f ? positive : 255.5f);
    }
    *scale = step;
    // Comparisons pass over what is not a number; the sum does not.
    *offset = least + 0 * sum;
}

void feedback_encode(feedback_format format, const float *x, long count, int32_t *groups, float *scale, float *offset) {
    if (format == FEEDBACK_FLOAT32) {
        memcpy(groups, x, (size_t)count * sizeof(float));
        return;
    }
    memset(groups + feedback_groups(format, count) - 1, 0, sizeof(int32_t));
    if (format == FEEDBACK_BFLOAT16)
        encode_bfloat16(x, count, (uint16_t *)groups);
    else
        encode_int8(x, count, (uint8_t *)groups, scale, offset);
}

// MARK: Packing

// The scale of one output's weights: the largest becomes 127, or so much less that no sum of products with 0 … 255 can
// leave 32 bits. Not finite where a weight is not.
static float weight_scale(const float *w, long inputs) {
    float largest = 0, total = 0;
    for (long i = 0; i < inputs; i++) {
        const float size = fabsf(w[i]);
        largest = size > largest ? size : largest;
        total += size;
    }
    const float scale = largest / 127, safe = total * (255.0f / 2.0e9f);
    return (scale > safe ? scale : safe) + 0 * total;
}

void feedback_pack_panels(
    feedback_format format, const float *w, long outputs, long inputs, int32_t *weights, float *scales, float *sums) {
    const long size = feedback_group_size(format), groups = feedback_groups(format, inputs);
    for (long o = 0; o < outputs; o++, w += inputs) {
        int32_t *lane = weights + (o / 64) * groups * 64 + o % 64;
        if (format == FEEDBACK_FLOAT32) {
            for (long i = 0; i < inputs; i++) memcpy(lane + i * 64, w + i, sizeof(float));
        } else if (format == FEEDBACK_BFLOAT16) {
            uint16_t *to = (uint16_t *)lane;
            for (long i = 0; i < inputs; i++) to[i / size * 128 + i % size] = bfloat16(w[i]);
        } else {
            int8_t *to = (int8_t *)lane;
            const float scale = weight_scale(w, inputs), inverse = scale > 0 && isfinite(scale) ? 1 / scale : 0;
            long sum = 0;
            for (long i = 0; i < inputs; i++) {
                const int8_t rounded = (int8_t)lrintf(inverse > 0 ? w[i] * inverse : 0);
                to[i / size * 256 + i % size] = rounded;
                sum += rounded;
            }
            scales[o] = scale;
            sums[o] = (float)sum;
        }
    }
}

// MARK: Products

// Far enough ahead for memory to answer: 8 KB of the stream.
#define AHEAD (8192 / 64)

// NAME_tile: `rows` rows times `vectors` vectors of outputs; every sum runs over the groups in order, whatever the tile.
// A tile's sums fit the registers, and are enough to hide an instruction's latency. One row alone takes ALONE vectors at a
// time; several rows, MOST of them at a time, take WIDTH vectors, whose weights serve all of them. The first to read weights
// prefetches them.
#define DEFINE_MULTIPLY(NAME, TARGET, OUTER, DOT, INTEGERS, ALONE, MOST, WIDTH)                                        \
    INLINE TARGET void NAME##_tile(                                                                                    \
        const feedback_panels *p, long output, const int32_t *x, const float *scales, const float *offsets, float *y,  \
        long stride, const feedback_finish finish, const int rows, const int vectors, const int prefetch) {            \
        const long groups = p->groups;                                                                                 \
        const v16i *w = (const v16i *)p->weights + output / 64 * groups * 4 + output % 64 / 16;                        \
        v16i sum[MOST][ALONE];                                                                                         \
        for (int r = 0; r < rows; r++)                                                                                 \
            for (int c = 0; c < vectors; c++) sum[r][c] = (v16i){0};                                                   \
        for (long g = 0; g < groups; g++, w += 4) {                                                                    \
            v16i right[ALONE];                                                                                         \
            for (int c = 0; c < vectors; c++) {                                                                        \
                const v16i *from = w + (c >> 2) * groups * 4 + (c & 3);                                                \
                right[c] = *from;                                                                                      \
                if (prefetch) __builtin_prefetch(from + AHEAD);                                                        \
            }                                                                                                          \
            for (int r = 0; r < rows; r++) {                                                                           \
                const int32_t left = x[r * groups + g];                                                                \
                for (int c = 0; c < vectors; c++) sum[r][c] = DOT(sum[r][c], right[c], left);                          \
            }                                                                                                          \
        }                                                                                                              \
        const float *bias = p->bias + output, *units = p->scales + output, *sums = p->sums + output;                   \
        for (int r = 0; r < rows; r++) {                                                                               \
            for (int c = 0; c < vectors; c++) {                                                                        \
                v16 value = (v16)sum[r][c];                                                                            \
                if (INTEGERS)                                                                                          \
                    value = (__builtin_convertvector(sum[r][c], v16) * scales[r] + offsets[r] * LOAD(sums + 16 * c))   \
                            * LOAD(units + 16 * c);                                                                    \
                value += LOAD(bias + 16 * c);                                                                          \
                float *to = y + r * stride + output + 16 * c;                                                          \
                if (finish == FEEDBACK_STORE_RECTIFIED) value = MAX16(value, (v16){0});                                \
                STORE(to, finish == FEEDBACK_ADD ? LOAD(to) + value : value);                                          \
            }                                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
                                                                                                                       \
    OUTER static void NAME(                                                                                            \
        const feedback_panels *p, const int32_t *x, const float *scales, const float *offsets, long rows, long from,   \
        long to, float *y, long stride, feedback_finish finish) {                                                      \
        long output = 64 * from;                                                                                       \
        if (rows == 1) {                                                                                               \
            for (; output + 16 * ALONE <= 64 * to; output += 16 * ALONE)                                               \
                NAME##_tile(p, output, x, scales, offsets, y, stride, finish, 1, ALONE, 1);                            \
        }                                                                                                              \
        for (; output < 64 * to; output += 16 * WIDTH) {                                                               \
            long r = 0;                                                                                                \
            for (; r + MOST <= rows; r += MOST)                                                                        \
                NAME##_tile(                                                                                           \
                    p, output, x + r * p->groups, scales + r, offsets + r, y + r * stride, stride, finish, MOST,       \
                    WIDTH, r == 0);                                                                                    \
            for (; r + 2 <= rows; r += 2)                                                                              \
                NAME##_tile(                                                                                           \
                    p, output, x + r * p->groups, scales + r, offsets + r, y + r * stride, stride, finish, 2,          \
                    WIDTH, r == 0);                                                                                    \
            for (; r < rows; r++)                                                                                      \
                NAME##_tile(                                                                                           \
                    p, output, x + r * p->groups, scales + r, offsets + r, y + r * stride, stride, finish, 1,          \
                    WIDTH, r == 0);                                                                                    \
        }                                                                                                              \
    }

DEFINE_MULTIPLY(plain_float32, , KERNEL, DOT_FLOAT32, 0, 4, 4, 1)
DEFINE_MULTIPLY(plain_bfloat16, , KERNEL, DOT_BFLOAT16, 0, 4, 4, 1)
DEFINE_MULTIPLY(plain_int8, , KERNEL, DOT_INT8, 1, 4, 4, 1)
#if defined(__x86_64__)
DEFINE_MULTIPLY(fast_float32, TARGET_FLOAT32, TARGET_FLOAT32, DOT_FLOAT32, 0, 8, 6, 4)
DEFINE_MULTIPLY(fast_bfloat16, TARGET_BFLOAT16, TARGET_BFLOAT16, FAST_BFLOAT16, 0, 8, 6, 4)
DEFINE_MULTIPLY(fast_int8, TARGET_INT8, TARGET_INT8, FAST_INT8, 1, 8, 6, 4)
DEFINE_MULTIPLY(avx2_int8, TARGET_AVX2, TARGET_AVX2, AVX2_INT8, 1, 4, 4, 1)
#else
#define fast_float32 plain_float32
#define fast_bfloat16 plain_bfloat16
#define fast_int8 plain_int8
#define avx2_int8 plain_int8
#endif

void feedback_multiply_panels(
    const feedback_panels *p, const int32_t *x, const float *scales, const float *offsets, long rows, long from,
    long to, float *y, long stride, feedback_finish finish) {
#define MULTIPLY(NAME) NAME(p, x, scales, offsets, rows, from, to, y, stride, finish)
    switch (p->format) {
    case FEEDBACK_FLOAT32: p->fast ? MULTIPLY(fast_float32) : MULTIPLY(plain_float32); break;
    case FEEDBACK_BFLOAT16: p->fast ? MULTIPLY(fast_bfloat16) : MULTIPLY(plain_bfloat16); break;
    case FEEDBACK_INT8:
        p->fast == 1 ? MULTIPLY(fast_int8) : p->fast ? MULTIPLY(avx2_int8) : MULTIPLY(plain_int8);
        break;
    }
#undef MULTIPLY
}
