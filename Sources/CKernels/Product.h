// A product with packed weights, y = x W + b: x [rows][groups], weights as feedback_panels, y [rows][columns]. Included
// once a format and CPU, with ROWS and VECTORS. Equations: FeedbackEngine/Operations/Linear.swift.
//
// A panel is 32 columns of the weights, [groups][32], so what a tile reads lies in a row; a tile is up to ROWS rows by
// VECTORS vectors of a panel, as many as the registers hold sums of. Its rows are copied side by side first,
// [groups][HIGHEST]: rows a power of two apart would share few lines of the nearest cache. A row's sums run over the
// groups in order, whatever the other rows.
//
// Weights come from far: 30 MB a step at D 512. While the tiles of a panel are computed, the next panel is fetched, an
// equal part by each tile, so that the memory is never asked for much at once. One or two tiles fetch their own weights,
// AHEAD, into the second cache. A low tile alone is wide, so that it has sums enough to hide an instruction's latency;
// the widest reads four panels at a time and leaves fetching to the CPU, which knows such streams.
//
// float12's groups are turned into bfloat16's as they are read where one tile does; several share a panel that is turned
// before.
//
// Measured on one core of Zen 4 (230 GFLOP/s in bfloat16, 116 in float32), weights from the third cache, against oneDNN
// 2.6, 32 rows: 512 × 2048 bfloat16 220 (200), float32 111 (102); 6 rows: 128 × 512 216 (187), 110 (103). On one of
// Zen 1, whose loop of multiply-adds alone reaches 43.6, 32 rows, float32: 512 × 2048 38 (23), 128 × 512 38 (36).

#include "Panels.h"

// Groups are read `step` at a time: 1, or 4 of float12, which take 24 words of a panel's line for a group instead of 32.
#define WORDS(step) ((step) == 1 ? 32 : 24)

// Vector i of the groups at `from`; of float12: bfloat16 with a small exponent.
typedef uint16_t u16x32 __attribute__((vector_size(64), aligned(4)));
#define FOURTH(b) ((b)[0] >> 4 & 0x0780 | (b)[1] >> 8 & 0x0078 | (b)[2] >> 11 & 0x0007 | (b)[2] << 1 & 0x8000)
#define TWELVE_BITS(b, i) ((v16i)((i) < 3 ? (b)[i] & 0x87ff : FOURTH(b)))
#define WEIGHTS(from, i) (step == 1 ? GROUPS(from) : TWELVE_BITS((const u16x32 *)(from), i))

// Sums stay in registers only where the loops over them are gone.
#define UNROLLED _Pragma("clang loop unroll(full)")

// One vector of sums becomes columns of y from `at` on, `columns` of them at most.
INLINE TARGET void finish_columns(
    const feedback_panels *p, const feedback_product *product, const v16i *sum, long at, long row, char *y,
    long columns) {
    if (columns <= 0) return;
    v16 value = (v16)*sum;
    if (FORMAT == FEEDBACK_INT8) {
        value = __builtin_convertvector(*sum, v16) * product->scales[row] + product->offsets[row] * LOAD(p->sums + at);
        value = value * LOAD(p->scales + at) + LOAD(p->bias + at);
    }
    if (FORMAT != FEEDBACK_INT8 && p->scales) value = value * LOAD(p->scales + at) + LOAD(p->bias + at);
    if (product->finish == FEEDBACK_STORE_RECTIFIED) value = MAX16(value, (v16){0});
    const long size = product->narrow ? sizeof(operand) : sizeof(float);
    char *to = y + at * size;
    if (columns >= 16) {
        if (product->finish == FEEDBACK_ADD) value += LOAD(to);
        if (product->narrow)
            STORE_OPERANDS(to, value);
        else
            STORE(to, value);
    } else {
        float some[16];
        const size_t bytes = (size_t)(columns * size);
        memcpy(some, to, bytes);
        if (product->finish == FEEDBACK_ADD) value += LOAD(some);
        if (product->narrow)
            STORE_OPERANDS(some, value);
        else
            STORE(some, value);
        memcpy(to, some, bytes);
    }
}

// `rows` rows of y from `row` on, for `columns` columns from `first` on, at most `vectors` vectors. `spread` lines of
// `next` are fetched in 1024 groups; with 0, a line of the panel for every one that is used.
INLINE TARGET void tile(
    const feedback_panels *p, const feedback_product *product, long first, const int32_t *x, long row,
    const int32_t *next, long spread, char *y, long columns, const int step, const int rows, const int vectors) {
    const long groups = p->groups, panel = WORDS(step) * groups, half = WORDS(step) * step / 2;
    const int32_t *w = p->weights + first / PANEL * panel + first % PANEL / 16 * half;
    v16i sum[ROWS][WIDEST];
    for (int c = 0; c < vectors; c++) {
        const int biased = FORMAT != FEEDBACK_INT8 && p->bias && !p->scales;
        const v16i start = biased ? *(const v16i *)(p->bias + first + 16 * c) : (v16i){0};
        UNROLLED
        for (int r = 0; r < rows; r++) sum[r][c] = start;
    }
    for (long g = 0; g < groups; g += step, w += 2 * half) {
        // Panels that lie side by side are followed by those beyond them.
        const long beyond = g + AHEAD < groups ? 0 : (vectors - 1) / 2 * panel;
        if (rows == 1) {
            UNROLLED
            for (int c = 0; c < vectors; c++) {
                UNROLLED
                for (int i = 0; i < step; i++)
                    sum[0][c] = DOT(sum[0][c], WEIGHTS(w + c / 2 * panel + c % 2 * half, i), x[i]);
            }
            x += step;
            continue;
        }
        UNROLLED
        for (int i = 0; i < step; i++, x += HIGHEST) {
            v16i right[WIDEST];
            for (int c = 0; c < vectors; c++) {
                const int32_t *from = w + c / 2 * panel + c % 2 * half;
                right[c] = WEIGHTS(from, i);
                if (!spread && vectors < WIDEST && i * 16 < half)
                    __builtin_prefetch(from + i * 16 + AHEAD / step * 2 * half + beyond, 0, 2);
            }
            if (spread) __builtin_prefetch(next + (((g + i) * spread) >> 10) * 16);
            UNROLLED
            for (int r = 0; r < rows; r++) {
                UNROLLED
                for (int c = 0; c < vectors; c++) sum[r][c] = DOT(sum[r][c], right[c], x[r]);
            }
        }
    }
    if (rows == 1) {
        UNROLLED
        for (int c = 0; c < vectors; c++)
            finish_columns(p, product, &sum[0][c], first + 16 * c, row, y, columns - 16 * c);
        return;
    }
    // What loops over results takes a copy.
    v16i result[ROWS][WIDEST];
    UNROLLED
    for (int r = 0; r < rows; r++) {
        UNROLLED
        for (int c = 0; c < vectors; c++) result[r][c] = sum[r][c];
    }
    for (int r = 0; r < rows; r++, y += product->stride)
        for (int c = 0; c < vectors; c++)
            finish_columns(p, product, &result[r][c], first + 16 * c, row + r, y, columns - 16 * c);
}

// As many columns from `first` on as tiles of so many vectors fit into; returns the next one.
INLINE TARGET long wide_tiles(
    const feedback_panels *p, const feedback_product *product, long first, const int32_t *x, long row, char *y,
    const int step, const int rows, const int vectors) {
    for (; first + 16 * vectors <= product->to; first += 16 * vectors)
        tile(p, product, first, x, row, 0, 0, y, 16 * vectors, step, rows, vectors);
    return first;
}

// A panel of float12 as bfloat16.
INLINE TARGET void unpack(const int32_t *w, long groups, int32_t *whole, const int step) {
    for (long g = 0; g < groups; g += step, w += WORDS(step) * step, whole += step * PANEL) {
        for (int i = 0; i < step; i++) {
            *(v16i *)(whole + i * PANEL) = WEIGHTS(w, i);
            *(v16i *)(whole + i * PANEL + 16) = WEIGHTS(w + WORDS(step) * step / 2, i);
        }
    }
}

// How many vectors wide a low tile is: as many sums as a high one has, or as the narrowest.
#define FITS(vectors, height) ((vectors) * (height) <= ROWS * VECTORS)
#define WIDTH(height) (FITS(8, height) ? 8 : FITS(4, height) ? 4 : FITS(2, height) ? 2 : VECTORS)

// Heights are constants in the code of a tile.
#define EACH_HEIGHT(CASE)                                                                                              \
    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)

INLINE TARGET void multiply_in_steps(const feedback_panels *p, const feedback_product *given, const int step) {
    const feedback_product product = *given;
    const long groups = p->groups, panel = WORDS(step) * groups, bytes = product.bytes;
    for (long begin = 0; begin < product.rows; begin += TILES * ROWS) {
        // Tiles of nearly equal height: one of one or two rows would leave registers idle.
        const long count = product.rows - begin < TILES * ROWS ? product.rows - begin : TILES * ROWS;
        const long tiles = (count + ROWS - 1) / ROWS;
        const int unpacked = step > 1;
        const long spread = VECTORS > 1 && (tiles > 2 || unpacked) ? WORDS(step) * 64 / tiles : 0;
        const char *x = (const char *)product.x + begin * bytes;
        char *y = (char *)product.y + begin * product.stride;
        const int32_t *left = product.room;
        if (count > 1) {
            for (long i = 0; i < tiles; i++) {
                const long r = count * i / tiles, end = count * (i + 1) / tiles;
                interleave_rows(x + r * bytes, bytes, end - r, bytes, HIGHEST, product.room + i * groups * HIGHEST);
            }
        } else if (bytes % 4 == 0) {
            left = (const int32_t *)x;
        } else {
            product.room[groups - 1] = 0;
            memcpy(product.room, x, (size_t)bytes);
        }
        // One tile alone, if it is low, is wide, and half as wide where that is wider than the narrowest.
        long first = product.from;
#define LOW_TILES(height)                                                                                              \
    case height:                                                                                                       \
        if (height > ROWS) break;                                                                                      \
        first = wide_tiles(p, &product, first, left, begin, y, step, height, WIDTH(height));                           \
        if (WIDTH(height) == 8) first = wide_tiles(p, &product, first, left, begin, y, step, height, 4);               \
        break;
        if (tiles == 1) {
            switch (count) { EACH_HEIGHT(LOW_TILES) }
        }
        feedback_panels shared = *p;
        for (; first < product.to; first += 16 * VECTORS) {
            const long shift = unpacked ? first : 0;
            if (unpacked) {
                int32_t *whole = product.room + TILES * HIGHEST * groups;
                unpack(p->weights + first / PANEL * panel, groups, whole, step);
                shared.weights = whole, shared.bias = p->bias + first, shared.scales = p->scales + first;
            }
            for (long i = 0; i < tiles; i++) {
                const long r = count * i / tiles, height = count * (i + 1) / tiles - r;
                const int32_t *next = p->weights + (first / PANEL + 1) * panel + i * ((groups * spread) >> 10) * 16;
#define TILE(height)                                                                                                   \
    case height:                                                                                                       \
        if (height > ROWS) break;                                                                                      \
        tile(                                                                                                          \
            &shared, &product, first - shift, left + i * groups * HIGHEST, begin + r, next, spread,                    \
            y + r * product.stride + shift * 4, product.to - first, 1, height, VECTORS);                               \
        break;
                switch (height) { EACH_HEIGHT(TILE) }
            }
        }
    }
}

KERNEL_TARGET static void multiply(const feedback_panels *panels, const feedback_product *product) {
    multiply_in_steps(panels, product, 1);
}
