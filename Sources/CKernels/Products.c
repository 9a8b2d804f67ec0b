#include "BFloat16.h"
#include "CKernels.h"
#include "Groups.h"

// A product with packed weights. Equations: FeedbackEngine/Operations/Linear.swift; groups: include/Decoding.h.
//
// A panel is 32 columns of the weights, [groups][32], so what a tile reads lies in a row; a tile is up to ROWS rows by
// VECTORS vectors of a panel, as many as the registers hold sums of. Its rows are copied side by side first,
// [groups][HIGHEST]: rows a power of two apart would share few lines of the nearest cache. A row's sums run over the groups in
// order, whatever the other rows.
//
// Weights come from far: 30 MB a step at D 512. While the tiles of a panel are computed, the next panel is fetched, an
// equal part by each tile, so that the memory is never asked for much at once. One tile alone fetches its own weights, AHEAD.
//
// Measured on one core of Zen 4 (230 GFLOP/s in bfloat16, 116 in float32), weights from the third cache, against oneDNN 2.6,
// 32 rows: 512 × 2048 bfloat16 220 (200), float32 111 (102); 6 rows: 128 × 512 216 (187), 110 (103). On one of Zen 1, whose
// loop of multiply-adds alone reaches 43.6, 32 rows, float32: 512 × 2048 38 (23), 128 × 512 38 (36).

enum { PANEL = 32, HIGHEST = 12, TILES = 4, AHEAD = 32 };

long feedback_product_room(long groups) { return TILES * HIGHEST * groups; }

int feedback_multiplies(feedback_format format) {
#if defined(__x86_64__)
    // Where there are instructions for whole tiles, oneDNN has kernels that use them.
    return feedback_has_fast(format) == 1 && !__builtin_cpu_supports("amx-bf16");
#else
    (void)format;
    return 0;
#endif
}

// MARK: Packing

typedef int32_t v4i __attribute__((vector_size(16), aligned(1)));

// out[g][r] = group g of row r, rows `stride` bytes apart and `bytes` long; out has `width` ≥ rows, a multiple of 4.
INLINE void interleave_rows(const char *x, long stride, long rows, long bytes, long width, int32_t *out) {
    for (long r = 0; r < rows; r += 4) {
        const char *row[4];
        for (long i = 0; i < 4; i++) row[i] = x + (r + i < rows ? r + i : rows - 1) * stride;
        int32_t *to = out + r;
        long at = 0;
        for (; at + 16 <= bytes; at += 16, to += 4 * width) {
            const v4i a = *(const v4i *)(row[0] + at), b = *(const v4i *)(row[1] + at);
            const v4i c = *(const v4i *)(row[2] + at), d = *(const v4i *)(row[3] + at);
            const v4i ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
            const v4i AB = __builtin_shufflevector(a, b, 2, 6, 3, 7), CD = __builtin_shufflevector(c, d, 2, 6, 3, 7);
            *(v4i *)to = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
            *(v4i *)(to + width) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
            *(v4i *)(to + 2 * width) = __builtin_shufflevector(AB, CD, 0, 1, 4, 5);
            *(v4i *)(to + 3 * width) = __builtin_shufflevector(AB, CD, 2, 3, 6, 7);
        }
        for (; at < bytes; at += 4, to += width) {
            for (long i = 0; i < 4; i++) {
                to[i] = 0;
                memcpy(to + i, row[i] + at, (size_t)(bytes - at < 4 ? bytes - at : 4));
            }
        }
    }
}

// out[g][c] = group g of column c of w: `k` rows, `stride` numbers apart.
INLINE void interleave_columns(
    feedback_format format, const void *w, long stride, long k, long columns, int32_t *out) {
    if (format == FEEDBACK_FLOAT32) {
        for (long i = 0; i < k; i++)
            memcpy(out + i * PANEL, (const float *)w + i * stride, (size_t)columns * sizeof(float));
        return;
    }
    const uint16_t *even = (const uint16_t *)w;
    for (long i = 0; i < k; i += 2, even += 2 * stride, out += PANEL) {
        const uint16_t *odd = even + stride;
        for (long c = 0; c < columns; c++) out[c] = (int32_t)(even[c] | (i + 1 < k ? (uint32_t)odd[c] << 16 : 0));
    }
}

KERNEL void feedback_pack_columns(
    feedback_format format, const void *weights, long k, long n, int transposed, int32_t *panels) {
    const long groups = feedback_groups(format, k), size = 4 / feedback_group_size(format);
    const char *w = (const char *)weights;
    for (long first = 0; first < n; first += PANEL, panels += PANEL * groups) {
        const long columns = n - first < PANEL ? n - first : PANEL;
        if (columns < PANEL) memset(panels, 0, (size_t)(PANEL * groups) * sizeof(int32_t));
        if (transposed)
            interleave_rows(w + first * k * size, k * size, columns, k * size, PANEL, panels);
        else
            interleave_columns(format, w + first * size, n, k, columns, panels);
    }
}

// MARK: Products

// Sums stay in registers only where the loops over them are gone.
#define UNROLLED _Pragma("clang loop unroll(full)")

// y[r] = max(0?, bias + Σ_g x[g, r] · panel[g]) + y[r]?, `columns` columns. `spread` lines of `next` are fetched in 1024
// groups; with 0, a line of the panel for every one that is used.
#define DEFINE_PRODUCT(NAME, TARGET, OUTER, DOT, STORE_OPERAND, ROWS, VECTORS)                                         \
    INLINE TARGET void NAME##_tile(                                                                                    \
        const int32_t *x, const int32_t *panel, const int32_t *next, long spread, const float *bias, long groups,      \
        feedback_finish finish, int operand, char *y, long stride, long columns, const int rows) {                     \
        v16i sum[ROWS][VECTORS];                                                                                       \
        for (int c = 0; c < VECTORS; c++) {                                                                            \
            const v16i start = bias ? *(const v16i *)(bias + 16 * c) : (v16i){0};                                      \
            UNROLLED                                                                                                   \
            for (int r = 0; r < rows; r++) sum[r][c] = start;                                                          \
        }                                                                                                              \
        for (long g = 0; g < groups; g++, x += HIGHEST, panel += PANEL) {                                              \
            v16i right[VECTORS];                                                                                       \
            for (int c = 0; c < VECTORS; c++) right[c] = *(const v16i *)(panel + 16 * c);                              \
            if (spread)                                                                                                \
                __builtin_prefetch(next + ((g * spread) >> 10) * 16);                                                  \
            else                                                                                                       \
                for (int c = 0; c < VECTORS; c++) __builtin_prefetch(panel + AHEAD * PANEL + 16 * c);                  \
            UNROLLED                                                                                                   \
            for (int r = 0; r < rows; r++)                                                                             \
                for (int c = 0; c < VECTORS; c++) sum[r][c] = DOT(sum[r][c], right[c], x[r]);                          \
        }                                                                                                              \
        for (int r = 0; r < rows; r++, y += stride) {                                                                  \
            for (int c = 0; c < VECTORS && 16 * c < columns; c++) {                                                    \
                v16 value = (v16)sum[r][c];                                                                            \
                if (finish == FEEDBACK_STORE_RECTIFIED) value = MAX16(value, (v16){0});                                \
                const long size = operand ? sizeof(NAME##_operand) : sizeof(float);                                    \
                char *to = y + 16 * c * size;                                                                          \
                if (columns - 16 * c >= 16) {                                                                          \
                    if (finish == FEEDBACK_ADD) value += LOAD(to);                                                     \
                    if (operand)                                                                                       \
                        STORE_OPERAND(to, value);                                                                      \
                    else                                                                                               \
                        STORE(to, value);                                                                              \
                } else {                                                                                               \
                    float some[16];                                                                                    \
                    const size_t bytes = (size_t)((columns - 16 * c) * size);                                          \
                    memcpy(some, to, bytes);                                                                           \
                    if (finish == FEEDBACK_ADD) value += LOAD(some);                                                   \
                    if (operand)                                                                                       \
                        STORE_OPERAND(some, value);                                                                    \
                    else                                                                                               \
                        STORE(some, value);                                                                            \
                    memcpy(to, some, bytes);                                                                           \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
                                                                                                                       \
    OUTER static void NAME(                                                                                            \
        const char *x, const int32_t *panels, const float *bias, long rows, long k, long n, feedback_finish finish,    \
        int operand, char *y, int32_t *room) {                                                                         \
        const long size = sizeof(NAME##_operand), groups = (k * size + 3) / 4;                                         \
        const long stride = n * (operand ? size : (long)sizeof(float));                                                \
        for (long begin = 0; begin < rows; begin += TILES * ROWS) {                                                    \
            /* Tiles of nearly equal height: one of one or two rows would leave registers idle. */                     \
            const long count = rows - begin < TILES * ROWS ? rows - begin : TILES * ROWS;                              \
            const long tiles = (count + ROWS - 1) / ROWS;                                                              \
            const long spread = VECTORS > 1 && tiles > 1 ? VECTORS * 1024 / tiles : 0;                                 \
            for (long tile = 0; tile < tiles; tile++) {                                                                \
                const long r = count * tile / tiles, end = count * (tile + 1) / tiles;                                 \
                interleave_rows(                                                                                       \
                    x + (begin + r) * k * size, k * size, end - r, k * size, HIGHEST, room + tile * groups * HIGHEST); \
            }                                                                                                          \
            for (long first = 0; first < n; first += 16 * VECTORS) {                                                   \
                const int32_t *panel = panels + first / PANEL * PANEL * groups + first % PANEL;                        \
                for (long tile = 0; tile < tiles; tile++) {                                                            \
                    const long r = count * tile / tiles, height = count * (tile + 1) / tiles - r;                      \
                    const int32_t *left = room + tile * groups * HIGHEST;                                              \
                    const int32_t *next = panel + PANEL * groups + tile * ((groups * spread) >> 10) * 16;              \
                    char *to = y + (begin + r) * stride + first * (operand ? size : (long)sizeof(float));              \
                    switch (height) {                                                                                  \
                        EACH_HEIGHT(                                                                                   \
                            NAME, ROWS, left, panel, next, spread, bias ? bias + first : 0, groups, finish, operand,   \
                            to, stride, n - first)                                                                     \
                    }                                                                                                  \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }

#define HEIGHT(NAME, ROWS, H, ...)                                                                                     \
    case H:                                                                                                            \
        if (H <= ROWS) NAME##_tile(__VA_ARGS__, H <= ROWS ? H : ROWS);                                                 \
        break;
#define EACH_HEIGHT(NAME, ROWS, ...)                                                                                   \
    HEIGHT(NAME, ROWS, 1, __VA_ARGS__)                                                                                 \
    HEIGHT(NAME, ROWS, 2, __VA_ARGS__)                                                                                 \
    HEIGHT(NAME, ROWS, 3, __VA_ARGS__)                                                                                 \
    HEIGHT(NAME, ROWS, 4, __VA_ARGS__)                                                                                 \
    HEIGHT(NAME, ROWS, 5, __VA_ARGS__)                                                                                 \
    HEIGHT(NAME, ROWS, 6, __VA_ARGS__)                                                                                 \
    HEIGHT(NAME, ROWS, 7, __VA_ARGS__)                                                                                 \
    HEIGHT(NAME, ROWS, 8, __VA_ARGS__)                                                                                 \
    HEIGHT(NAME, ROWS, 9, __VA_ARGS__)                                                                                 \
    HEIGHT(NAME, ROWS, 10, __VA_ARGS__)                                                                                \
    HEIGHT(NAME, ROWS, 11, __VA_ARGS__)                                                                                \
    HEIGHT(NAME, ROWS, 12, __VA_ARGS__)

typedef float plain_float32_operand, fast_float32_operand;
typedef uint16_t fast_bfloat16_operand;

DEFINE_PRODUCT(plain_float32, , KERNEL, DOT_FLOAT32, STORE, 6, 1)
#if defined(__x86_64__)
DEFINE_PRODUCT(fast_float32, TARGET_FLOAT32, TARGET_FLOAT32, DOT_FLOAT32, STORE, HIGHEST, 2)
DEFINE_PRODUCT(fast_bfloat16, TARGET_BFLOAT16, TARGET_BFLOAT16, FAST_BFLOAT16, STORE_NARROW, HIGHEST, 2)
#endif

void feedback_multiply(
    feedback_format format, int fast, const void *x, const int32_t *panels, const float *bias, long rows, long k, long n,
    feedback_finish finish, int operand, void *y, int32_t *room) {
#define MULTIPLY(NAME) NAME((const char *)x, panels, bias, rows, k, n, finish, operand, (char *)y, room)
#if defined(__x86_64__)
    if (fast) {
        format == FEEDBACK_BFLOAT16 ? MULTIPLY(fast_bfloat16) : MULTIPLY(fast_float32);
        return;
    }
#endif
    (void)fast;
    (void)format;
    MULTIPLY(plain_float32);
}
