// The vector loops that Swift cannot compile for several CPUs at once.
//
// What depends on a format is in a table of `feedback_kernels`, one for each format and kind of CPU; its source is
// written once and included once for each table (Float32.c, BFloat16.c, Int8.c and their likes for AVX-512 and AVX2).
// Sizes are in elements; every array is row-major; nothing may overlap unless said.
// Equations and derivations stand in FeedbackEngine/Operations, beside the Swift code that calls these.
#pragma once

#include <stdint.h>

#include "Products.h"

/// In whole vectors of sixteen.
static inline long feedback_padded(long count) { return (count + 15) & ~15L; }

/// 32 bits that look random, of a key and a number (Wellons 2018, lowbias32).
static inline uint32_t feedback_hash(uint32_t key, uint32_t number) {
    uint32_t h = key ^ (number * 0x9e3779b9u);
    h = (h ^ (h >> 16)) * 0x7feb352du;
    h = (h ^ (h >> 15)) * 0x846ca68bu;
    return h ^ (h >> 16);
}

// MARK: Kernels of a format

/// `void` arrays are operands: float32 or bfloat16. Other formats have `multiply` alone, and bfloat16 `multiply` and
/// `attendDecoding` where the CPU does not multiply it; the rest is null then.
typedef struct {
    // Rows

    /// y = x, as operands.
    void (*narrow)(const float *x, long count, void *y);
    /// y = (x − mean(x)) · r, r = (var(x) + 1e-5)^-½, a row at a time; `r` receives one value a row.
    void (*normalize)(const float *x, long rows, long columns, void *y, float *r);
    /// dx += r · (dy − mean(dy) − y · mean(dy · y)), a row at a time.
    void (*normalizeBackward)(const float *dy, const void *y, const float *r, long rows, long columns, float *dx);
    /// dh = 0 where h ≤ 0.
    void (*rectifierBackward)(const void *h, long count, void *dh);
    /// sums[c] += Σ_r x[r · stride + c].
    void (*addColumnSums)(const void *x, long rows, long stride, long columns, float *sums);
    /// x[c] = 0 where feedback_hash(key, c) < threshold, else scale · x[c].
    void (*drop)(void *x, long columns, uint32_t key, uint32_t threshold, float scale);

    // Attention over the memory in training (one row, one head, unless said)
    //
    // G numbers are a group (Products.h). "Over slots" is [slots / 16][groups over K][16] groups and "over the head"
    // [slots / G][P] groups of slots, P = K rounded up to 16, the rest zero. Position tables are [groups over K][stride]
    // groups, and as the values. Rows of probabilities and of score gradients are zero for 16 elements on both sides of
    // the visible slots.

    /// Writes one head's key or value into the two layouts; either may be null. In bfloat16, slots must come in order.
    void (*append)(const float *x, long K, long slot, void *overSlots, void *overHead);
    /// scores[r, j] = q_r · u_j + s_j for start ≤ j < end, in whole blocks of 16 slots: all rows of a head and step.
    void (*scorePositions)(
        const void *q, long qStride, long rows, const void *positions, long positionStride, const float *positionBias,
        long start, long end, long K, float *scores, long stride);
    /// p_j = softmax_j(q · k_j + scores_j) over start ≤ j < end; out = Σ_j p_j v_j. Where `threshold` is not 0, weights
    /// are dropped as in `drop`, slot j being the number: out takes those left, and p those dropped with a minus sign.
    void (*attend)(
        const void *q, const void *keys, const void *values, const float *scores, long start, long end, long K, void *p,
        void *out, uint32_t key, uint32_t threshold, float scale);
    /// ds_j = p_j · (dout · v_j − dout · out); dq = Σ_j ds_j (k_j + u_j). Where weights were dropped (scale ≠ 1), with
    /// p̂_j = scale · max(0, p_j): ds_j = p̂_j (dout · v_j) − |p_j| (dout · out), and p becomes p̂.
    void (*attendBackward)(
        const void *dout, const void *out, void *p, const void *keys, const void *values, const void *positions,
        long start, long end, long K, void *ds, void *dq, float scale);
    /// dst[j] += Σ_t a[t, j] · b[t] for the slots j of [j0, j1); step t of [t0, t1) sees slots
    /// [before + t − window, before + t).
    void (*gatherSlots)(
        const void *a, long aStride, const void *b, long bStride, long t0, long t1, long j0, long j1, long before,
        long window, long K, float *dst);
    /// dst[c] += Σ_t a[t, before + t − reach + c] · b[t] for c of [0, reach): by distance, c = reach − offset.
    void (*gatherOffsets)(
        const void *a, long aStride, const void *b, long bStride, long t0, long t1, long before, long reach, long K,
        float *dst);
    /// sums[c] += Σ_t a[t, before + t − reach + c].
    void (*sumOffsets)(const void *a, long aStride, long t0, long t1, long before, long reach, float *sums);

    // Products, and attention in decoding

    feedback_multiply multiply;
    feedback_attend_decoding attendDecoding;
} feedback_kernels;

/// Whether this CPU has instructions for the dot products of a format.
bool feedback_has_fast(feedback_format format);
/// The fastest kernels of a format on this CPU; `portable`: products and decoding in plain vector code.
feedback_kernels feedback_kernels_of(feedback_format format, bool portable);
/// Whether training's products are faster with `multiply` than with oneDNN on this CPU.
bool feedback_prefers_own_products(feedback_format format);

// MARK: Kernels of float32

/// m = Σ_l a[l] · x[l].
void feedback_weighted_sum(const float *const *x, const float *a, long layers, long count, float *m);
/// dx += a · dm; returns Σ dm · x.
double feedback_weighted_sum_backward(const float *dm, const float *x, float a, long count, float *dx);
/// y += x.
void feedback_add(const float *x, long count, float *y);
/// y += a · x.
void feedback_add_scaled(const float *x, float a, long count, float *y);
/// Σ x².
double feedback_sum_of_squares(const float *x, long count);
/// Cross-entropy of `rows` rows of logits: d = scale · (softmax(logits) − onehot(target)); returns
/// Σ −log softmax(logits)[target]. `d` may be `logits`. A negative target has no loss and no gradient; `correct` counts
/// the rows whose largest logit is the target's.
double feedback_cross_entropy(
    const float *logits, const int32_t *targets, long rows, long columns, float scale, float *d, long *correct);
/// Adam on one contiguous range (Operations/Optimizer.swift); newFirst = 1 − β₁, oldSecond = β₂, newSecond = 1 − β₂.
void feedback_adam(
    float *w, const float *g, float *m, float *v, long count, float gradientScale, float newFirst, float oldSecond,
    float newSecond, float stepSize, float inverseRootCorrection, float epsilon, float decay);
/// Linear after LayerNorm: out[o, i] = scale · w[o, i] · gain[i]; folded[o] = scale · (Σ_i w[o, i] · shift[i] + bias[o]).
/// A null gain is 1, shift 0, bias 0.
void feedback_fold(
    const float *w, const float *gain, const float *shift, const float *bias, float scale, long outputs, long inputs,
    float *out, float *folded);
/// The gradients that answer `feedback_fold`: from dw (of `out`) and db (of the last `biased` of `folded`; zero of the
/// others), in place for dw.
void feedback_unfold(
    const float *w, const float *gain, const float *shift, float scale, long outputs, long inputs, float *dw,
    const float *db, long biased, float *dgain, float *dshift);

// MARK: The machine

/// Reads memory as fast as it can; returns the sum of its 32-bit words, but for the last `count` mod 512 bytes.
uint32_t feedback_read(const void *bytes, long count);

/// Tells the CPU that this thread waits for another.
static inline void feedback_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}
