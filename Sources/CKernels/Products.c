#include "BFloat16.h"
#include "Groups.h"

// A product with packed weights. Equations: FeedbackEngine/Operations/Linear.swift; groups: include/Products.h.
//
// A panel is 32 columns of the weights, [groups][32], so what a tile reads lies in a row; a tile is up to ROWS rows by
// VECTORS vectors of a panel, as many as the registers hold sums of. Its rows are copied side by side first,
// [groups][HIGHEST]: rows a power of two apart would share few lines of the nearest cache. A row's sums run over the groups in
// order, whatever the other rows.
//
// Weights come from far: 30 MB a step at D 512. While the tiles of a panel are computed, the next panel is fetched, an
// equal part by each tile, so that the memory is never asked for much at once. One or two tiles fetch their own weights, AHEAD,
// into the second cache. A low tile alone is wide, so that it has sums enough to hide an instruction's latency; the widest
// reads four panels at a time and leaves fetching to the CPU, which knows such streams.
//
// float12's groups are turned into bfloat16's as they are read where one tile does; several share a panel that is turned
// before.
//
// Measured on one core of Zen 4 (230 GFLOP/s in bfloat16, 116 in float32), weights from the third cache, against oneDNN 2.6,
// 32 rows: 512 × 2048 bfloat16 220 (200), float32 111 (102); 6 rows: 128 × 512 216 (187), 110 (103). On one of Zen 1, whose
// loop of multiply-adds alone reaches 43.6, 32 rows, float32: 512 × 2048 38 (23), 128 × 512 38 (36).

enum { PANEL = 32, HIGHEST = 12, WIDEST = 8, TILES = 6, AHEAD = 64 };

long feedback_product_room(long groups) { return (TILES * HIGHEST + PANEL) * groups; }

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

// Four vectors of groups in three: 16 bits are a sign, four that are not used, four of exponent and seven of significand.
// What is not used takes the fourth's exponent, its upper four bits of significand, and its sign with the lower three.
KERNEL static void pack_twelve_bits(const uint32_t *groups, long count, uint32_t *to) {
    for (long q = 0; q < count; q += 4, groups += 4 * PANEL, to += 3 * PANEL) {
        for (long half = 0; half < 2; half++) {
            for (long lane = 0; lane < 16; lane++) {
                const uint32_t *from = groups + half * 16 + lane;
                const uint32_t last = from[3 * PANEL];
                const uint32_t parts[3] = {
                    (last & 0x07800780) << 4, (last & 0x00780078) << 8,
                    (last & 0x80008000) >> 1 | (last & 0x00070007) << 11};
                for (int i = 0; i < 3; i++) to[half * 48 + i * 16 + lane] = from[i * PANEL] | parts[i];
            }
        }
    }
}

KERNEL void feedback_pack_columns(
    feedback_format format, const void *weights, long k, long n, int transposed, int32_t *panels, int32_t *room) {
    const long groups = feedback_groups(format, k), size = 4 / feedback_group_size(format);
    const char *w = (const char *)weights;
    for (long first = 0; first < n; first += PANEL, panels += feedback_panel_width(format) * groups) {
        const long columns = n - first < PANEL ? n - first : PANEL;
        int32_t *to = format == FEEDBACK_FLOAT12 ? room : panels;
        if (columns < PANEL) memset(to, 0, (size_t)(PANEL * groups) * sizeof(int32_t));
        if (transposed)
            interleave_rows(w + first * k * size, k * size, columns, k * size, PANEL, to);
        else
            interleave_columns(format, w + first * size, n, k, columns, to);
        if (format == FEEDBACK_FLOAT12) pack_twelve_bits((uint32_t *)to, groups, (uint32_t *)panels);
    }
}

// MARK: Products

// Vector i of the STEP vectors of groups at `from`.
#define GROUPS(from, i) (*(const v16i *)(from))
// Of float12: bfloat16 with a small exponent.
typedef uint16_t u16x32 __attribute__((vector_size(64), aligned(4)));
#define TWELVE_BITS(from, i)                                                                                           \
    ({                                                                                                                 \
        const u16x32 *b_ = (const u16x32 *)(from);                                                                     \
        (v16i)((i) < 3 ? b_[(i)] & 0x87ff                                                                              \
                       : (b_[0] >> 4 & 0x0780) | (b_[1] >> 8 & 0x0078) | (b_[2] >> 11 & 0x0007)                        \
                             | (b_[2] << 1 & 0x8000));                                                                 \
    })

// Sums stay in registers only where the loops over them are gone.
#define UNROLLED _Pragma("clang loop unroll(full)")

// NAME_finish: one vector of sums becomes columns of y from `at` on, `columns` of them at most.
// NAME_tile: what is read at a time are STEP vectors of groups; `rows` rows of y, for `columns` columns from `first` on. `spread` lines of `next` are fetched in 1024 groups;
// with 0, a line of the panel for every one that is used.
#define DEFINE_PRODUCT(NAME, SHARED, FORMAT, TARGET, OUTER, WEIGHTS, STEP, DOT, STORE_OPERAND, ROWS, VECTORS)          \
    INLINE TARGET void NAME##_finish(                                                                                  \
        const feedback_panels *p, const v16i *sum, long at, long row, const float *scales, const float *offsets,       \
        feedback_finish finish, int operand, char *y, long columns) {                                                  \
        if (columns <= 0) return;                                                                                      \
        v16 value = (v16)*sum;                                                                                         \
        if (FORMAT == FEEDBACK_INT8) {                                                                                 \
            value = __builtin_convertvector(*sum, v16) * scales[row] + offsets[row] * LOAD(p->sums + at);              \
            value = value * LOAD(p->scales + at) + LOAD(p->bias + at);                                                 \
        }                                                                                                              \
        if (FORMAT != FEEDBACK_INT8 && p->scales) value = value * LOAD(p->scales + at) + LOAD(p->bias + at);           \
        if (finish == FEEDBACK_STORE_RECTIFIED) value = MAX16(value, (v16){0});                                        \
        const long size = operand ? 4 >> FORMAT : 4;                                                                   \
        char *to = y + at * size;                                                                                      \
        if (columns >= 16) {                                                                                           \
            if (finish == FEEDBACK_ADD) value += LOAD(to);                                                             \
            if (operand)                                                                                               \
                STORE_OPERAND(to, value);                                                                              \
            else                                                                                                       \
                STORE(to, value);                                                                                      \
        } else {                                                                                                       \
            float some[16];                                                                                            \
            const size_t bytes = (size_t)(columns * size);                                                             \
            memcpy(some, to, bytes);                                                                                   \
            if (finish == FEEDBACK_ADD) value += LOAD(some);                                                           \
            if (operand)                                                                                               \
                STORE_OPERAND(some, value);                                                                            \
            else                                                                                                       \
                STORE(some, value);                                                                                    \
            memcpy(to, some, bytes);                                                                                   \
        }                                                                                                              \
    }                                                                                                                  \
                                                                                                                       \
    INLINE TARGET void NAME##_tile(                                                                                    \
        const feedback_panels *p, long first, const int32_t *x, long row, const float *scales, const float *offsets,   \
        const int32_t *next, long spread, feedback_finish finish, int operand, char *y, long stride, long columns,     \
        const int rows, const int vectors) {                                                                           \
        const long groups = p->groups, panel = feedback_panel_width(FORMAT) * groups;                                  \
        const long half = feedback_panel_width(FORMAT) * STEP / 2;                                                     \
        const int32_t *w = p->weights + first / PANEL * panel + first % PANEL / 16 * half;                             \
        v16i sum[ROWS][WIDEST];                                                                                        \
        for (int c = 0; c < vectors; c++) {                                                                            \
            const int biased = FORMAT != FEEDBACK_INT8 && p->bias && !p->scales;                                       \
            const v16i start = biased ? *(const v16i *)(p->bias + first + 16 * c) : (v16i){0};                         \
            UNROLLED                                                                                                   \
            for (int r = 0; r < rows; r++) sum[r][c] = start;                                                          \
        }                                                                                                              \
        for (long g = 0; g < groups; g += STEP, w += 2 * half) {                                                       \
            /* Panels that lie side by side are followed by those beyond them. */                                      \
            const long beyond = g + AHEAD < groups ? 0 : (vectors - 1) / 2 * panel;                                    \
            if (rows == 1) {                                                                                           \
                UNROLLED                                                                                               \
                for (int c = 0; c < vectors; c++) {                                                                    \
                    UNROLLED                                                                                           \
                    for (int i = 0; i < STEP; i++)                                                                     \
                        sum[0][c] = DOT(sum[0][c], WEIGHTS(w + c / 2 * panel + c % 2 * half, i), x[i]);                \
                }                                                                                                      \
                x += STEP;                                                                                             \
                continue;                                                                                              \
            }                                                                                                          \
            UNROLLED                                                                                                   \
            for (int i = 0; i < STEP; i++, x += HIGHEST) {                                                             \
                v16i right[WIDEST];                                                                                    \
                for (int c = 0; c < vectors; c++) {                                                                    \
                    const int32_t *from = w + c / 2 * panel + c % 2 * half;                                            \
                    right[c] = WEIGHTS(from, i);                                                                       \
                    if (!spread && vectors < WIDEST && i * 16 < half)                                                  \
                        __builtin_prefetch(from + i * 16 + AHEAD / STEP * 2 * half + beyond, 0, 2);                    \
                }                                                                                                      \
                if (spread) __builtin_prefetch(next + (((g + i) * spread) >> 10) * 16);                                \
                UNROLLED                                                                                               \
                for (int r = 0; r < rows; r++) {                                                                       \
                    UNROLLED                                                                                           \
                    for (int c = 0; c < vectors; c++) sum[r][c] = DOT(sum[r][c], right[c], x[r]);                      \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
        if (rows == 1) {                                                                                               \
            UNROLLED                                                                                                   \
            for (int c = 0; c < vectors; c++)                                                                          \
                NAME##_finish(                                                                                         \
                    p, &sum[0][c], first + 16 * c, row, scales, offsets, finish, operand, y, columns - 16 * c);        \
            return;                                                                                                    \
        }                                                                                                              \
        /* What loops over results takes a copy. */                                                                    \
        v16i result[ROWS][WIDEST];                                                                                     \
        UNROLLED                                                                                                       \
        for (int r = 0; r < rows; r++) {                                                                               \
            UNROLLED                                                                                                   \
            for (int c = 0; c < vectors; c++) result[r][c] = sum[r][c];                                                \
        }                                                                                                              \
        for (int r = 0; r < rows; r++, y += stride)                                                                    \
            for (int c = 0; c < vectors; c++)                                                                          \
                NAME##_finish(                                                                                         \
                    p, &result[r][c], first + 16 * c, row + r, scales, offsets, finish, operand, y, columns - 16 * c); \
    }                                                                                                                  \
                                                                                                                       \
    INLINE TARGET void NAME##_unpack(const int32_t *w, long groups, int32_t *whole) {                                  \
        for (long g = 0; g < groups; g += STEP, w += feedback_panel_width(FORMAT) * STEP, whole += STEP * PANEL) {     \
            for (int i = 0; i < STEP; i++) {                                                                           \
                *(v16i *)(whole + i * PANEL) = WEIGHTS(w, i);                                                          \
                *(v16i *)(whole + i * PANEL + 16) = WEIGHTS(w + feedback_panel_width(FORMAT) * STEP / 2, i);           \
            }                                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
                                                                                                                       \
    OUTER static void NAME(                                                                                            \
        const feedback_panels *p, const char *x, long bytes, const float *scales, const float *offsets, long rows,     \
        long from, long to, feedback_finish finish, int operand, char *y, long stride, int32_t *room) {                \
        const long groups = p->groups, panel = feedback_panel_width(FORMAT) * groups;                                  \
        for (long begin = 0; begin < rows; begin += TILES * ROWS) {                                                    \
            /* Tiles of nearly equal height: one of one or two rows would leave registers idle. */                     \
            const long count = rows - begin < TILES * ROWS ? rows - begin : TILES * ROWS;                              \
            const long tiles = (count + ROWS - 1) / ROWS;                                                              \
            const int unpacked = FORMAT == FEEDBACK_FLOAT12;                                                           \
            const long spread = VECTORS > 1 && (tiles > 2 || unpacked) ? feedback_panel_width(FORMAT) * 64 / tiles : 0;\
            long first = from;                                                                                         \
            const int32_t *left = room;                                                                                \
            if (count > 1) {                                                                                           \
                for (long tile = 0; tile < tiles; tile++) {                                                            \
                    const long r = count * tile / tiles, end = count * (tile + 1) / tiles;                             \
                    interleave_rows(                                                                                   \
                        x + (begin + r) * bytes, bytes, end - r, bytes, HIGHEST, room + tile * groups * HIGHEST);      \
                }                                                                                                      \
            } else if (bytes % 4 == 0) {                                                                               \
                left = (const int32_t *)(x + begin * bytes);                                                           \
            } else {                                                                                                   \
                room[groups - 1] = 0;                                                                                  \
                memcpy(room, x + begin * bytes, (size_t)bytes);                                                        \
            }                                                                                                          \
            /* One tile alone, if it is low, is wide. */                                                               \
            LOW_TILES(NAME, ROWS, VECTORS, WIDTH)                                                                      \
            LOW_TILES(NAME, ROWS, VECTORS, HALF)                                                                       \
            feedback_panels shared = *p;                                                                               \
            for (; first < to; first += 16 * VECTORS) {                                                                \
                const long shift = unpacked ? first : 0;                                                               \
                if (unpacked) {                                                                                        \
                    int32_t *whole = room + TILES * HIGHEST * groups;                                                  \
                    NAME##_unpack(p->weights + first / PANEL * panel, groups, whole);                                  \
                    shared.weights = whole, shared.bias = p->bias + first, shared.scales = p->scales + first;          \
                }                                                                                                      \
                for (long tile = 0; tile < tiles; tile++) {                                                            \
                    const long r = begin + count * tile / tiles, height = begin + count * (tile + 1) / tiles - r;      \
                    const int32_t *next = p->weights + (first / PANEL + 1) * panel                                     \
                                          + tile * ((groups * spread) >> 10) * 16;                                     \
                    switch (height) {                                                                                  \
                        EACH_HEIGHT(                                                                                   \
                            SHARED, ROWS, VECTORS, NARROWEST, &shared, first - shift, left + tile * groups * HIGHEST,  \
                            r, scales, offsets, next, spread, finish, operand, y + r * stride + shift * 4, stride,     \
                            to - first)                                                                                \
                    }                                                                                                  \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }

// How many vectors wide a tile is: as many sums as a high one has, or as the narrowest; half of the widest, where that is
// wider than the narrowest.
#define WIDTH(H, ROWS, VECTORS)                                                                                        \
    (8 * (H) <= ROWS * VECTORS ? 8 : 4 * (H) <= ROWS * VECTORS ? 4 : 2 * (H) <= ROWS * VECTORS ? 2 : VECTORS)
#define HALF(H, ROWS, VECTORS) (WIDTH(H, ROWS, VECTORS) == 8 ? 4 : 0)
#define NARROWEST(H, ROWS, VECTORS) VECTORS

#define HEIGHT(NAME, ROWS, VECTORS, WIDE, H, ...)                                                                      \
    case H:                                                                                                            \
        if (H <= ROWS && WIDE(H, ROWS, VECTORS) > 0)                                                                   \
            NAME##_tile(__VA_ARGS__, H <= ROWS ? H : ROWS, WIDE(H, ROWS, VECTORS));                                    \
        break;
#define EACH_HEIGHT(NAME, ROWS, VECTORS, WIDE, ...)                                                                    \
    HEIGHT(NAME, ROWS, VECTORS, WIDE, 1, __VA_ARGS__)                                                                  \
    HEIGHT(NAME, ROWS, VECTORS, WIDE, 2, __VA_ARGS__)                                                                  \
    HEIGHT(NAME, ROWS, VECTORS, WIDE, 3, __VA_ARGS__)                                                                  \
    HEIGHT(NAME, ROWS, VECTORS, WIDE, 4, __VA_ARGS__)                                                                  \
    HEIGHT(NAME, ROWS, VECTORS, WIDE, 5, __VA_ARGS__)                                                                  \
    HEIGHT(NAME, ROWS, VECTORS, WIDE, 6, __VA_ARGS__)                                                                  \
    HEIGHT(NAME, ROWS, VECTORS, WIDE, 7, __VA_ARGS__)                                                                  \
    HEIGHT(NAME, ROWS, VECTORS, WIDE, 8, __VA_ARGS__)                                                                  \
    HEIGHT(NAME, ROWS, VECTORS, WIDE, 9, __VA_ARGS__)                                                                  \
    HEIGHT(NAME, ROWS, VECTORS, WIDE, 10, __VA_ARGS__)                                                                 \
    HEIGHT(NAME, ROWS, VECTORS, WIDE, 11, __VA_ARGS__)                                                                 \
    HEIGHT(NAME, ROWS, VECTORS, WIDE, 12, __VA_ARGS__)

// While one tile alone fits what is left of the columns, with the variables of NAME.
#define LOW_TILES(NAME, ROWS, VECTORS, WIDE)                                                                           \
    for (const long width = 16 * WIDE(count, ROWS, VECTORS); tiles == 1 && width > 0 && first + width <= to;           \
         first += width) {                                                                                             \
        switch (count) {                                                                                               \
            EACH_HEIGHT(                                                                                               \
                NAME, ROWS, VECTORS, WIDE, p, first, left, begin, scales, offsets, 0, 0, finish, operand,              \
                y + begin * stride, stride, width)                                                                     \
        }                                                                                                              \
    }

#define DEFINE_PLAIN(NAME, ...) DEFINE_PRODUCT(NAME, NAME, __VA_ARGS__)
DEFINE_PLAIN(plain_float32, FEEDBACK_FLOAT32, , KERNEL, GROUPS, 1, DOT_FLOAT32, STORE, 6, 1)
DEFINE_PLAIN(plain_bfloat16, FEEDBACK_BFLOAT16, , KERNEL, GROUPS, 1, DOT_BFLOAT16, STORE_ROUNDED, 4, 1)
DEFINE_PLAIN(plain_int8, FEEDBACK_INT8, , KERNEL, GROUPS, 1, DOT_INT8, STORE, 4, 1)
#if defined(__x86_64__)
DEFINE_PLAIN(fast_float32, FEEDBACK_FLOAT32, TARGET_FLOAT32, TARGET_FLOAT32, GROUPS, 1, DOT_FLOAT32, STORE, HIGHEST, 2)
DEFINE_PLAIN(
    fast_bfloat16, FEEDBACK_BFLOAT16, TARGET_BFLOAT16, TARGET_BFLOAT16, GROUPS, 1, FAST_BFLOAT16, STORE_NARROW, HIGHEST,
    2)
DEFINE_PRODUCT(
    fast_float12, fast_bfloat16, FEEDBACK_FLOAT12, TARGET_BFLOAT16, TARGET_BFLOAT16, TWELVE_BITS, 4, FAST_BFLOAT16,
    STORE, HIGHEST, 2)
DEFINE_PLAIN(fast_int8, FEEDBACK_INT8, TARGET_INT8, TARGET_INT8, GROUPS, 1, FAST_INT8, STORE, HIGHEST, 2)
DEFINE_PLAIN(avx2_int8, FEEDBACK_INT8, TARGET_AVX2, TARGET_AVX2, GROUPS, 1, AVX2_INT8, STORE, 4, 1)
#else
#define fast_float32 plain_float32
#define fast_bfloat16 plain_bfloat16
#define fast_float12 plain_bfloat16
#define fast_int8 plain_int8
#define avx2_int8 plain_int8
#endif

void feedback_multiply(
    const feedback_panels *p, const void *x, long bytes, const float *scales, const float *offsets, long rows, long from,
    long to, feedback_finish finish, int operand, void *y, long stride, int32_t *room) {
#define MULTIPLY(NAME)                                                                                                 \
    NAME(p, (const char *)x, bytes, scales, offsets, rows, from, to, finish, operand, (char *)y, stride, room)
    switch (p->format) {
    case FEEDBACK_FLOAT32: p->fast ? MULTIPLY(fast_float32) : MULTIPLY(plain_float32); break;
    case FEEDBACK_BFLOAT16: p->fast ? MULTIPLY(fast_bfloat16) : MULTIPLY(plain_bfloat16); break;
    case FEEDBACK_FLOAT12: MULTIPLY(fast_float12); break;
    case FEEDBACK_INT8:
        p->fast == 1 ? MULTIPLY(fast_int8) : p->fast ? MULTIPLY(avx2_int8) : MULTIPLY(plain_int8);
        break;
    }
}
