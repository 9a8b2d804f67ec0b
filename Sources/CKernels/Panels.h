// Rows side by side, as products and panels want them.
#pragma once

#include "Groups.h"

// Columns of a panel; rows and vectors of the highest and of the widest tile; tiles at once; groups fetched ahead.
enum { PANEL = 32, HIGHEST = 12, WIDEST = 8, TILES = 6, AHEAD = 64 };

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
