#include "Panels.h"

// Weights as panels (feedback_panels): [k, n] or [n, k] of a format → [n / PANEL][groups over k][PANEL] groups, or of
// float12 three words for four of them.

// out[g][c] = group g of column c of w: `k` rows, `stride` numbers apart.
INLINE void interleave_columns(feedback_format format, const void *w, long stride, long k, long columns, int32_t *out) {
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
    feedback_format format, const void *weights, long k, long n, bool transposed, int32_t *panels, int32_t *room) {
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

long feedback_product_room(long groups) { return (TILES * HIGHEST + PANEL) * groups; }
