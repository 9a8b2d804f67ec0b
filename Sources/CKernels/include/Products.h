// Products with packed weights, in training and decoding.
//
// Everything is made of 32-bit groups: one float32, two bfloat16 or four int8 numbers that follow each other along the
// summed axis. Sixteen groups are one vector, so all formats have one layout and one loop; they differ in the dot product
// of a group. Where the CPU has instructions for that dot product, a format has a fast variant beside the plain one.
#pragma once

#include <stdint.h>

typedef enum { FEEDBACK_FLOAT32 = 0, FEEDBACK_BFLOAT16 = 1, FEEDBACK_INT8 = 2 } feedback_format;

/// Which fast variant of the format this CPU has the instructions for: 0 none, 1 AVX-512's, 2 AVX2's (of int8 only).
int feedback_has_fast(feedback_format format);

/// Numbers in a group.
static inline long feedback_group_size(feedback_format format) { return 1L << format; }
/// Groups that hold `count` numbers.
static inline long feedback_groups(feedback_format format, long count) {
    return (count + feedback_group_size(format) - 1) / feedback_group_size(format);
}

/// Writes a row as groups. In int8 as u = (x − offset) / scale in 0 … 255: x ≈ scale · u + offset; else scale and offset
/// are not set. A value that is not finite makes the offset not finite.
void feedback_encode(feedback_format format, const float *x, long count, int32_t *groups, float *scale, float *offset);

/// Writes a row of weights as int8 groups: w ≈ scale · integers, whose sum is `sum`. A weight that is not finite makes the
/// scale not finite.
void feedback_quantize(const float *w, long count, int32_t *groups, float *scale, float *sum);

/// A linear map y = x W + b in panels of 32 columns: weights [panels][groups][32] groups; the rest [panels · 32].
typedef struct {
    feedback_format format;
    /// 0 or what feedback_has_fast says.
    int fast;
    /// Over the inputs.
    long groups;
    const int32_t *weights;
    /// Or null, but for int8.
    const float *bias;
    /// int8 only: W ≈ scales · integers; sums of the integers over the inputs.
    const float *scales, *sums;
} feedback_panels;

/// Packs weights [k, n] of a format, given as [n, k] where `transposed`, as they are for int8.
void feedback_pack_columns(
    feedback_format format, const void *weights, long k, long n, int transposed, int32_t *panels);

typedef enum { FEEDBACK_STORE, FEEDBACK_STORE_RECTIFIED, FEEDBACK_ADD } feedback_finish;

/// Whether training's products are fastest with the fast variant on this CPU.
int feedback_multiplies(feedback_format format);
/// Groups that a product of so many rows, of so many groups each, needs room for.
long feedback_product_room(long rows, long groups);
/// y = x W + b in the columns [from, to), from a multiple of 32, stored, stored where positive and else 0, or added to y.
///
/// A row of x takes `bytes`; in int8 it has a scale and an offset. y has operands where told, else it is float32, as it is
/// where it is added to; its rows are `stride` bytes apart. A row's result does not depend on the other rows.
void feedback_multiply(
    const feedback_panels *panels, const void *x, long bytes, const float *scales, const float *offsets, long rows,
    long from, long to, feedback_finish finish, int operand, void *y, long stride, int32_t *room);
