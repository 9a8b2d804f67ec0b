// Products with packed weights, in training and decoding, and attention in decoding.
//
// Everything is made of 32-bit groups: one float32, two bfloat16 or four int8 numbers that follow each other along the
// summed axis. Sixteen groups are one vector, so all formats have one layout and one loop; they differ in the dot
// product of a group. Where the CPU has instructions for it, a format has fast kernels beside the plain ones.
//
// float12 is bfloat16 for reading: weights of an output have their exponents counted from its largest, so four bits do
// for all but the very small, and four groups fit the place of three. Inputs are bfloat16, 2^64 times as large. It has
// fast kernels only.
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef enum { FEEDBACK_FLOAT32 = 0, FEEDBACK_BFLOAT16 = 1, FEEDBACK_INT8 = 2, FEEDBACK_FLOAT12 = 3 } feedback_format;

/// Numbers in a group.
static inline long feedback_group_size(feedback_format format) { return format == FEEDBACK_FLOAT12 ? 2 : 1L << format; }
/// Groups that hold `count` numbers.
static inline long feedback_groups(feedback_format format, long count) {
    const long groups = (count + feedback_group_size(format) - 1) / feedback_group_size(format);
    return format == FEEDBACK_FLOAT12 ? (groups + 3) & ~3L : groups;
}
/// 32-bit words that a panel's 32 columns take for a group.
static inline long feedback_panel_width(feedback_format format) { return format == FEEDBACK_FLOAT12 ? 24 : 32; }

/// Writes a row as groups. In int8 as u = (x − offset) / scale in 0 … 255: x ≈ scale · u + offset; else scale and
/// offset are not set. A value that is not finite makes the offset not finite.
void feedback_encode(feedback_format format, const float *x, long count, int32_t *groups, float *scale, float *offset);

/// Writes a row of weights as int8 groups: w ≈ scale · integers, whose sum is `sum`. A weight that is not finite makes
/// the scale not finite.
void feedback_quantize(const float *w, long count, int32_t *groups, float *scale, float *sum);

/// Writes a row of weights as bfloat16 whose exponents are so small that float12 holds them: w ≈ scale · 2^64 · number,
/// exact but for weights below 2^-14 of the row's largest, which become 0 or that. A weight that is not finite makes the
/// scale not finite.
void feedback_shrink(const float *w, long count, int32_t *groups, float *scale);

/// Appends one head's key and value to a memory: keys [slots / 16][groups over K][16] groups, values
/// [slots / g][P] groups of g slots, P = K rounded up to 16.
void feedback_append_keys_values(
    feedback_format format, const float *key, const float *value, long K, long slot, int32_t *keys, int32_t *values);

/// A linear map y = x W + b in panels of 32 columns: weights [panels][groups][32] groups; the rest [panels · 32].
typedef struct {
    feedback_format format;
    /// Over the inputs.
    long groups;
    const int32_t *weights;
    /// Or null, but for int8 and float12.
    const float *bias;
    /// W = scales · what is stored: for int8 and float12; null for others. Sums over the inputs of int8's integers.
    const float *scales, *sums;
} feedback_panels;

/// Packs weights [k, n] of a format, given as [n, k] where `transposed`, as they are for int8.
/// In float12, as feedback_shrink leaves it, `room` holds one panel of whole groups.
void feedback_pack_columns(
    feedback_format format, const void *weights, long k, long n, bool transposed, int32_t *panels, int32_t *room);

typedef enum { FEEDBACK_STORE, FEEDBACK_STORE_RECTIFIED, FEEDBACK_ADD } feedback_finish;

/// Groups that a product of rows of so many groups needs room for.
long feedback_product_room(long groups);

/// One product: rows of x, and the columns [from, to) of y, from a multiple of 32.
typedef struct {
    /// A row takes `bytes`; in int8 it has a scale and an offset.
    const void *x;
    long bytes;
    const float *scales, *offsets;
    long rows, from, to;
    /// Stored, stored where positive and else 0, or added to y.
    feedback_finish finish;
    /// Whether y has operands; else it is float32, as it is where it is added to. Its rows are `stride` bytes apart.
    bool narrow;
    void *y;
    long stride;
    int32_t *room;
} feedback_product;

/// y = x W + b. A row's result does not depend on the other rows.
typedef void (*feedback_multiply)(const feedback_panels *panels, const feedback_product *product);

/// out = Σ_j p_j v_j with p_j = softmax_j(q · (k_j + u_j) + s_j) over start ≤ j < end, for one head of a memory as
/// feedback_append_keys_values writes it. u_j are groups over K, `stride` apart, as are keys, but not in blocks. `scratch`: groups
/// over K and 2 · (end + 32) floats. `next`, keys of the same head that are read next, are fetched if not null.
typedef void (*feedback_attend_decoding)(
    const float *q, const int32_t *keys, const int32_t *values, const int32_t *next, const int32_t *positions,
    long stride, const float *positionBias, long start, long end, long K, float *scratch, float *out);
