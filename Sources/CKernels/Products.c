#include "CKernels.h"
#include "Vector.h"

// A product with packed weights, for CPUs for which oneDNN packs none. Equations: FeedbackEngine/Operations/Linear.swift.
//
// A panel is sixteen columns of the weights, [k][16], so what a tile reads lies in a row. A tile is six rows by one panel:
// its sums take twelve of AVX2's sixteen registers, its vector of weights two. The first tile of a panel brings the
// panel into the nearest cache, the others find it there. A row's sums run over k in order, whatever the other rows.
//
// Measured on one core of Zen 1, whose loop of multiply-adds alone reaches 43.6 GFLOP/s, 32 rows, against oneDNN 2.6:
// 512 × 512 39 (31), 512 × 2048 38 (23), 2048 × 512 37 (34), 128 × 512 38 (36).

enum { PANEL = 16, ROWS = 6, AHEAD = 256 };

KERNEL void feedback_pack_columns(const float *w, long k, long n, int transposed, float *panels) {
    for (long first = 0; first < n; first += PANEL, panels += PANEL * k) {
        const long columns = n - first < PANEL ? n - first : PANEL;
        if (columns < PANEL) memset(panels, 0, (size_t)(PANEL * k) * sizeof(float));
        for (long c = 0; transposed && c < columns; c++)
            for (long i = 0; i < k; i++) panels[i * PANEL + c] = w[(first + c) * k + i];
        for (long i = 0; !transposed && i < k; i++)
            memcpy(panels + i * PANEL, w + i * n + first, (size_t)columns * sizeof(float));
    }
}

// y[r, 0 ..< columns] = max(0?, bias + Σ_i x[r, i] · panel[i]) + y?
INLINE void product_tile(
    const float *x, const float *panel, const float *bias, long k, int rectified, int accumulate, float *y, long stride,
    long columns, const int rows, const int prefetch) {
    v16 sum[ROWS];
    for (int r = 0; r < rows; r++) sum[r] = bias ? LOAD(bias) : (v16){0};
    for (long i = 0; i < k; i++) {
        const v16 right = LOAD(panel + i * PANEL);
        if (prefetch) __builtin_prefetch(panel + i * PANEL + AHEAD);
        for (int r = 0; r < rows; r++) sum[r] += x[r * k + i] * right;
    }
    for (int r = 0; r < rows; r++, y += stride) {
        if (rectified) sum[r] = MAX16(sum[r], (v16){0});
        if (columns == PANEL) {
            STORE(y, accumulate ? LOAD(y) + sum[r] : sum[r]);
        } else {
            float some[PANEL];
            STORE(some, sum[r]);
            for (long c = 0; c < columns; c++) y[c] = accumulate ? y[c] + some[c] : some[c];
        }
    }
}

// Rows are shared out over as few tiles as can be, of nearly equal size: a tile of one or two rows leaves registers idle.
KERNEL void feedback_multiply(
    const float *x, const float *panels, const float *bias, long rows, long k, long n, int rectified, int accumulate,
    float *y) {
#define TILE(count)                                                                                                    \
    case count:                                                                                                        \
        product_tile(x + r * k, panels, bias, k, rectified, accumulate, y + r * n + first, n, columns, count, r == 0); \
        break
    const long tiles = (rows + ROWS - 1) / ROWS;
    for (long first = 0; first < n; first += PANEL, panels += PANEL * k) {
        const long columns = n - first < PANEL ? n - first : PANEL;
        for (long tile = 0, r = 0; tile < tiles; tile++) {
            const long end = rows * (tile + 1) / tiles;
            switch (end - r) {
                TILE(1);
                TILE(2);
                TILE(3);
                TILE(4);
                TILE(5);
                TILE(6);
            }
            r = end;
        }
        if (bias) bias += PANEL;
    }
#undef TILE
}
