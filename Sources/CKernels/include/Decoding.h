// The loops of decoding: one pass over narrow weights for a few rows of activations.
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

/// A linear map y = x Wᵀ + b in panels of 64 outputs: weights [panels][groups][64] groups; the rest [panels · 64].
typedef struct {
    feedback_format format;
    /// 0 or what feedback_has_fast says.
    int fast;
    long groups;
    const int32_t *weights;
    const float *bias;
    /// int8 only: W ≈ scales · integers; sums of the integers over the inputs.
    const float *scales, *sums;
} feedback_panels;

/// Fills weights, scales and sums, which are zero before, from w [outputs, inputs].
void feedback_pack_panels(
    feedback_format format, const float *w, long outputs, long inputs, int32_t *weights, float *scales, float *sums);

typedef enum { FEEDBACK_STORE, FEEDBACK_STORE_RECTIFIED, FEEDBACK_ADD } feedback_finish;

/// y = x Wᵀ + b for the outputs of panels [from, to), stored, stored where positive and else 0, or added to y.
///
/// x [rows][groups] as encoded, with a scale and an offset a row; rows of y are `stride` apart and hold whole panels. A
/// row's result does not depend on the other rows.
void feedback_multiply_panels(
    const feedback_panels *panels, const int32_t *x, const float *scales, const float *offsets, long rows, long from,
    long to, float *y, long stride, feedback_finish finish);

/// Appends one head's key and value to a memory: keys [slots / 16][groups over K][16] groups, values
/// [slots / g][P] groups of g slots, P = K rounded up to 16.
void feedback_remember(
    feedback_format format, const float *key, const float *value, long K, long slot, int32_t *keys, int32_t *values);

/// out = Σ_j p_j v_j with p_j = softmax_j(q · (k_j + u_j) + s_j) over start ≤ j < end, for one head. u_j are groups over
/// K, `stride` apart, as are keys, but not in blocks. Not for int8. `scratch`: groups over K and 2 · (end + 32) floats.
void feedback_attend_memory(
    feedback_format format, int fast, const float *q, const int32_t *keys, const int32_t *values,
    const int32_t *positions, long stride, const float *positionBias, long start, long end, long K, float *scratch,
    float *out);

/// y += a · x.
void feedback_add_scaled(const float *x, float a, long count, float *y);

/// Tells the CPU that this thread waits for another.
static inline void feedback_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}
